"""Models that lie in folders of this machine: listed and run where they are, never written to."""

from collections.abc import Sequence

from corral_folders.registry import FolderRegistry
from corral_kernel.contracts import Registry
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_registries() -> Sequence[Registry]:
    return [FolderRegistry()]
