"""Where models came from: by the digest of a manifest the address that it was fetched from.

    sources = Sources(home / "sources")
    sources.note("sha256:…", Source(registry="oci", address="hf.co/u/m:Q4_0"))
    sources.find("sha256:…")                # None: it was not fetched by us, or that is long ago

Kept beside the server's own files, not in the store: to lose it costs only what it tells. A model
that is copied has the same manifest, and so the same source.
"""

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from corral_kernel.names import blob_filename
from corral_kernel.store.files import (
    FOLDER_MODE,
    read_regular,
    replace_file,
    sweep_oldest,
    sweep_unfinished,
)

_MAX_ENTRIES: Final = 4096
_MAX_BYTES: Final = 1 << 16


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model came from, or was put.

    Args:
        registry: The registry's name.
        address: What it is asked for by, such as a model's whole name.
    """

    registry: str = ""
    address: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Source)


class Sources:
    """The sources that are known. Any number of threads and processes may use them at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, manifest: str, source: Source) -> None:
        """Note where a manifest came from; where that cannot be written it stays unknown."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            replace_file(self._path(manifest), _encoder.encode(source), self._folder, ".")

    def find(self, manifest: str) -> Source | None:
        """Tell where a manifest came from, as far as that is known."""
        try:
            return _decoder.decode(read_regular(self._path(manifest), _MAX_BYTES))
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def sweep(self) -> None:
        """Keep their number within bounds; remove what crashed writers left."""
        sweep_unfinished(self._folder)
        sweep_oldest(self._folder, _MAX_ENTRIES)

    def _path(self, manifest: str) -> Path:
        return self._folder / blob_filename(manifest)
