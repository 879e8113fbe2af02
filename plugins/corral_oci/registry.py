"""The registry of all names that nobody else claims: the host in the name is asked."""

from typing import Final

from corral_kernel.contracts import Registry, RegistryCall, Repository
from corral_kernel.names import ModelName

_CONFIDENCE: Final = 0.1


class OciRegistry(Registry):
    """Ollama's registry, Hugging Face's Ollama route, and every registry as Docker has them."""

    name = "oci"
    docs = "registries that speak Ollama's protocol or OCI's: Ollama's, hf.co, Docker's"
    claims = "every name that nobody claims higher: its host is asked (registry.ollama.ai if none)"

    def claim(self, name: ModelName) -> float:
        """Claim every name, by little: whoever knows a host better goes before."""
        del name
        return _CONFIDENCE

    def open(self, call: RegistryCall) -> Repository:
        """Begin a pull or push; nothing is asked yet."""
        from corral_oci.repository import OciRepository

        return OciRepository(call)
