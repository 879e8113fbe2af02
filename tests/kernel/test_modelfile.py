import json
from pathlib import Path

import pytest

from corral_kernel.errors import InvalidRequestError
from corral_kernel.modelfile import (
    MAX_BYTES,
    Instruction,
    Message,
    ModelfileError,
    parse,
    quote,
    read_instructions,
)

INVALID_COMMAND = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", '
    '"renderer", "parser", "parameter", "message", or "requires"'
)
INVALID_ROLE = 'message role must be one of "system", "user", or "assistant"'


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("FROM llama3", ("llama3",)),
        ("from  llama3  # x", ("llama3  # x",)),
        ("FrOm\tllama3\n", ("llama3",)),
        ("# c\n  FROM a", ("a",)),
        ("\n\r\n\t# c\n\n\tFROM a\n\n# end", ("a",)),
        ("FROM a\nFROM b", ("a", "b")),
        ('FROM "a b"', ("a b",)),
        ("SYSTEM x\nFROM a", ("a",)),
        ("FROM 'a'", ("'a'",)),
        ("\u00a0FROM a", ("a",)),
    ],
)
def test_from_is_read(text: str, sources: tuple[str, ...]) -> None:
    assert parse(text).sources == sources


@pytest.mark.parametrize(
    ("value", "system"),
    [
        (" hi", "hi"),
        ("\thi", "hi"),
        ("   hi there \t", "hi there"),
        (" \n", ""),
        (" ", ""),
        (' "abc"', "abc"),
        (' "abc"  ', "abc"),
        (' "a "b" c"', 'a "b" c'),
        (' "a\nb"', "a\nb"),
        (' "a" tail\nmore"', 'a" tail\nmore'),
        (' """x""" y\nz"""', 'x""" y\nz'),
        (' """\nhi\n"""', "\nhi\n"),
        (' """\r\nhi\r\n"""', "\r\nhi\r\n"),
        (' """  padded  """', "  padded  "),
        (' ""', ""),
        (' """"""', ""),
        (" 'x'", "'x'"),
        (r" a\nb\"c", r"a\nb\"c"),
        (' say "hi"', 'say "hi"'),
        (" a # b", "a # b"),
        (" a\u00a0b\u200bc\u3000d\x07e", "abcde"),
        (" \U0001f468\u200d\U0001f469", "\U0001f468\U0001f469"),
        (" größe", "größe"),
    ],
)
def test_a_value_is_trimmed_and_unquoted(value: str, system: str) -> None:
    assert parse(f"FROM a\nSYSTEM{value}").system == system


def test_text_after_the_closing_quotes_of_a_value_is_the_next_instruction() -> None:
    modelfile = parse('FROM a\nSYSTEM """one\ntwo"""\nTEMPLATE "{{ .Prompt }}"\nLICENSE MIT')

    assert modelfile.system == "one\ntwo"
    assert modelfile.template == "{{ .Prompt }}"
    assert modelfile.licenses == ("MIT",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a\nPARAMETER  top_k 3", "unknown parameter ''"),
        ('FROM a\nSYSTEM "unclosed', "unexpected EOF"),
        ('FROM a\nSYSTEM """unclosed"', "unexpected EOF"),
        ('FROM a\nSYSTEM """""', "unexpected EOF"),
        ('FROM a\nSYSTEM "a" tail', "unexpected EOF"),
        ('FROM a\nSYSTEM "', "unexpected EOF"),
        ("FROM a\nSYSTEM", "unexpected EOF"),
        ("FROM a\nPARAMETER top_k", "unexpected EOF"),
        ("FROM a\nPARAMETER top_k\n", "unexpected EOF: top_k"),
        ("FROM a\nPARAMETER top-k 3", "unexpected EOF: top"),
        ("FROM a\nPARAMETER top.k 3", "unexpected EOF: top"),
        ("FROM a\nMESSAGE user\n", "unexpected EOF: user"),
        ("FROM a\nMESSAGE us3r x", "unexpected EOF: us"),
        ("FROM a\nMESSAGE User hi", f"(line 2): {INVALID_ROLE}"),
        ("FROM a\nMESSAGE tool hi", f"(line 2): {INVALID_ROLE}"),
        ("FROM a\nMESSAGE  user hi", f"(line 2): {INVALID_ROLE}"),
        ("FROM a\nSYSTEM\n", f"(line 3): {INVALID_COMMAND}"),
        ("FROM a\nSYSTEM:x", f"(line 2): {INVALID_COMMAND}"),
        ("FROM a\nPROMPT x", f"(line 2): {INVALID_COMMAND}"),
        ("FROM a\nEMBED x", f"(line 2): {INVALID_COMMAND}"),
        ("FROM a\nCAPABILITIES x", f"(line 2): {INVALID_COMMAND}"),
        ("FROM a\r\nBAD x", f"(line 3): {INVALID_COMMAND}"),
        ("1FROM a", f"(line 1): {INVALID_COMMAND}"),
        ('FROM a\nSYSTEM """x\ny"""\nBAD x', f"(line 4): {INVALID_COMMAND}"),
        ("SYSTEM x", "no FROM line"),
        ("", "no FROM line"),
        ("# FROM a", "no FROM line"),
        ("FROM a\nPARAMETER num_ctx 4k", "invalid int value [4k]"),
        ("FROM a\nPARAMETER num_ctx 4096.0", "invalid int value [4096.0]"),
        (
            "FROM a\nPARAMETER num_ctx 9223372036854775808",
            "invalid int value [9223372036854775808]",
        ),
        ("FROM a\nPARAMETER temperature abc", "invalid float value [abc]"),
        ("FROM a\nPARAMETER temperature 1e39", "invalid float value [1e39]"),
        ("FROM a\nPARAMETER use_mmap yes", "invalid bool value [yes]"),
        (
            "FROM a\nPARAMETER Temperature 1",
            "unknown parameter 'Temperature'; did you mean 'temperature'?",
        ),
        ("FROM a\nPARAMETER num_gqa 8", "unknown parameter 'num_gqa'"),
        ("FROM a\nPARAMETER tfs_z 1", "unknown parameter 'tfs_z'"),
        ("FROM a\nREQUIRES 1.x", "requires must be a valid semver (e.g. 0.14.0)"),
        ("FROM a\nREQUIRES 01.2.3", "requires must be a valid semver (e.g. 0.14.0)"),
        ("FROM a\nREQUIRES ", "requires must be a valid semver (e.g. 0.14.0)"),
    ],
)
def test_a_file_that_is_no_modelfile_is_refused(text: str, message: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert isinstance(caught.value, InvalidRequestError)


@pytest.mark.parametrize(
    ("line", "parameters"),
    [
        ("num_ctx 8192", {"num_ctx": 8192}),
        ("seed -1", {"seed": -1}),
        ("top_k +40", {"top_k": 40}),
        ("temperature 0.7", {"temperature": 0.7}),
        ("temperature 1", {"temperature": 1.0}),
        ("min_p .05", {"min_p": 0.05}),
        ("top_p 0.3333333333", {"top_p": 0.33333334}),
        ("use_mmap T", {"use_mmap": True}),
        ("use_mmap False", {"use_mmap": False}),
        ("backend llamacpp", {"backend": "llamacpp"}),
        ('stop "\n"', {"stop": ["\n"]}),
        ("stop 'x'", {"stop": ["'x'"]}),
        ('stop "a" "b"', {"stop": ['a" "b']}),
        ("stop <|im_end|>\nPARAMETER stop <|end|>", {"stop": ["<|im_end|>", "<|end|>"]}),
        ("top_k 3\nPARAMETER top_k 4", {"top_k": 4}),
    ],
)
def test_parameters_have_their_types(line: str, parameters: dict[str, object]) -> None:
    modelfile = parse(f"FROM a\nPARAMETER {line}")
    assert json.dumps(dict(modelfile.parameters)) == json.dumps(parameters)


def test_deprecated_parameters_are_named_and_dropped() -> None:
    modelfile = parse("FROM a\nPARAMETER mirostat 2\nPARAMETER f16_kv anything\nPARAMETER top_k 1")

    assert modelfile.deprecated == ("mirostat", "f16_kv")
    assert dict(modelfile.parameters) == {"top_k": 1}


def test_messages_keep_their_order() -> None:
    modelfile = parse(
        'FROM a\nMESSAGE user "x: y"\nMESSAGE assistant """hi\nyou"""\nmessage system z'
    )

    assert modelfile.messages == (
        Message("user", "x: y"),
        Message("assistant", "hi\nyou"),
        Message("system", "z"),
    )


def test_some_instructions_accumulate_and_of_the_others_the_last_one_counts() -> None:
    modelfile = parse(
        "FROM a\nLICENSE one\nLICENSE two\nDRAFT d1\nDRAFT d2\nADAPTER x\nADAPTER y\n"
        "SYSTEM one\nSYSTEM two\nTEMPLATE one\nTEMPLATE two\nRENDERER r1\nRENDERER r2\n"
        "PARSER p1\nPARSER p2\nREQUIRES 0.1\nREQUIRES v0.14.0-rc.1+b\n"
    )

    assert modelfile.licenses == ("one", "two")
    assert modelfile.drafts == ("d1", "d2")
    assert modelfile.adapter == "y"
    assert (modelfile.system, modelfile.template) == ("two", "two")
    assert (modelfile.renderer, modelfile.parser) == ("r2", "p2")
    assert modelfile.requires == "0.14.0-rc.1+b"


@pytest.mark.parametrize(
    "data",
    [
        "FROM größe".encode(),
        b"\xef\xbb\xbf" + "FROM größe".encode(),
        b"\xff\xfe" + "FROM größe".encode("utf-16-le"),
        b"\xfe\xff" + "FROM größe".encode("utf-16-be"),
    ],
    ids=["utf-8", "utf-8-bom", "utf-16-le", "utf-16-be"],
)
def test_a_byte_order_mark_selects_the_encoding(data: bytes) -> None:
    assert parse(data).sources == ("größe",)


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert parse(b"FROM a\nSYSTEM x\xffy").system == "x\ufffdy"


def test_a_file_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(ModelfileError, match="at most"):
        parse(b"#" * (MAX_BYTES + 1))


def test_a_long_value_of_many_lines_takes_linear_time() -> None:
    text = 'FROM a\nSYSTEM "' + "x \n" * 100_000 + 'end"'
    assert parse(text).system.endswith("x \nend")


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("plain text", "plain text"),
        ('with "quotes"', 'with "quotes"'),
        ("two\nlines", '"two\nlines"'),
        (" led", '" led"'),
        ("trailed ", '"trailed "'),
        ('a "b"\nc', '"""a "b"\nc"""'),
        ('"', '"""""""'),
        ("\tx", '"\tx"'),
        ("a\rb", '"a\rb"'),
        ("", ""),
    ],
)
def test_values_are_quoted_only_where_the_grammar_needs_it(value: str, quoted: str) -> None:
    assert quote(value) == quoted


@pytest.mark.parametrize(
    ("instruction", "line"),
    [
        (Instruction("from", "/a b/c"), "FROM /a b/c"),
        (Instruction("from", " x"), 'FROM " x"'),
        (Instruction("system", '"Hi" he said.'), 'SYSTEM """"Hi" he said."""'),
        (Instruction("requires", "0.14.0"), "REQUIRES 0.14.0"),
        (Instruction("system", ""), "SYSTEM "),
        (Instruction("system", "You are terse."), "SYSTEM You are terse."),
        (Instruction("template", "a\nb"), 'TEMPLATE "a\nb"'),
        (Instruction("parameter", "<|im_end|>", "stop"), "PARAMETER stop <|im_end|>"),
        (Instruction("parameter", "\n", "stop"), 'PARAMETER stop "\n"'),
        (Instruction("message", "hi", "user"), "MESSAGE user hi"),
    ],
)
def test_an_instruction_is_printed_as_its_line(instruction: Instruction, line: str) -> None:
    assert str(instruction) == line


def test_what_is_printed_is_read_back_the_same() -> None:
    instructions = (
        Instruction("from", "smollm2"),
        Instruction("template", '{{ "x" }}\n{{ .Prompt }} '),
        Instruction("system", "  two\nlines"),
        Instruction("parameter", "\n\n", "stop"),
        Instruction("parameter", "0.7", "temperature"),
        Instruction("license", "MIT\n\nPermission"),
        Instruction("message", 'say "hi"', "user"),
    )

    printed = "\n".join(str(instruction) for instruction in instructions)

    assert read_instructions(printed) == instructions


def test_a_real_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_text(
        '# A pirate\nFROM ./tiny.gguf\n\nPARAMETER temperature 0.2\nPARAMETER stop "<|im_end|>"\n'
        'SYSTEM """\nYou are a pirate.\n"""\nMESSAGE user Ahoy?\nMESSAGE assistant Ahoy!\n'
    )

    modelfile = parse(path.read_bytes())

    assert modelfile.sources == ("./tiny.gguf",)
    assert dict(modelfile.parameters) == {"temperature": 0.2, "stop": ["<|im_end|>"]}
    assert modelfile.system == "\nYou are a pirate.\n"
    assert [message.content for message in modelfile.messages] == ["Ahoy?", "Ahoy!"]
