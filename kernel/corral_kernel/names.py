"""Model names and digests: the only texts that paths in the store are ever built from.

name = ModelName.parse("hf.co/u/Foo-GGUF:Q4_K_M")   # InvalidNameError if it is no name
name.host, name.namespace, name.model, name.tag, name.scheme
name.full      "hf.co/u/Foo-GGUF:Q4_K_M": host/namespace/model:tag, always complete
name.short     the shortest text that means the same; the tag is always there
name.parts     (host, namespace, model, tag): the folders and file of its manifest
name.folded    `parts` in lower case: two names with equal `folded` are the same model

split_marker("gpt-oss:20b-cloud") -> ("gpt-oss:20b", "cloud")
parse_digest("sha256-AB…") -> "sha256:ab…"          # InvalidDigestError if it is no digest
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, Self

import msgspec

from corral_kernel.errors import InvalidDigestError, InvalidNameError

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
DEFAULT_SCHEME = "https"

Marker = Literal["cloud", "local"]

# fullmatch only: `$` would let a final newline through.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_MODEL_OR_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
# Longer than any name can be; keeps a hostile text out of the patterns and of error messages.
_LONGEST = 1024


class NameParts(NamedTuple):
    """The four parts that tell models apart; also the path of a manifest."""

    host: str
    namespace: str
    model: str
    tag: str


class ModelName(msgspec.Struct, frozen=True, eq=True, order=True):
    """A complete, valid model name. Make one with `parse` or `from_parts`."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = DEFAULT_SCHEME

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[scheme://][host/][namespace/]model[:tag]`, with defaults for what is left out.

        Raises:
            InvalidNameError: If `text` breaks the grammar.
        """
        rest, tag = text, DEFAULT_TAG
        if text.rfind(":") > text.rfind("/"):
            rest, _, tag = text.rpartition(":")
        rest, slash, model = rest.rpartition("/")
        host, namespace, scheme = DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_SCHEME
        if slash:
            rest, slash, namespace = rest.rpartition("/")
        if slash:
            before, found, after = rest.partition("://")
            scheme, host = (before or DEFAULT_SCHEME, after) if found else (DEFAULT_SCHEME, rest)
        return cls.from_parts(NameParts(host, namespace, model, tag), scheme)

    @classmethod
    def from_parts(cls, parts: NameParts, scheme: str = DEFAULT_SCHEME) -> Self:
        """Make a name of four complete parts.

        Raises:
            InvalidNameError: If a part breaks the grammar.
        """
        valid = (
            _HOST.fullmatch(parts.host)
            and _NAMESPACE.fullmatch(parts.namespace)
            and _MODEL_OR_TAG.fullmatch(parts.model)
            and _MODEL_OR_TAG.fullmatch(parts.tag)
            and len(scheme) <= _LONGEST
        )
        if not valid:
            raise InvalidNameError("invalid model name")
        return cls(*parts, scheme)

    @property
    def parts(self) -> NameParts:
        """Host, namespace, model and tag as spelled."""
        return NameParts(self.host, self.namespace, self.model, self.tag)

    @property
    def folded(self) -> NameParts:
        """The parts in lower case; names are ASCII, so this is all of case folding."""
        return NameParts(*(part.lower() for part in self.parts))

    @property
    def full(self) -> str:
        """`host/namespace/model:tag`, nothing left out but the scheme."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """What users are shown: the default host and namespace left out, the tag kept."""
        if self.host.lower() != DEFAULT_HOST:
            return self.full
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    def same_as(self, other: "ModelName") -> bool:
        """Tell whether both names mean the same model, whatever the letter case."""
        return self.folded == other.folded

    def spelled_like(self, existing: Iterable["ModelName"]) -> "ModelName":
        """Take over the spelling of models that exist, so that case never makes a second one.

        A model that is the same as a whole lends its whole spelling. Else each part is replaced
        on its own by the first equal part among `existing`: `foo/new` becomes `Foo/new` where
        there is any `Foo/…`.
        """
        spelling: list[str | None] = [None] * len(self.parts)
        for name in existing:
            if name.same_as(self):
                return ModelName(*name.parts, self.scheme)
            for i, (mine, theirs) in enumerate(zip(self.parts, name.parts, strict=True)):
                if mine == theirs or (spelling[i] is None and mine.lower() == theirs.lower()):
                    spelling[i] = theirs
        parts = (new or old for new, old in zip(spelling, self.parts, strict=True))
        return ModelName(*NameParts(*parts), self.scheme)


def split_marker(text: str) -> tuple[str, Marker | None]:
    """Cut the source marker (`:cloud`, `:local`, `-cloud`) off a model reference.

    Returns:
        The reference without the marker, and the marker or `None`.

    Raises:
        InvalidNameError: If there are two markers.
    """
    base, marker = _cut_marker(text.strip())
    if marker is not None and _cut_marker(base)[1] is not None:
        raise InvalidNameError(f'use either :local or :cloud, not both: "{text[:_LONGEST]}"')
    return base, marker


def _cut_marker(text: str) -> tuple[str, Marker | None]:
    base, colon, suffix = text.rpartition(":")
    suffix = suffix.strip()
    folded = suffix.lower()
    if not colon:
        return text, None
    if folded == "cloud":
        return base, "cloud"
    if folded == "local":
        return base, "local"
    if folded.endswith("-cloud") and "/" not in suffix:
        return f"{base}:{suffix.removesuffix(suffix[-len('-cloud') :])}", "cloud"
    return text, None


def parse_digest(text: str) -> str:
    """Read `sha256:HEX` or `sha256-HEX` and give it back as `sha256:hex` in lower case.

    Raises:
        InvalidDigestError: If `text` is anything else.
    """
    found = _DIGEST.fullmatch(text)
    if found is None:
        raise InvalidDigestError("invalid digest format")
    return f"sha256:{found[1].lower()}"


def blob_filename(digest: str) -> str:
    """Name the file that holds a blob: `sha256-hex`.

    Raises:
        InvalidDigestError: If `digest` is no digest.
    """
    return parse_digest(digest).replace(":", "-")
