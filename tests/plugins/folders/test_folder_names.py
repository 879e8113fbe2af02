from pathlib import Path
from typing import Any

import pytest

from corral_folders.naming import Place, file_names, folder_names
from corral_kernel.gguf.filenames import quantization_of, split_of

HUB = Place("hf.co", ("u", "R"))


@pytest.mark.parametrize(
    ("stem", "found"),
    [
        ("Qwen2.5-0.5B-Instruct-Q4_K_M", ("Qwen2.5-0.5B-Instruct", "Q4_K_M")),
        ("codellama-7b.Q4_K_S", ("codellama-7b", "Q4_K_S")),
        ("model_q8_0", ("model", "q8_0")),
        ("gemma-UD-Q4_K_XL", ("gemma", "UD-Q4_K_XL")),
        ("phi-IQ3_XXS", ("phi", "IQ3_XXS")),
        ("m-BF16", ("m", "BF16")),
        ("m-f16", ("m", "f16")),
        ("gpt-oss-MXFP4", ("gpt-oss", "MXFP4")),
        ("Q4_0", ("", "Q4_0")),
        ("plain", ("plain", "")),
        ("qwen3-8b", ("qwen3-8b", "")),
        ("model-q4-notes", ("model-q4-notes", "")),
    ],
)
def test_a_quantization_is_read_off_a_file_s_name(stem: str, found: tuple[str, str]) -> None:
    assert quantization_of(stem) == found


def test_parts_of_split_files_tell_their_number() -> None:
    assert split_of("m-Q8_0-00002-of-00003") == ("m-Q8_0", 2, 3)
    assert split_of("m-00002-of-3") is None


@pytest.mark.parametrize(
    ("place", "folders", "stem", "names"),
    [
        (Place(), [], "m-Q4_0", ["m:Q4_0", "m:m-Q4_0"]),
        (Place(), [], "m", ["m:latest", "m:m"]),
        (Place(), ["a"], "m-Q4_0", ["a/m:Q4_0", "a/m:m-Q4_0"]),
        (Place(), ["pub", "R-GGUF"], "m-Q4_0", ["pub/R-GGUF:Q4_0", "pub/R-GGUF:m-Q4_0"]),
        (Place(), ["x", "pub", "R"], "Q4_0", ["pub/R:Q4_0", "pub/R:Q4_0"]),
        (Place(), ["v1.5"], "my model", ["v1-5/my-model:latest", "v1-5/my-model:my-model"]),
        (HUB, ["deep"], "m-Q4_0", ["hf.co/u/R:Q4_0", "hf.co/u/R:m-Q4_0"]),
        (Place(), [], "…", []),
    ],
    ids=["at the top", "no type", "a folder", "lm studio", "deeper", "odd signs", "hub", "nothing"],
)
def test_a_file_s_name_comes_from_where_it_lies(
    place: Place, folders: list[str], stem: str, names: list[str]
) -> None:
    assert [name.short for name in file_names(place, folders, stem)] == names


@pytest.mark.parametrize(
    ("place", "folders", "names"),
    [
        (Place(), ["a"], ["a:latest"]),
        (Place(), ["x", "pub", "R"], ["pub/R:latest"]),
        (HUB, [], ["hf.co/u/R:latest"]),
        (HUB, ["cpu", "int4"], ["hf.co/u/R:int4"]),
        (Place(), [], []),
    ],
)
def test_a_folder_s_name_comes_from_where_it_lies(
    place: Place, folders: list[str], names: list[str]
) -> None:
    assert [name.short for name in folder_names(place, folders)] == names


def test_the_rule_of_the_page_is_the_rule(tmp_path: Path, make_shelf: Any, tiny: Path) -> None:
    """Each row of the table in docs/plugins/folders.md: a file, and the name that it gets."""
    page = (Path(__file__).parents[3] / "docs" / "plugins" / "folders.md").read_text()
    rows = [line.split("`")[1::2] for line in page.splitlines() if line.startswith("| `")]
    rows = [row for row in rows if row[0].endswith(".gguf") and "--" not in row[0]]
    assert len(rows) >= 4
    for number, (file, name) in enumerate(rows):
        path = tmp_path / str(number) / file
        path.parent.mkdir(parents=True)
        path.write_bytes(tiny.read_bytes())
        assert make_shelf(tmp_path / str(number)).names() == [name]
