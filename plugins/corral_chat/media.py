"""Places of images and sounds: marks in the texts that a template shows, then parts instead."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence

import msgspec

from corral_kernel.contracts import MediaPart, Message, Part, TextPart
from corral_kernel.errors import TemplateError

PLACE = "[img]"
"""What a user writes where an image is to be; those without a place go before the text."""
_NONCE_BYTES = 8


class Places:
    """Marks for the media of a conversation, which nobody can have written.

    Attributes:
        messages: With marks in their texts, and without media.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._nonce = secrets.token_hex(_NONCE_BYTES)
        self._media: list[MediaPart] = []
        self.messages = tuple(self._marked(message) for message in messages)

    def _marked(self, message: Message) -> Message:
        if not message.media:
            return message
        content, before = message.content, ""
        for one in message.media:
            mark = f"<media-{self._nonce}-{len(self._media)}>"
            self._media.append(one)
            if PLACE in content:
                content = content.replace(PLACE, mark, 1)
            else:
                before += mark
        return msgspec.structs.replace(message, content=before + content, media=())

    def parts(self, text: str) -> Sequence[Part]:
        """Put the media where their marks are.

        Raises:
            TemplateError: If the template does not show a mark.
        """
        if not self._media:
            return [TextPart(text)]
        shown = [part for part in self._split(text) if part != TextPart("")]
        if missing := len(self._media) - len({id(p) for p in shown if isinstance(p, MediaPart)}):
            raise TemplateError(
                f"the chat template does not show {missing} of {len(self._media)} images or sounds"
            )
        return shown

    def _split(self, text: str) -> Iterator[Part]:
        pieces = re.split(f"<media-{self._nonce}-([0-9]+)>", text)
        yield TextPart(pieces[0])
        for number, following in zip(pieces[1::2], pieces[2::2], strict=True):
            yield self._media[int(number)]
            yield TextPart(following)
