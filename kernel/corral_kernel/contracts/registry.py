"""Where models come from."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from corral_kernel.models import Layer, LentModel
from corral_kernel.names import ModelName


class RegistryPlaces(Struct, frozen=True, kw_only=True):
    """Where a server keeps what, and which folders of others it was pointed to.

    Args:
        home: The folder of the server's own files.
        models_dir: The store: nothing in it is to be lent.
        folders: That the user lists (`CORRAL_MODEL_PATHS`).
        usual: Where other programs keep models that nobody needs to list.
    """

    home: Path
    models_dir: Path
    folders: tuple[Path, ...] = ()
    usual: tuple[Path, ...] = ()


class RegistryCall(Struct, frozen=True, kw_only=True):
    """What a pull or a push asks a registry for.

    Args:
        name: The model.
        home: The folder of the server's own files; keys lie there.
        insecure: Whether the user asked for plain http.
        auth: Users of registries as `CORRAL_REGISTRY_AUTH` has them; not to be shown anywhere.
        address: What the user wrote, where `Registry.parse` read it; else empty.
    """

    name: ModelName
    home: Path
    address: str = ""
    insecure: bool = False
    auth: str = ""


class Ingredients(Struct, frozen=True, kw_only=True):
    """Files that a model is made of after they have come, as `corral create` makes it.

    Args:
        files: Each with the name that it has among them.
        template: Of Go's kind; empty: what the weights say.
        system: Prompt; empty: none.
        licenses: Texts.
        parameters: Defaults of options.
    """

    files: Sequence[Layer]
    template: str = ""
    system: str = ""
    licenses: Sequence[str] = ()
    parameters: Mapping[str, Any] = {}


class Repository:
    """The place of one model in a registry, during one pull or push.

    Lives in the server, on its event loop: nothing here may block it. Several reads may be under
    way at once. What fails is a `RegistryError`; one that may be gone at another try is a
    `RegistryUnavailableError`, after which the kernel asks again where that makes sense.
    """

    async def ingredients(self) -> Ingredients | None:
        """Tell what a model is to be made of; None: there is a manifest, which says it.

        Raises:
            RegistryError: As for `manifest`.
        """
        return None

    async def manifest(self) -> bytes:
        """Give the manifest's own bytes, of which the kernel takes 4 MiB at most.

        Raises:
            RegistryError: With the message `file does not exist` if there is none.
        """
        raise NotImplementedError

    def read(self, layer: Layer, start: int, end: int) -> AsyncGenerator[bytes]:
        """Give the bytes of a blob from `start` on, in pieces of any size.

        The kernel closes the generator as soon as it has `end - start` bytes, and when nothing
        comes for long. It checks the digest of the whole, so a registry need not.

        Raises:
            NoRangesError: If it can only give blobs from their beginning, and `start` is another.
            RegistryError: If there is no such blob, or one of another size.
        """
        raise NotImplementedError

    async def has(self, layer: Layer) -> bool:
        """Whether the registry holds a blob of the model already."""
        raise NotImplementedError

    async def send(self, layer: Layer, path: Path, tell: Callable[[int], None]) -> None:
        """Put a blob into the registry.

        Args:
            layer: What the manifest says of it; `inherited_from` names a model that may have it.
            path: The file; it stays there meanwhile.
            tell: To be called with the bytes that are sent so far; fewer after a new beginning.
        """
        raise NotImplementedError

    async def put_manifest(self, raw: bytes) -> None:
        """Put the manifest's own bytes into the registry; all its blobs are there by then."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close all connections; called once, when no other method runs any more."""


class Registry:
    """A source of models; lives in the server. It lends, or it moves blobs, or both.

    Attributes:
        name: What it is listed by.
        docs: One line for people: what it is.
        claims: One line for people: which names it pulls and pushes; empty: none, it only lends.
        form: Of the addresses that `parse` reads, for people; empty: it reads none.
    """

    name: str
    docs: str = ""
    claims: str = ""
    form: str = ""

    def begin(self, places: RegistryPlaces) -> None:
        """Learn where the server's files are; called once, before anything else is asked."""
        del places

    def notes(self) -> Sequence[str]:
        """Say what users should know: folders that cannot be read, what is left out and why."""
        return ()

    def lent(self) -> Sequence[LentModel]:
        """Models served in place, without a pull; asked again whenever models are listed.

        Must be quick (milliseconds) and read metadata alone. An exception counts as none.
        """
        return ()

    def claim(self, name: ModelName) -> float:
        """Say how much a name is this registry's to pull and push: above 0 is a claim.

        The highest claim wins, of equal ones the first. The registry that speaks Ollama's own
        protocol claims every name by 0.1. Must not ask the network. An exception counts as none.
        """
        del name
        return 0.0

    def parse(self, text: str) -> ModelName | None:
        """Read an address of a form of its own, such as `hf://user/repo`; None: it is none.

        Returns:
            The name that the model gets here. `open` is given the address too.

        Raises:
            InvalidNameError: If it is one of this form, and wrong.
        """
        del text
        return None

    def open(self, call: RegistryCall) -> Repository:
        """Begin a pull or push of a name that was claimed. Must not ask the network yet.

        Raises:
            RegistryError: If nothing can be asked, such as for want of a library.
        """
        raise NotImplementedError
