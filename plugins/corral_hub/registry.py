"""The registry of Hugging Face's Hub."""

import importlib.util
from collections.abc import Sequence
from typing import Final

from corral_hub import addresses
from corral_kernel.contracts import Registry, RegistryCall, Repository
from corral_kernel.errors import RegistryError
from corral_kernel.names import ModelName

_LIBRARY: Final = "huggingface_hub"
_INSTALL: Final = f"{addresses.SCHEME} addresses need {_LIBRARY}: pip install 'corral[hub]'"


class HubRegistry(Registry):
    """Repositories of safetensors, loose GGUF files, or ONNX GenAI folders."""

    name = "hub"
    docs = "repositories of Hugging Face's Hub: safetensors (converted), GGUF files, ONNX folders"
    form = addresses.FORM

    def parse(self, text: str) -> ModelName | None:
        """Read `hf://USER/REPOSITORY[@REVISION][:TAG]`."""
        found = addresses.parse(text)
        return found.name if found else None

    def notes(self) -> Sequence[str]:
        """Say what to install."""
        return () if _is_installed() else (_INSTALL,)

    def open(self, call: RegistryCall) -> Repository:
        """Begin a pull; nothing is asked yet.

        Raises:
            RegistryError: If the library is not installed.
        """
        if not _is_installed():
            raise RegistryError(_INSTALL)
        address = addresses.parse(call.address)
        if address is None:
            raise RegistryError(f"{call.name.full} is no address of the Hub: {addresses.FORM}")
        from corral_hub.repository import HubRepository

        return HubRepository(address)


def _is_installed() -> bool:
    return importlib.util.find_spec(_LIBRARY) is not None
