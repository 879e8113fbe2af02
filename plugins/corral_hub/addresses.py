"""Addresses of repositories: `hf://USER/REPOSITORY[@REVISION][:TAG]`."""

import re
from typing import Final, NamedTuple

from corral_kernel.errors import InvalidNameError
from corral_kernel.names import DEFAULT_TAG, ModelName, NameParts

SCHEME: Final = "hf://"
FORM: Final = "hf://USER/REPOSITORY[@REVISION][:TAG]"
HOST: Final = "hf.co"
DEFAULT_REVISION: Final = "main"

_ADDRESS: Final = re.compile(
    r"(?P<user>[^/@:\s]+)/(?P<repository>[^/@:\s]+)(?:@(?P<revision>[^@:\s]+))?(?::(?P<tag>[^/@:\s]+))?"
)
_REVISION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_LONGEST: Final = 1024


class Address(NamedTuple):
    """Where a model is.

    Args:
        name: That it gets here.
        revision: A branch, a tag or a commit of the repository.
    """

    name: ModelName
    revision: str = DEFAULT_REVISION

    @property
    def repository(self) -> str:
        """`USER/REPOSITORY`."""
        return f"{self.name.namespace}/{self.name.model}"

    @property
    def wish(self) -> str:
        """What of the repository is wanted; empty: what is best for most."""
        return "" if self.name.tag == DEFAULT_TAG else self.name.tag


def parse(text: str) -> Address | None:
    """Read an address; None: it is none of this form.

    Raises:
        InvalidNameError: If it is one, and wrong.
    """
    if not text.startswith(SCHEME):
        return None
    found = _ADDRESS.fullmatch(text[len(SCHEME) : _LONGEST])
    if found is None:
        raise InvalidNameError(f"{text[:200]!r} is no address of a model: wanted {FORM}")
    revision = found["revision"] or DEFAULT_REVISION
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise InvalidNameError(f"{revision[:200]!r} is no revision of a repository")
    parts = NameParts(HOST, found["user"], found["repository"], found["tag"] or DEFAULT_TAG)
    return Address(ModelName.from_parts(parts), revision)
