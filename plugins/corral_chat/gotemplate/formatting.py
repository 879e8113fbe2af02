"""`fmt.Sprintf` and its like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from corral_chat.bounds import check_chars, step
from corral_chat.gotemplate.floats import format_float
from corral_chat.gotemplate.gojson import to_json
from corral_chat.gotemplate.strings import encode, quote
from corral_chat.gotemplate.values import INVALID, Byte, GoList, GoMap, Struct, type_name
from corral_kernel.gotext import format_number

_BASES = {"b": "b", "o": "o", "O": "o", "x": "x", "X": "X", "d": "d", "v": "d"}
_PREFIXES = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}
_QUOTED = 8  # a quoted text counts so many times: it is made character by character
_LAST_CHARACTER = 0x10FFFF
_UNSIGNED = 2**64
_STRING_VERBS = frozenset("vsxXq")


@dataclass(slots=True)
class Spec:
    """Flags, width and precision of one verb."""

    verb: str = "v"
    sharp: bool = False
    zero: bool = False
    plus: bool = False
    minus: bool = False
    space: bool = False
    width: int | None = None
    precision: int | None = None
    go_syntax: bool = False
    names: bool = False  # `%+v`: fields with their names
    erroring: bool = False

    def pad(self, text: str, *, zeros: bool | None = None) -> str:
        """Bring a text to the width."""
        missing = (self.width or 0) - len(text)
        if missing <= 0:
            return text
        check_chars(self.width or 0)
        if self.minus:
            return text + " " * missing
        fill = "0" if (self.zero if zeros is None else zeros) else " "
        return fill * missing + text


PLAIN = Spec()


def sprint(values: Sequence[Any]) -> str:
    """`fmt.Sprint`: with blanks between neighbours neither of which is a string."""
    parts: list[str] = []
    previous_text = True
    for value in values:
        is_text = isinstance(value, str)
        if parts and not is_text and not previous_text:
            parts.append(" ")
        parts.append(show(value))
        previous_text = is_text
    return "".join(parts)


def sprintln(values: Sequence[Any]) -> str:
    """`fmt.Sprintln`: with blanks between all, and a newline."""
    return " ".join(show(value) for value in values) + "\n"


def show(value: Any) -> str:
    """Print a value as `%v` does."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return format_number(value)
    return format_argument(value, PLAIN)


def format_argument(value: Any, spec: Spec) -> str:
    """Print one argument by its verb."""
    if value is None or value is INVALID:
        return spec.pad("<nil>") if spec.verb in "Tv" else f"%!{spec.verb}(<nil>)"
    if spec.verb == "T":
        return _string(type_name(value), Spec(width=spec.width, minus=spec.minus))
    return _value(value, spec, 0)


def _bad_verb(value: Any, spec: Spec) -> str:
    if value is None:
        return f"%!{spec.verb}(<nil>)"
    shown = _value(value, replace(spec, verb="v", erroring=True), 0)
    return f"%!{spec.verb}({type_name(value)}={shown})"


def _value(value: Any, spec: Spec, depth: int) -> str:  # noqa: C901,PLR0911 - a way for each kind
    step()
    if prints_json(value) and spec.verb in _STRING_VERBS and not (spec.go_syntax or spec.erroring):
        return _string(json_text(value), spec)
    match value:
        case None:
            if spec.go_syntax:
                return "interface {}(nil)"
            return "<nil>" if spec.verb == "v" or depth else _bad_verb(None, spec)
        case bool():
            if spec.verb in "tv":
                return spec.pad("true" if value else "false")
            return _bad_verb(value, spec)
        case int():
            return _integer(value, spec)
        case float():
            return _float(value, spec)
        case str():
            return _string(value, spec)
        case GoMap():
            return _map(value, spec, depth)
        case GoList():
            return _list(value, spec, depth)
    assert isinstance(value, Struct)
    return _struct(value, spec, depth)


def prints_json(value: Any) -> bool:
    """Whether a value's own method prints it."""
    if isinstance(value, Struct):
        return value.kind.prints_json
    return isinstance(value, (GoList, GoMap)) and value.prints_json


def json_text(value: Any) -> str:
    """What that method gives."""
    if isinstance(value, GoMap) and value.nil:
        return "{}"
    if isinstance(value, GoList) and value.go_type == "api.PropertyType":
        items = value.items
        if not items:
            return ""
        return items[0] if len(items) == 1 else "[" + " ".join(items) + "]"
    return to_json(value)


def _list(value: GoList, spec: Spec, depth: int) -> str:
    items = [_value(item, spec, depth + 1) for item in value.items]
    if not spec.go_syntax:
        return "[" + " ".join(items) + "]"
    return value.go_type + ("(nil)" if value.nil else "{" + ", ".join(items) + "}")


def _map(value: GoMap, spec: Spec, depth: int) -> str:
    items = [
        f"{_value(key, spec, depth + 1)}:{_value(item, spec, depth + 1)}"
        for key, item in value.sorted()
    ]
    if not spec.go_syntax:
        return "map[" + " ".join(items) + "]"
    return value.go_type + ("(nil)" if value.nil else "{" + ", ".join(items) + "}")


def _struct(value: Struct, spec: Spec, depth: int) -> str:
    if value.kind.pointer and depth:
        return "0xc000000000"  # Go prints an address, another one each time
    items = [
        (f"{name}:" if spec.names or spec.go_syntax else "") + _value(item, spec, depth + 1)
        for name, item in value.values.items()
    ]
    text = "{" + (", " if spec.go_syntax else " ").join(items) + "}"
    if spec.go_syntax:
        text = value.kind.name + text
    return "&" + text if value.kind.pointer else text


def _string(text: str, spec: Spec) -> str:
    verb = spec.verb
    if verb in "xX":
        return _hexadecimal(encode(text), spec)
    if verb not in "vsq":
        return _bad_verb(text, spec)
    if spec.precision is not None:
        text = text[: spec.precision]
    if verb == "q" or spec.go_syntax:
        check_chars(_QUOTED * len(text))
        if (spec.sharp or spec.go_syntax) and verb == "q" and _can_backquote(text):
            return spec.pad(f"`{text}`")
        text = quote(text)
        if spec.plus:
            text = "".join(c if c.isascii() else _escaped(c) for c in text)
    return spec.pad(text)


def _can_backquote(text: str) -> bool:
    return all(c == "\t" or (c >= " " and c not in "`\x7f\ufeff") for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - Go's rule


def _hexadecimal(data: bytes, spec: Spec) -> str:
    if spec.precision is not None:
        data = data[: spec.precision]
    if not data:
        return spec.pad("")
    prefix = "0x" if spec.sharp else ""
    check_chars(5 * len(data) if spec.space else 2 * len(data))
    text = prefix + (data.hex(" ").replace(" ", f" {prefix}") if spec.space else data.hex())
    return spec.pad(text.upper() if spec.verb == "X" else text)


def _integer(value: int, spec: Spec) -> str:
    verb = spec.verb
    if verb in "cqU":
        return _character(value, spec)
    if verb not in _BASES:
        return _bad_verb(value, spec)
    if verb == "v" and spec.go_syntax and isinstance(value, Byte):
        return f"{value:#x}"
    if spec.precision == 0 and value == 0:
        return spec.pad("", zeros=False)
    digits = format(abs(int(value)), _BASES[verb])
    signed = value < 0 or spec.plus or spec.space
    least = spec.precision or 0
    if spec.precision is None and spec.zero and not spec.minus and spec.width is not None:
        least = spec.width - signed
    check_chars(least)
    digits = digits.rjust(least, "0")
    if spec.sharp and not (verb in "oO" and digits.startswith("0")):
        digits = _PREFIXES.get("o" if verb == "O" else verb, "") + digits
    if verb == "O":
        digits = "0o" + digits
    sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
    return spec.pad(sign + digits, zeros=False)


def _character(value: int, spec: Spec) -> str:
    code = value % _UNSIGNED
    valid = code <= _LAST_CHARACTER and not 0xD800 <= code <= 0xDFFF  # noqa: PLR2004 - surrogates
    character = chr(code) if valid else "\ufffd"
    if spec.verb == "c":
        return spec.pad(character)
    if spec.verb == "q":
        inner = quote(character)[1:-1].replace('\\"', '"')
        return spec.pad(f"'{inner if character != chr(39) else chr(92) + chr(39)}'")
    check_chars(spec.precision or 0)
    text = "U+" + format(code, "X").rjust(max(4, spec.precision or 0), "0")
    if spec.sharp and valid and character.isprintable():
        text += f" '{character}'"
    return spec.pad(text, zeros=False)


def _float(value: float, spec: Spec) -> str:
    verb = "g" if spec.verb == "v" else "f" if spec.verb == "F" else spec.verb
    if verb not in "efgEG":
        return _bad_verb(value, spec)
    precision = spec.precision
    if precision is None and verb in "feE":
        precision = 6
    check_chars(precision or 0)
    text = format_float(value, verb, precision, keep_zeros=spec.sharp)
    sign = "-" if text.startswith("-") else "+" if spec.plus else " " if spec.space else ""
    digits = text.lstrip("-")
    if spec.zero and not spec.minus and spec.width is not None and digits[0].isdigit():
        return sign + digits.rjust(spec.width - len(sign), "0")
    return spec.pad(sign + digits, zeros=False if sign else None)
