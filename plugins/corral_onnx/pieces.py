"""The bytes of each token, as the decoder of a `tokenizer.json` would write them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SPACE_MARK = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Decoder:
    """Turns the tokens of one vocabulary to bytes, each by itself.

    Args:
        document: A decoded `tokenizer.json`.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        steps = list(_steps(document.get("decoder")))
        kinds = {step.get("type") for step in steps}
        model = document.get("model")
        model = model if isinstance(model, dict) else {}
        self._letters = byte_letters() if "ByteLevel" in kinds else None
        self._falls_back = "ByteFallback" in kinds or model.get("byte_fallback") is True
        self._replaced = dict(_replacements(steps))
        word_pieces = next((s for s in steps if s.get("type") == "WordPiece"), None)
        self._prefix = None if word_pieces is None else str(word_pieces.get("prefix", "##"))
        suffixes = (s for s in steps if s.get("type") == "BPEDecoder")
        self._suffix = next((str(s.get("suffix", "</w>")) for s in suffixes), "")

    def decode(self, token: str) -> bytes:
        """The bytes of a token that is no added one."""
        if self._letters is not None:
            letters = self._letters
            return b"".join(
                bytes([letters[letter]]) if letter in letters else letter.encode()
                for letter in token
            )
        if self._falls_back and (found := _BYTE.fullmatch(token)):
            return bytes([int(found[1], 16)])
        for old, new in self._replaced.items():
            token = token.replace(old, new)
        if self._prefix is not None:
            inside = bool(self._prefix) and token.startswith(self._prefix)
            token = token[len(self._prefix) :] if inside else " " + token
        if self._suffix and token.endswith(self._suffix):
            token = token[: -len(self._suffix)] + " "
        return token.encode()


def _steps(decoder: Any) -> Iterator[dict[str, Any]]:
    """A decoder, or those of a sequence of them."""
    if not isinstance(decoder, dict):
        return
    yield decoder
    inner = decoder.get("decoders")
    for each in inner if isinstance(inner, list) else ():
        yield from _steps(each)


def _replacements(steps: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for step in steps:
        pattern = step.get("pattern")
        if step.get("type") == "Metaspace":
            yield str(step.get("replacement") or _SPACE_MARK), " "
        elif step.get("type") == "Replace" and isinstance(pattern, dict):
            old = pattern.get("String")
            if isinstance(old, str) and old:
                yield old, str(step.get("content", ""))


def byte_letters() -> dict[str, int]:
    """GPT-2's table: printable bytes stand for themselves, others for letters from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in plain}
    others = (byte for byte in range(256) if byte not in plain)
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}
