import pytest

from corral_kernel.errors import InvalidDigestError, InvalidNameError
from corral_kernel.names import ModelName, blob_filename, parse_digest, split_marker

LONGEST = "m" * 80


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("llama3", "registry.ollama.ai/library/llama3:latest", "llama3:latest"),
        ("llama3:8b", "registry.ollama.ai/library/llama3:8b", "llama3:8b"),
        ("u/m", "registry.ollama.ai/u/m:latest", "u/m:latest"),
        ("UPPER/Case:Tag", "registry.ollama.ai/UPPER/Case:Tag", "UPPER/Case:Tag"),
        ("_x", "registry.ollama.ai/library/_x:latest", "_x:latest"),
        ("x-", "registry.ollama.ai/library/x-:latest", "x-:latest"),
        ("hf.co/u/Foo-GGUF:Q4_K_M", "hf.co/u/Foo-GGUF:Q4_K_M", "hf.co/u/Foo-GGUF:Q4_K_M"),
        ("hf.co/library/m", "hf.co/library/m:latest", "hf.co/library/m:latest"),
        ("http://h:5000/a/b:t", "h:5000/a/b:t", "h:5000/a/b:t"),
        ("h:5000/a/b", "h:5000/a/b:latest", "h:5000/a/b:latest"),
        ("Registry.Ollama.AI/Library/m", "Registry.Ollama.AI/Library/m:latest", "m:latest"),
        (LONGEST, f"registry.ollama.ai/library/{LONGEST}:latest", f"{LONGEST}:latest"),
    ],
)
def test_a_valid_name_is_completed_and_shortened(text: str, full: str, short: str) -> None:
    name = ModelName.parse(text)
    assert (name.full, name.short) == (full, short)
    assert ModelName.parse(name.full).parts == name.parts
    assert ModelName.parse(name.short).folded == name.folded


def test_the_scheme_is_kept_but_not_shown() -> None:
    name = ModelName.parse("http://h:5000/a/b:t")
    assert (name.scheme, name.host, name.tag) == ("http", "h:5000", "t")
    assert ModelName.parse("a/b").scheme == "https"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " x",
        "x ",
        "x:",
        "x/",
        "/x",
        ":t",
        "a:b:c",
        "a/b/c/d",
        "a.b/c",
        "1.2.3.4/x",
        "localhost:5000/x",
        "-x",
        "x:-t",
        "x:.t",
        "../x",
        "a//b",
        "h//a/b",
        "http:///a/b",
        "..",
        "x:..",
        "x/..:t",
        "x\n",
        "x:t\n",
        "x\0",
        "naïve",
        "模型",
        "\u017f",  # folds to an ASCII s
        "x@sha256:" + "0" * 64,
        "a\\b",
        LONGEST + "m",
        "x:" + LONGEST + "m",
        LONGEST + "m/x",
        "h" * 351 + "/a/b",
        "x" * 100_000,
    ],
)
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError, match=r"^invalid model name$"):
        ModelName.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt-oss:20b-cloud", ("gpt-oss:20b", "cloud")),
        ("x:cloud", ("x", "cloud")),
        ("x:CLOUD", ("x", "cloud")),
        ("x:Local", ("x", "local")),
        (" x:t ", ("x:t", None)),
        ("x-cloud", ("x-cloud", None)),
        ("x:local/y", ("x:local/y", None)),
        ("h:20b-cloud/a/b-cloud", ("h:20b-cloud/a/b-cloud", None)),
        ("x", ("x", None)),
        ("", ("", None)),
    ],
)
def test_a_source_marker_is_cut_off(text: str, expected: tuple[str, str | None]) -> None:
    assert split_marker(text) == expected


@pytest.mark.parametrize("text", ["x:cloud:local", "x:local:cloud", "x:t-cloud:local"])
def test_two_source_markers_are_refused(text: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        split_marker(text)
    assert str(caught.value) == f'use either :local or :cloud, not both: "{text}"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo/new", "Foo/new:latest"),  # each part alone takes over a spelling
        ("FOO/BAR", "Foo/Bar:latest"),
        ("other/bar", "other/Bar:latest"),
        ("one/Y:q8", "one/Y:Q8"),
        ("ONE/x", "one/x:latest"),  # a whole name that is the same wins over parts
        ("brand-new", "brand-new:latest"),
    ],
)
def test_a_name_is_spelled_as_existing_ones_are(text: str, expected: str) -> None:
    existing = [ModelName.parse(name) for name in ("Foo/Bar", "Other2/X:Q8", "one/x")]
    assert ModelName.parse(text).spelled_like(existing).short == expected


def test_an_exact_part_is_not_respelled() -> None:
    existing = [ModelName.parse("FOO/a"), ModelName.parse("foo/b")]
    assert ModelName.parse("foo/new").spelled_like(existing).short == "foo/new:latest"


HEX = "ab" * 32


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha256-{HEX}", f"sha256:{HEX.upper()}"])
def test_every_spelling_of_a_digest_becomes_one(text: str) -> None:
    assert parse_digest(text) == f"sha256:{HEX}"
    assert blob_filename(text) == f"sha256-{HEX}"


@pytest.mark.parametrize(
    "text",
    ["", HEX, f"sha256:{HEX}\n", f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256_{HEX}",
     f"SHA256:{HEX}", f"sha256:../{HEX[3:]}", f"sha256:{'g' * 64}", f"sha256:{chr(0x661) * 64}"],
)  # fmt: skip
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigestError, match=r"^invalid digest format$"):
        parse_digest(text)
