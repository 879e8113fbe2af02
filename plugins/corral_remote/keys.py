"""Keys of other servers: given by reference, held so that nothing prints them.

key = resolve("env:VLLM_KEY")   # or "file:/run/secrets/vllm"
str(key)                        # "***"
key.reveal()                    # for the one header that carries it
"""

import html
import os
import re
from pathlib import Path
from typing import Final

from corral_kernel.errors import InvalidRequestError

_KEY_BYTES: Final = 16 << 10
# What a header can carry, and JSON as it is; no blank, no line end.
_PRINTABLE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_HIDDEN: Final = "***"


class Secret:
    """A text that is shown as `***`; an empty one is no key at all.

    Attributes:
        reference: Where it came from, which is no secret.
    """

    __slots__ = ("_spelled", "_text", "reference")

    def __init__(self, text: str = "", reference: str = "") -> None:
        self._text = text
        self._spelled = re.compile("".join(map(_spellings, text)), re.IGNORECASE)
        self.reference = reference

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return f"Secret({_HIDDEN})" if self else "Secret()"

    def __str__(self) -> str:
        return _HIDDEN if self else ""

    def reveal(self) -> str:
        """Give the text itself, for the header that carries it and nothing else."""
        return self._text

    def scrub(self, text: str) -> str:
        """Take the key out of what another server said, which may repeat it, escaped or not."""
        return self._spelled.sub(_HIDDEN, text) if self else text


def _spellings(character: str) -> str:
    """A pattern for a character as JSON, JSON within JSON, HTML and URLs may write it."""
    code = f"{ord(character):02x}"
    forms = {re.escape(character), re.escape(html.escape(character)), f"u00{code}", f"%{code}"}
    return rf"\\*(?:{'|'.join(sorted(forms))})"


def resolve(reference: str) -> Secret:
    """Read a key from where a reference says that it is; in a worker, when a model is loaded.

    Args:
        reference: `env:NAME`, `file:PATH`, or empty for none.

    Raises:
        InvalidRequestError: If it is no reference, or what it names is not there or is no key.
            The error tells the reference and never what was found.
    """
    if not reference:
        return Secret()
    kind, _, place = reference.partition(":")
    if kind == "env" and place:
        text = os.environ.get(place, "")
    elif kind == "file" and place:
        text = _file(Path(place).expanduser())
    else:
        raise InvalidRequestError(
            "an api_key is a reference, never the key itself: write env:NAME or file:PATH"
        )
    return _checked(text.strip(), reference)


def _checked(text: str, reference: str) -> Secret:
    if not text:
        raise InvalidRequestError(
            f"api_key {reference!r}: nothing is set there where Corral's server runs"
        )
    if not _PRINTABLE.fullmatch(text):
        raise InvalidRequestError(
            f"api_key {reference!r}: what is there is no key: one line of ASCII without blanks"
        )
    return Secret(text, reference)


def _file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_KEY_BYTES + 1)
    except OSError as error:
        raise InvalidRequestError(f"api_key: {path}: {error.strerror}") from None
    if len(data) > _KEY_BYTES:
        raise InvalidRequestError(f"api_key: {path} has over {_KEY_BYTES} bytes: that is no key")
    return data.decode("latin-1")
