"""How much memory a model takes, which ONNX Runtime does not tell."""

import os
from collections.abc import Sequence
from pathlib import Path

from corral_kernel.contracts import FileRef
from corral_onnx.config import WEIGHTS

_STATM = Path("/proc/self/statm")  # sizes in pages; the second is what lies in memory


class Growth:
    """What this process has come to hold since this was made.

    Args:
        files: Of the model that is loaded meanwhile.
    """

    def __init__(self, files: Sequence[FileRef]) -> None:
        self._weights = sum(file.size_bytes for file in files if file.name.endswith(WEIGHTS))
        self._before = _resident_bytes()

    def bytes(self) -> int:
        """Bytes that were added to memory, and no less than the weights' files have.

        They are more where weights are repacked, and fewer where memory that was free before is
        used again, where weights lie on a device, or where the system does not tell.
        """
        return max(_resident_bytes() - self._before, self._weights)


def _resident_bytes() -> int:
    if not _STATM.exists():
        return 0  # no Linux
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
