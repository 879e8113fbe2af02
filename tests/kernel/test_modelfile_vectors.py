"""Every rule of the Modelfile's grammar that has an example, each with what it must give."""

import codecs
from typing import Any

import pytest

from corral_kernel.modelfile import (
    DEPRECATED_PARAMETERS,
    OLLAMA_OPTIONS,
    Message,
    ModelfileError,
    parse,
)

COMMANDS = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", '
    '"renderer", "parser", "parameter", "message", or "requires"'
)
ROLES = 'message role must be one of "system", "user", or "assistant"'
SEMVER = "requires must be a valid semver (e.g. 0.14.0)"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        # the examples
        ("FROM llama3", "sources", ("llama3",)),
        ("from  llama3  # x", "sources", ("llama3  # x",)),
        ('FROM a\nPARAMETER stop "\n"', "parameters", {"stop": ["\n"]}),
        ("FROM a\nPARAMETER stop 'x'", "parameters", {"stop": ["'x'"]}),
        ('FROM a\nSYSTEM """\nhi\n"""', "system", "\nhi\n"),
        ('FROM a\nMESSAGE user "x: y"', "messages", (Message("user", "x: y"),)),
        ("# c\n  FROM a", "sources", ("a",)),
        # each instruction
        ("SYSTEM s\nFROM a\nFROM ./b.gguf", "sources", ("a", "./b.gguf")),
        ("FROM a\nTEMPLATE one\nTEMPLATE two", "template", "two"),
        ("FROM a\nSYSTEM one\nSYSTEM two", "system", "two"),
        ("FROM a\nADAPTER ./one\nADAPTER ./two.gguf", "adapter", "./two.gguf"),
        ("FROM a\nDRAFT ./one\nDRAFT ./two", "drafts", ("./one", "./two")),
        ("FROM a\nLICENSE MIT\nLICENSE BSD", "licenses", ("MIT", "BSD")),
        (
            "FROM a\nMESSAGE system s\nMESSAGE user u\nMESSAGE assistant t\nMESSAGE user v",
            "messages",
            (
                Message("system", "s"),
                Message("user", "u"),
                Message("assistant", "t"),
                Message("user", "v"),
            ),
        ),
        ("FROM a\nRENDERER r\nRENDERER qwen3-coder", "renderer", "qwen3-coder"),
        ("FROM a\nPARSER p\nPARSER qwen3-coder", "parser", "qwen3-coder"),
        ("FROM a\nREQUIRES 0.14.0", "requires", "0.14.0"),
        ("FROM a\nREQUIRES v0.14", "requires", "0.14"),
        ("FROM a\nREQUIRES v1", "requires", "1"),
        ("FROM a\nREQUIRES 1.2.3-rc.1+build.5", "requires", "1.2.3-rc.1+build.5"),
        ("fRoM a\nsYsTeM x", "system", "x"),
        # blanks, comments, line ends
        ("FROM a\n\t  SYSTEM\tx", "system", "x"),
        ("FROM a\n# SYSTEM no\n\t# nor this\nSYSTEM yes", "system", "yes"),
        ("FROM a\nSYSTEM x # no comment", "system", "x # no comment"),
        ("FROM a\nSYSTEM # no comment", "system", "# no comment"),
        ("FROM a\r\nSYSTEM x\r\n", "system", "x"),
        ("FROM a\rSYSTEM x\r", "system", "x"),
        ('FROM a\r\nSYSTEM """x\r\ny"""\r\n', "system", "x\r\ny"),
        ("FROM a\nSYSTEM \nLICENSE MIT", "system", ""),
        ("FROM a\nSYSTEM ", "system", ""),
        # quotes
        ('FROM a\nSYSTEM "abc"', "system", "abc"),
        ('FROM a\nSYSTEM "a "b" c"', "system", 'a "b" c'),
        ('FROM a\nSYSTEM "a\nb"', "system", "a\nb"),
        ('FROM a\nSYSTEM "a" tail\nb"', "system", 'a" tail\nb'),
        ('FROM a\nSYSTEM """x""" y\nz"""', "system", 'x""" y\nz'),
        ('FROM a\nSYSTEM """ a "quoted" word """', "system", ' a "quoted" word '),
        ('FROM a\nPARAMETER stop "a" "b"', "parameters", {"stop": ['a" "b']}),
        ('FROM a\nSYSTEM a\\nb\\"c', "system", r"a\nb\"c"),
        ("FROM a\nSYSTEM 'x'", "system", "'x'"),
        # what is not printable
        ("FROM a\nSYSTEM a\u00a0b\u200bc\u200dd\u3000e\x07f\ufeffg", "system", "abcdefg"),
        ("FROM a\nSYSTEM \U0001f468\u200d\U0001f469", "system", "\U0001f468\U0001f469"),
        ("FROM a\nSYSTEM größer ≥ 日本", "system", "größer ≥ 日本"),
    ],
)
def test_a_modelfile_says(text: str, field: str, value: Any) -> None:
    found = getattr(parse(text), field)
    assert (dict(found) if field == "parameters" else found) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a\nPARAMETER  top_k 3", "unknown parameter ''"),
        ('FROM a\nSYSTEM "unclosed', "unexpected EOF"),
        ("FROM a\nMESSAGE User hi", f"(line 2): {ROLES}"),
        ("FROM a\nSYSTEM", "unexpected EOF"),
        ("FROM a\nSYSTEM\n", f"(line 3): {COMMANDS}"),
        ("SYSTEM x", "no FROM line"),
        ("FROM a\nPARAMETER num_ctx 4k", "invalid int value [4k]"),
        ("FROM a\nPROMPT x", f"(line 2): {COMMANDS}"),
        ("FROM a\nEMBED x", f"(line 2): {COMMANDS}"),
        ("FROM a\nCAPABILITIES tools", f"(line 2): {COMMANDS}"),
        ("FROM a\r\n\r\nBAD x", f"(line 5): {COMMANDS}"),
        ("FROM a\nSYS1EM x", f"(line 2): {COMMANDS}"),
        ("FROM a\nPARAMETER num_ctx\n5", "unexpected EOF: num_ctx"),
        ("FROM a\nPARAMETER num-ctx 5", "unexpected EOF: num"),
        ("FROM a\nPARAMETER num.ctx 5", "unexpected EOF: num"),
        ("FROM a\nPARAMETER num_c", "unexpected EOF"),
        ("FROM a\nMESSAGE  user hi", f"(line 2): {ROLES}"),
        ("FROM a\nMESSAGE user\nhi", "unexpected EOF: user"),
        ("FROM a\nMESSAGE use", "unexpected EOF"),
        ('FROM a\nSYSTEM "a" tail\nb', "unexpected EOF"),
        ("FROM a\nPARAMETER temperature hot", "invalid float value [hot]"),
        ("FROM a\nPARAMETER use_mmap on", "invalid bool value [on]"),
        ("FROM a\nPARAMETER nothing_like_it 1", "unknown parameter 'nothing_like_it'"),
        ("FROM a\nREQUIRES latest", SEMVER),
        ("FROM a\nREQUIRES 1.2.3.4", SEMVER),
        ("FROM a\nREQUIRES vv1", SEMVER),
    ],
)
def test_a_modelfile_is_refused_with(text: str, message: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "system"),
    [
        (codecs.BOM_UTF8 + b"FROM a\nSYSTEM x", "x"),
        (codecs.BOM_UTF16_LE + "FROM a\r\nSYSTEM größe".encode("utf-16-le"), "größe"),
        (codecs.BOM_UTF16_BE + "FROM a\nSYSTEM \U0001f40e".encode("utf-16-be"), "\U0001f40e"),
        (b"FROM a\nSYSTEM x\xffy\xc3", "x\ufffdy\ufffd"),
        (codecs.BOM_UTF16_LE + "FROM a\nSYSTEM x".encode("utf-16-le") + b"y", "x\ufffd"),
    ],
    ids=["UTF-8", "UTF-16LE", "UTF-16BE", "no text", "half a character"],
)
def test_a_modelfile_is_decoded(data: bytes, system: str) -> None:
    assert parse(data).system == system


INTEGERS = [name for name, kind in OLLAMA_OPTIONS.items() if kind == "integer"]
FLOATS = [name for name, kind in OLLAMA_OPTIONS.items() if kind == "float32"]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize(("text", "value"), [("7", 7), ("-1", -1), ("+40", 40)])
def test_whole_numbers_are_read(name: str, text: str, value: int) -> None:
    assert parse(f"FROM a\nPARAMETER {name} {text}").parameters == {name: value}


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), (".5", 0.5), ("1e-3", 0.001), ("-0.25", -0.25)]
)
def test_fractions_are_read(name: str, text: str, value: float) -> None:
    assert parse(f"FROM a\nPARAMETER {name} {text}").parameters == {name: value}


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_yes_is_read(text: str) -> None:
    assert parse(f"FROM a\nPARAMETER use_mmap {text}").parameters == {"use_mmap": True}


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_no_is_read(text: str) -> None:
    assert parse(f"FROM a\nPARAMETER use_mmap {text}").parameters == {"use_mmap": False}


def test_the_parameters_of_ollama_are_known() -> None:
    assert sorted(OLLAMA_OPTIONS) == sorted(
        [
            *("num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch"),
            *("num_gpu", "main_gpu", "num_thread", "draft_num_predict", "temperature", "top_p"),
            *("min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty"),
            *("use_mmap", "stop"),
        ]
    )


@pytest.mark.parametrize(
    "name",
    [
        *("penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"),
        *("mirostat", "mirostat_tau", "mirostat_eta"),
    ],
)
def test_a_deprecated_parameter_is_dropped_and_told(name: str) -> None:
    modelfile = parse(f"FROM a\nPARAMETER {name} whatever")
    assert (modelfile.deprecated, modelfile.parameters) == ((name,), {})
    assert name in DEPRECATED_PARAMETERS


@pytest.mark.parametrize(
    "name", ["num_gqa", "numa", "tfs_z", "rope_frequency_base", "rope_frequency_scale"]
)
def test_a_parameter_of_old_times_is_unknown(name: str) -> None:
    with pytest.raises(ModelfileError, match=f"^unknown parameter '{name}'"):
        parse(f"FROM a\nPARAMETER {name} 1")
