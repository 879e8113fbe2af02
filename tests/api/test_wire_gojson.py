import json
import random

import msgspec
import pytest

from corral_api.wire.gojson import MAX_DEPTH, DecodeError, Members, Node, Number, Scanner


def plain(node: Node) -> object:
    """Turn a scanned value into what `json.loads` gives."""
    if isinstance(node, Number):
        return json.loads(node.text)
    if isinstance(node, Members):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(item) for item in node]
    return node


SYNTAX = [
    (b"", "missing request body"),
    (b" \r\n\t", "missing request body"),
    (b"{", "unexpected EOF"),
    (b'{"a', "unexpected EOF"),
    (b'{"a\\', "unexpected EOF"),
    (b'{"a\\u12', "unexpected EOF"),
    (b'{"a"', "unexpected EOF"),
    (b'{"a":', "unexpected EOF"),
    (b'{"a":1', "unexpected EOF"),
    (b'{"a":1,', "unexpected EOF"),
    (b"[1", "unexpected EOF"),
    (b"[1,", "unexpected EOF"),
    (b"nul", "unexpected EOF"),
    (b"-", "unexpected EOF"),
    (b"1.", "unexpected EOF"),
    (b"1e", "unexpected EOF"),
    (b"1e+", "unexpected EOF"),
    (b"x", "invalid character 'x' looking for beginning of value"),
    (b"<html>", "invalid character '<' looking for beginning of value"),
    (b"'a'", r"invalid character '\'' looking for beginning of value"),
    (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
    (b"\x00", r"invalid character '\x00' looking for beginning of value"),
    (b"\x80", r"invalid character '\u0080' looking for beginning of value"),
    (b"\x0b", r"invalid character '\v' looking for beginning of value"),
    (b"[1,]", "invalid character ']' looking for beginning of value"),
    (b'{"a":}', "invalid character '}' looking for beginning of value"),
    (b"+1", "invalid character '+' looking for beginning of value"),
    (b"NaN", "invalid character 'N' looking for beginning of value"),
    (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
    (b"{1:2}", "invalid character '1' looking for beginning of object key string"),
    (b'{"a" 1}', "invalid character '1' after object key"),
    (b'{"a""b"}', "invalid character '\"' after object key"),
    (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
    (b'{"a":1x', "invalid character 'x' after object key:value pair"),
    (b'{"a":01}', "invalid character '1' after object key:value pair"),
    (b'{"a":1.2.3}', "invalid character '.' after object key:value pair"),
    (b'{"a":[1}', "invalid character '}' after array element"),
    (b"[1 2]", "invalid character '2' after array element"),
    (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
    (b"nulx", "invalid character 'x' in literal null (expecting 'l')"),
    (b"trUe", "invalid character 'U' in literal true (expecting 'u')"),
    (b"falze", "invalid character 'z' in literal false (expecting 's')"),
    (b"-a", "invalid character 'a' in numeric literal"),
    (b"--1", "invalid character '-' in numeric literal"),
    (b"1.a", "invalid character 'a' after decimal point in numeric literal"),
    (b"[1.]", "invalid character ']' after decimal point in numeric literal"),
    (b"1ea", "invalid character 'a' in exponent of numeric literal"),
    (b"1.5E+x", "invalid character 'x' in exponent of numeric literal"),
    (b'"a\nb"', r"invalid character '\n' in string literal"),
    (b'{"a":"\x1f"}', r"invalid character '\x1f' in string literal"),
    (b'"\\x41"', "invalid character 'x' in string escape code"),
    (b'"\\u12g4"', r"invalid character 'g' in \u hexadecimal character escape"),
    (b'"\\u"', r"invalid character '" + "'\"'"[1:] + r" in \u hexadecimal character escape"),
]


@pytest.mark.parametrize(("body", "text"), SYNTAX, ids=[repr(body) for body, _ in SYNTAX])
def test_broken_json_is_told_in_the_decoders_words(body: bytes, text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        Scanner(body).read()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":1}garbage', {"a": 1}),
        (b"[1]]", [1]),
        (b"12x", 12),
        (b'"a""b"', "a"),
        (b"nullx", None),
        (b" true false", True),
        (b"\n{}{", {}),
    ],
)
def test_only_the_first_value_is_read(body: bytes, value: object) -> None:
    assert plain(Scanner(body).read()) == value


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'"\xff"', "\ufffd"),
        (b'"a\xe2\x82b"', "a\ufffd\ufffdb"),  # a cut sequence: one for each byte
        (b'"\xed\xa0\x80"', "\ufffd" * 3),
        (b'"\\ud800"', "\ufffd"),
        (b'"\\udc00\\ud800"', "\ufffd\ufffd"),
        (b'"\\ud800\\ud83d\\ude00"', "\ufffd😀"),
        (b'"\\ud83d\\uDE00\\n\\/"', "😀\n/"),
        (b'"\xf0\x9f\x98\x80"', "😀"),
        (b'"\\ud800\xff"', "\ufffd\ufffd"),
    ],
)
def test_what_is_no_text_is_replaced(body: bytes, text: str) -> None:
    assert Scanner(body).read() == text


def test_nesting_is_read_up_to_the_bound_and_no_further() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert isinstance(Scanner(deepest).read(), list)
    for opening in (b"[", b'{"a":'):
        with pytest.raises(DecodeError) as caught:
            Scanner(opening * (MAX_DEPTH + 1)).read()
        assert str(caught.value) == f"invalid character '{opening[:1].decode()}' exceeded max depth"


def test_spans_tell_where_the_values_of_the_outer_object_stand() -> None:
    body = b' { "a" : {"a": [1 ]} , "b":"x", "a" :  1.50  }'
    scanner = Scanner(body)
    scanner.read()
    texts = {key: body[start:end] for key, (start, end) in scanner.spans.items()}
    assert texts == {"a": b"1.50", "b": b'"x"'}


def test_both_readers_agree_on_whatever_the_fast_one_accepts() -> None:
    draw = random.Random(7)
    alphabet = [b"{", b"}", b"[", b"]", b'"a"', b":", b",", b"1", b"-", b".", b"0", b"e", b" "]
    alphabet += [b"null", b"true", b"false", b'"', b"\\", b"u0041", b"\n", b"\xc3\xa9", b"\xff"]
    accepted = 0
    for _ in range(20_000):
        body = b"".join(draw.choices(alphabet, k=draw.randint(1, 9)))
        try:
            expected = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        accepted += 1
        assert plain(Scanner(body).read()) == expected, body
    assert accepted > 300


def test_a_string_of_very_many_escapes_is_read_in_one_go() -> None:
    body = b'"' + b"\\n\xff" * 1_000_000 + b'"'
    assert Scanner(body).read() == "\n\ufffd" * 1_000_000
