"""What a request needs loaded, and whether what is loaded will do."""

from typing import Any

from msgspec import Struct

from corral_kernel.contracts import Claim, FileRef
from corral_kernel.models import Model

NEVER_COMPARED = frozenset({"num_ctx", "num_batch", "num_gpu", "use_mmap"})


class Want(Struct, frozen=True, kw_only=True):
    """A model and how it is to be loaded.

    Args:
        key: Requests of equal keys share a worker.
        model: For people; the one whose request loads it.
        plugin: Entry-point name of the plugin that claims it.
        claim: Its bid.
        options: Effective load options.
        automatic: Names of the options that nobody asked for: their values were chosen here.
        files: To load.
        slots: Requests at once; None: chosen by memory when it is loaded.
    """

    key: str
    model: Model
    plugin: str
    claim: Claim
    options: dict[str, Any]
    automatic: frozenset[str]
    files: tuple[FileRef, ...]
    slots: int | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return self.model.name.short

    def memory_bytes(self, slots: int) -> int:
        """What it is estimated to need."""
        return self.claim.memory.total_bytes(int(self.options["num_ctx"]), slots)

    def is_served_by(self, loaded: "Want") -> bool:
        """Whether a model loaded for another request will do, so that nothing is reloaded."""
        if self.plugin != loaded.plugin or self.claim.backend != loaded.claim.backend:
            return False
        ours, theirs = self.options, loaded.options
        plain = (ours.keys() | theirs.keys()) - NEVER_COMPARED
        if any(ours.get(name) != theirs.get(name) for name in plain):
            return False
        for name in ("num_ctx", "num_batch"):
            both_automatic = name in self.automatic and name in loaded.automatic
            if not both_automatic and ours[name] != theirs[name]:
                return False
        if ours["num_gpu"] >= 0 and ours["num_gpu"] != theirs["num_gpu"]:
            return False
        return ours["use_mmap"] is None or ours["use_mmap"] == theirs["use_mmap"]
