"""Control tokens that texts of a conversation spell, kept apart from those of its template.

A renderer gives one text, in which nobody can tell any more who wrote what: the end of a turn that
a user wrote would be the end of a turn. So spellings of control tokens are replaced by marks before
it renders, and come back after it as parts of their own, which are tokenized as text.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from corral_kernel.contracts import Message, Part, TextPart, Tokenizer

TRUSTED_ROLES: Final = frozenset({"system", "developer"})
"""Whose texts are the application's own."""
_NONCE_BYTES: Final = 8


class Spellings:
    """Of the control tokens of one tokenizer.

    Args:
        tokenizer: Whose.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = (tokenizer.pieces[i].decode(errors="replace") for i in tokenizer.control_ids)
        self.texts: Final = sorted(set(filter(None, pieces)))
        self._places = {text: place for place, text in enumerate(self.texts)}
        lengths: dict[str, set[int]] = {}
        for text in self.texts:
            lengths.setdefault(text[0], set()).add(len(text))
        # A vocabulary has up to thousands, most of which begin alike: no regular expression does.
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        self._firsts = re.compile(f"[{''.join(map(re.escape, lengths))}]" if lengths else "(?!)")

    def find(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Give where each spelling begins and ends, and which it is; the longest, from the left."""
        done = 0
        for found in self._firsts.finditer(text):
            start = found.start()
            if start < done:
                continue
            for length in self._lengths[found[0]]:
                place = self._places.get(text[start : start + length])
                if place is not None:
                    done = start + length
                    yield start, done, place
                    break


class Marks:
    """Marks in the texts of one conversation, which nobody can have written.

    Args:
        spellings: What is marked.
    """

    def __init__(self, spellings: Spellings) -> None:
        self._spellings = spellings
        self._nonce = secrets.token_hex(_NONCE_BYTES)

    def hide(self, message: Message) -> Message:
        """Put marks into a message, if others than the application wrote it."""
        if message.role in TRUSTED_ROLES:
            return message
        return msgspec.structs.replace(
            message,
            content=self._hidden(message.content),
            thinking=self._hidden(message.thinking),
            tool_calls=self._hidden(message.tool_calls),
        )

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._marked(value)
        if isinstance(value, dict):
            return {name: self._hidden(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self._hidden, value))
        return value

    def _marked(self, text: str) -> str:
        pieces, done = [], 0
        for start, end, place in self._spellings.find(text):
            pieces += [text[done:start], f"[{self._nonce}.{place}]"]
            done = end
        return "".join((*pieces, text[done:]))

    def show(self, parts: Sequence[Part]) -> list[Part]:
        """Put the spellings back, each a part of its own that is no control token."""
        mark = re.compile(rf"\[{self._nonce}\.([0-9]+)\]", re.IGNORECASE)
        shown: list[Part] = []
        for part in parts:
            if isinstance(part, TextPart):
                shown += self._split(part, mark)
            else:
                shown.append(part)
        return shown

    def _split(self, part: TextPart, mark: re.Pattern[str]) -> Iterator[TextPart]:
        for number, piece in enumerate(mark.split(part.text)):
            if number % 2:
                yield TextPart(self._spellings.texts[int(piece)], special=False)
            elif piece:
                yield TextPart(piece, part.special)
