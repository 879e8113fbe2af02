"""What is derived from blobs, kept by digest beside the store: it can be deleted at any time.

Two kinds of facts: heads of GGUF files, and that a file outside the store has the digest that its
lender says. A damaged entry counts as none and is written anew.
"""

import contextlib
import hashlib
import threading
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import GgufHeader, read_header
from corral_kernel.store.files import (
    FOLDER_MODE,
    WRITING_SUFFIX,
    files_in,
    open_regular,
    replace_file,
    sweep_oldest,
    sweep_unfinished,
)
from corral_kernel.store.hashing import digest_of_file

# Raise when the structs change: older entries then count as damaged.
_FORMAT = b"corral01"
# Kinds of facts, and how many of each are kept.
_KINDS = {"gguf": 1024, "verified": 8192}
_MAX_ENTRY_BYTES = 64 << 20
_IN_MEMORY = 32
_HASH_CHUNK_BYTES = 1 << 20

_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(GgufHeader)


def file_key(path: Path) -> str:
    """Name a file in its present state: another content, size or time gives another key."""
    stat = path.stat()
    state = f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}\n{stat.st_ino}"
    return hashlib.sha256(state.encode("utf-8", "surrogateescape")).hexdigest()


class DerivedCache:
    """Facts on disk, the latest heads in memory too. Any number of threads may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._heads: dict[str, GgufHeader] = {}
        self._lock = threading.Lock()  # around changes of `_heads`

    def header(self, path: Path, key: str) -> GgufHeader:
        """Give the head of a GGUF file, read from the file only once.

        Args:
            path: The file.
            key: What stays the same as long as the content does: a digest's hex, or a `file_key`.

        Raises:
            NotGgufError: If it is no GGUF file.
            InvalidModelError: If its head is damaged.
            OSError: If it cannot be read.
        """
        size_bytes = path.stat().st_size
        found = self._heads.get(key) or self._load_header(key)
        if found is None or found.size_bytes != size_bytes:
            found = read_header(path)
            self._save(self._header_path(key), _encoder.encode(found))
        with self._lock:
            self._heads.pop(key, None)
            self._heads[key] = found  # the last of them is the latest used
            if len(self._heads) > _IN_MEMORY:
                del self._heads[next(iter(self._heads))]
        return found

    def forget(self, digest: str) -> None:
        """Drop the head of a blob that was deleted."""
        key = digest.partition(":")[2]
        with self._lock:
            self._heads.pop(key, None)
        with contextlib.suppress(OSError):
            self._header_path(key).unlink()

    def drop(self, kept: Collection[str], *, dry_run: bool) -> list[int]:
        """Delete what is known of files that are gone.

        Args:
            kept: The keys of those that are there.
            dry_run: Delete nothing.

        Returns:
            Bytes of each entry that is deleted.
        """
        sizes = []
        for entry in (e for name in _KINDS for e in files_in(self._folder / name)):
            if entry.name not in kept and not entry.name.endswith(WRITING_SUFFIX):
                with contextlib.suppress(OSError):
                    sizes.append(entry.stat().st_size)
                    if not dry_run:
                        Path(entry.path).unlink()
        return sizes

    def verify(self, path: Path, digest: str, owner: str) -> None:
        """Make sure that a file has a digest; its content is hashed only once.

        Raises:
            InvalidModelError: If it has another.
            OSError: If it cannot be read.
        """
        mark = self._folder / "verified" / file_key(path)
        if self._read(mark) == digest.encode():
            return
        with open_regular(path) as stream:
            found = digest_of_file(stream)
        if found != digest:
            raise InvalidModelError(
                f"{path} of {owner} has the digest {found}, not {digest}: "
                "it is damaged; put it there again"
            )
        self._save(mark, digest.encode())

    def known_digest(self, path: Path) -> str | None:
        """Give the digest of a file that was hashed in its present state; reads no more of it.

        Raises:
            OSError: If the file is not there.
        """
        raw = self._read(self._folder / "verified" / file_key(path))
        return None if raw is None else raw.decode("ascii", "replace")

    def digest(self, path: Path, hashing: Callable[[bytes], None] = lambda _: None) -> str:
        """Give the digest of a file, which is read from end to end unless it was before.

        Args:
            path: The file.
            hashing: Called after each piece of the file; what it raises ends the work.

        Raises:
            InvalidModelError: If the file changes meanwhile.
            OSError: If it cannot be read.
        """
        if known := self.known_digest(path):
            return known
        key, hasher = file_key(path), hashlib.sha256()
        with open_regular(path) as stream:
            while piece := stream.read(_HASH_CHUNK_BYTES):
                hasher.update(piece)
                hashing(piece)
        if file_key(path) != key:
            raise InvalidModelError(f"{path} is being changed: ask again when it is whole")
        digest = f"sha256:{hasher.hexdigest()}"
        self._save(self._folder / "verified" / key, digest.encode())
        return digest

    def sweep(self) -> None:
        """Keep the number of entries within bounds; remove what crashed writers left."""
        for name, most in _KINDS.items():
            folder = self._folder / name
            sweep_unfinished(folder)
            sweep_oldest(folder, most)

    def _header_path(self, key: str) -> Path:
        return self._folder / "gguf" / key

    def _load_header(self, key: str) -> GgufHeader | None:
        payload = self._read(self._header_path(key))
        if payload is None:
            return None
        with contextlib.suppress(msgspec.MsgspecError):
            return _header_decoder.decode(payload)
        return None

    def _read(self, path: Path) -> bytes | None:
        try:
            with open_regular(path) as stream:
                raw = stream.read(_MAX_ENTRY_BYTES)
        except OSError:
            return None
        start = len(_FORMAT) + 4
        if raw[: len(_FORMAT)] != _FORMAT or raw[len(_FORMAT) : start] != _checksum(raw[start:]):
            return None
        return raw[start:]

    def _save(self, path: Path, payload: bytes) -> None:
        # A cache that cannot be written (a full disk) costs time, not an answer; nor does an entry
        # that a power failure damages: its checksum tells.
        with contextlib.suppress(OSError):
            path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            replace_file(
                path, _FORMAT + _checksum(payload) + payload, path.parent, ".", lasting=False
            )


def _checksum(payload: bytes) -> bytes:
    return zlib.crc32(payload).to_bytes(4, "little")
