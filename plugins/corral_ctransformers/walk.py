"""Our own walk over a legacy GGML file, before the library opens it.

The library believes such a file: it hangs, exits, runs out of its memory or computes with what lay
there where counts, lengths or names are wrong. So everything is checked here that its loaders
(`models/llms/*.cc`, `llama-ggml.cpp`, `libfalcon.cpp` of ctransformers 0.2.27) rely upon: each
number of the head, each token, each tensor's name, type and shape, that all are there once, and
that the file ends with the last. Weights are passed over: any value is one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corral_ctransformers.contents import read_tensors
from corral_ctransformers.fields import checked_fields
from corral_ctransformers.layouts import LAYOUTS, VERSIONS, Layout
from corral_ctransformers.reader import Reader
from corral_ctransformers.tensors import TYPES
from corral_kernel.errors import LoadError

_TOKEN_BYTES = 1024  # the longest piece of the vocabularies in use is 512 spaces


@dataclass(frozen=True)
class GgmlFile:
    """What a file says of its model.

    Attributes:
        layout: Its architecture's.
        magic: Its first four bytes.
        version: After them; 0: none.
        fields: The whole numbers of its head, and `shared_heads`: heads that share keys.
        pieces: The bytes of each token, as they stand there.
        scores: Of each token, where there are scores; else empty.
        merges: Of falcon's tokenizer, the first to do first; else empty.
        weights_bytes: Of all tensors.
        type_name: Of most of them, for people.
    """

    layout: Layout
    magic: bytes
    version: int
    fields: dict[str, int]
    pieces: tuple[bytes, ...]
    scores: tuple[float, ...]
    merges: tuple[tuple[bytes, bytes], ...]
    weights_bytes: int
    type_name: str


def walk(
    path: Path, layout: Layout, report: Callable[[float], bool] = lambda _share: True
) -> GgmlFile:
    """Read a file as one of an architecture.

    Args:
        path: Of the file.
        layout: The architecture's.
        report: Told the share that was passed; False from it gives up.

    Raises:
        LoadError: With what is wrong, and at which byte.
    """
    with Reader(path) as reader:
        try:
            return _walk(reader, layout, report)
        except LoadError as error:
            raise LoadError(f"this is no readable {layout.name} file: {error}") from None


def layouts_that_fit(path: Path) -> list[str]:
    """Names of the architectures as whose files this one can be read."""
    fitting = []
    for name, layout in LAYOUTS.items():
        try:
            walk(path, layout)
        except LoadError:
            continue
        fitting.append(name)
    return fitting


def read_magic(path: Path) -> bytes:
    """The first four bytes of a file."""
    with path.open("rb") as file:
        return file.read(4)


def _walk(reader: Reader, layout: Layout, report: Callable[[float], bool]) -> GgmlFile:
    magic, version = kind = _beginning(reader, layout)
    fields = checked_fields(reader, layout, kind)
    pieces, scores = _vocabulary(reader, layout, fields["n_vocab"])
    merges = _merges(reader, fields["n_merges"]) if "n_merges" in fields else ()
    start = reader.position
    stored = [
        tensor.type_id for tensor in read_tensors(reader, layout, fields, kind, report).values()
    ]
    return GgmlFile(
        layout=layout,
        magic=magic,
        version=version,
        fields=fields,
        pieces=pieces,
        scores=scores,
        merges=merges,
        weights_bytes=reader.size - start,
        type_name=TYPES[max(stored, key=lambda i: (stored.count(i) * (i > 0), i))].name,
    )


def _beginning(reader: Reader, layout: Layout) -> tuple[bytes, int]:
    magic = reader.take(4, "the magic")
    if magic not in VERSIONS:
        raise LoadError(f"it begins with {magic!r}, as no GGML file does")
    if magic not in layout.magics:
        wanted = " or ".join(sorted(_shown(magic) for magic in layout.magics))
        raise LoadError(f"it is of the kind {_shown(magic)}; the library reads {wanted} here")
    if not VERSIONS[magic]:
        return magic, 0
    (version,) = reader.integers(1, "the version")
    if version not in VERSIONS[magic]:
        known = ", ".join(map(str, sorted(VERSIONS[magic])))
        raise LoadError(f"{_shown(magic)} of version {version} is unknown; known: {known}")
    return magic, version


def _shown(magic: bytes) -> str:
    return magic[::-1].decode()


def _vocabulary(
    reader: Reader, layout: Layout, count: int
) -> tuple[tuple[bytes, ...], tuple[float, ...]]:
    if layout.counted:
        at = reader.position
        (again,) = reader.integers(1, "the count of tokens")
        if again != count:
            raise LoadError(
                f"damaged: n_vocab is {count}, the vocabulary at byte {at} counts {again} tokens"
            )
    pieces: list[bytes] = []
    scores: list[float] = []
    for i in range(count):
        pieces.append(_text(reader, "a token"))
        if layout.scored:
            scores.append(reader.float32("the score of a token"))
        if layout.name == "mpt":
            _check_utf8(pieces[-1], i)
    return tuple(pieces), tuple(scores)


def _text(reader: Reader, what: str) -> bytes:
    at = reader.position
    (length,) = reader.integers(1, f"the length of {what}")
    if not 0 <= length <= _TOKEN_BYTES:
        raise LoadError(f"damaged: {what} of {length} bytes at byte {at}")
    return reader.take(length, what)


def _check_utf8(piece: bytes, token_id: int) -> None:
    """The library ends the process where it cannot turn a token of mpt into wide characters."""
    try:
        piece.decode()
    except UnicodeDecodeError:
        raise LoadError(f"damaged: token {token_id} is no UTF-8 text") from None


def _merges(reader: Reader, told: int) -> tuple[tuple[bytes, bytes], ...]:
    at = reader.position
    (count,) = reader.integers(1, "the count of merges")
    if count != told:
        raise LoadError(f"damaged: the head tells {told} merges, at byte {at} {count} are counted")
    return tuple((_text(reader, "a merge"), _text(reader, "a merge")) for _ in range(count))
