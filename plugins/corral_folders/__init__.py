"""Models that lie in folders of this machine: listed and run where they are, never written to.

Light: what reads folders is imported where registries are asked for, which workers never do.
"""

from collections.abc import Sequence

from corral_kernel.contracts import Registry
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_registries() -> Sequence[Registry]:
    from corral_folders.registry import FolderRegistry

    return [FolderRegistry()]
