"""Pull and push over the protocol of Ollama's registry and of OCI ones. Light: HTTP comes late."""

from collections.abc import Sequence

from corral_kernel.contracts import Registry
from corral_kernel.plugins import hookimpl
from corral_oci.registry import OciRegistry

CORRAL_API_VERSION = 1


@hookimpl
def corral_registries() -> Sequence[Registry]:
    return [OciRegistry()]
