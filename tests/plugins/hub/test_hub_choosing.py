from typing import Any

import pytest

from corral_hub.choosing import choose
from corral_hub.listing import HubFile
from corral_kernel.errors import RegistryError

SPLIT = [f"big/m-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
GGUF = [
    "m-Q8_0.gguf", "m-q4_k_m.gguf", "m-IQ2_XXS.gguf", "m-f16.gguf", "README.md", "config.json",
    "imatrix.gguf", "m.imatrix.gguf",
]  # fmt: skip
EYES = [*GGUF, "mmproj-m-f32.gguf", "mmproj-m-f16.gguf"]
TENSORS = [
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    "model.safetensors.index.json", "consolidated.safetensors", "config.json", "tokenizer.json",
    "tokenizer.model", "merges.txt", "chat_template.jinja", "README.md", "pytorch_model.bin",
    "1_Pooling/config.json", "onnx/model.onnx", "onnx/config.json", ".gitattributes",
]  # fmt: skip
ONNX = [
    "cpu_and_mobile/cpu-int4/genai_config.json", "cpu_and_mobile/cpu-int4/model.onnx",
    "cuda/cuda-int4/genai_config.json", "cuda/cuda-int4/model.onnx", "config.json",
]  # fmt: skip


def chosen(names: list[str], wish: str = "") -> dict[str, str]:
    files = [HubFile(name=name, size_bytes=1) for name in names]
    return {name: file.name for name, file in choose(files, wish, "u/r").items()}


@pytest.mark.parametrize(
    ("names", "wish", "wanted"),
    [
        (GGUF, "", ["m-q4_k_m.gguf"]),
        (GGUF[:1] + GGUF[2:], "", ["m-Q8_0.gguf"]),
        (["b.gguf", "a.gguf"], "", ["a.gguf"]),
        (GGUF, "q8_0", ["m-Q8_0.gguf"]),
        (GGUF, "F16", ["m-f16.gguf"]),
        (GGUF, "m-IQ2_XXS", ["m-IQ2_XXS.gguf"]),
        (GGUF, "m-iq2_xxs.gguf", ["m-IQ2_XXS.gguf"]),
        (["Q4_0/x.gguf", "y-Q8_0.gguf"], "Q8_0", ["y-Q8_0.gguf"]),
        (EYES, "", ["m-q4_k_m.gguf", "mmproj-m-f16.gguf"]),
    ],
)
def test_of_gguf_files_the_wanted_or_the_usual_is_taken(
    names: list[str], wish: str, wanted: list[str]
) -> None:
    assert list(chosen(names, wish).values()) == wanted


def test_the_parts_of_a_split_file_are_taken_together() -> None:
    assert list(chosen([*GGUF[1:], *SPLIT], "m-Q8_0").values()) == SPLIT
    assert list(chosen([*SPLIT, "a-F32.gguf"], "Q8_0").values()) == SPLIT
    assert list(chosen(SPLIT)) == [name.removeprefix("big/") for name in SPLIT]
    with pytest.raises(RegistryError, match="holds 1 of the 2 parts"):
        chosen(SPLIT[:1])


def test_safetensors_are_taken_with_their_texts() -> None:
    assert sorted(chosen(TENSORS)) == sorted(
        name
        for name in TENSORS
        if name.endswith((".json", ".txt", ".jinja", ".model", "002.safetensors"))
        and not name.startswith("onnx")
    )
    assert "consolidated.safetensors" in chosen(["consolidated.safetensors", "params.json"])


def test_an_encoder_of_onnx_alone_is_taken_with_its_texts() -> None:
    names = ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_int8.onnx", "tokenizer.json"]
    names += ["config.json", "1_Pooling/config.json", "README.md", "openvino/model.xml"]
    kept = {*names[:2], "tokenizer.json", "config.json", "1_Pooling/config.json"}
    assert set(chosen(names)) == kept
    assert "onnx/model.onnx" not in chosen([*names, "model.safetensors"])


@pytest.mark.parametrize(
    ("names", "wish", "wanted"),
    [
        (ONNX, "", ["cpu_and_mobile/cpu-int4/genai_config.json", ONNX[1]]),
        (ONNX, "cuda-int4", ONNX[2:4]),
        (["genai_config.json", "model.onnx", "model.safetensors"], "", None),
    ],
)
def test_an_onnx_folder_is_taken_as_it_is(names: list[str], wish: str, wanted: Any) -> None:
    found = chosen(names, wish)
    assert list(found.values()) == (names if wanted is None else wanted)
    assert "genai_config.json" in found


@pytest.mark.parametrize(
    ("names", "wish", "message"),
    [
        (GGUF, "Q2_K", r"u/r has no Q2_K; it has: IQ2_XXS, Q8_0, F16, Q4_K_M"),
        (TENSORS, "Q4_0", "holds safetensors alone, and no Q4_0: .* 'corral quantize'"),
        (["README.md", "pytorch_model.bin"], "", "it has: README.md, pytorch_model.bin"),
        ([], "", "it has: nothing"),
        (["a/genai_config.json", "b/genai_config.json"], "", "2 ONNX models: name one .* a, b"),
        (ONNX, "none", "2 ONNX models: name one as the tag, of cpu-int4, cuda-int4"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(names: list[str], wish: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        chosen(names, wish)
