"""Models of Hugging Face's Hub that it has no manifest of. Light: its library comes late."""

from collections.abc import Sequence

from corral_hub.registry import HubRegistry
from corral_kernel.contracts import Registry
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_registries() -> Sequence[Registry]:
    return [HubRegistry()]
