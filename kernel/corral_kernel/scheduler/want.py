"""What a request needs loaded, and whether what is loaded will do."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, json

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

    @property
    def is_light(self) -> bool:
        """Whether nothing of it lies in this machine's memory: it is a connection elsewhere."""
        memory = self.claim.memory
        return self.claim.takes == "chat" and not (memory.base_bytes or memory.per_token_bytes)

    def memory_bytes(self, slots: int) -> int:
        """What it is estimated to need."""
        return self.claim.memory.total_bytes(int(self.options["num_ctx"]), slots)

    def is_served_by(self, loaded: "Want") -> bool:
        """Whether a model loaded for another request will do, so that nothing is reloaded."""
        same_backend = self.plugin == loaded.plugin and self.claim.backend == loaded.claim.backend
        return same_backend and next(self.differing(loaded), None) is None

    def differing(self, loaded: "Want") -> Iterator[str]:
        """Names of load options for which what is loaded will not do."""
        ours, theirs = self.options, loaded.options
        plain = (ours.keys() | theirs.keys()) - NEVER_COMPARED
        yield from (name for name in sorted(plain) if ours.get(name) != theirs.get(name))
        for name in ("num_ctx", "num_batch"):
            both_automatic = name in self.automatic and name in loaded.automatic
            if not both_automatic and ours[name] != theirs[name]:
                yield name
        if ours["num_gpu"] >= 0 and ours["num_gpu"] != theirs["num_gpu"]:
            yield "num_gpu"
        if ours["use_mmap"] is not None and ours["use_mmap"] != theirs["use_mmap"]:
            yield "use_mmap"


def reload_warning(want: Want, loaded: Want) -> str:
    """What to tell who has a loaded model loaded anew."""
    if want.claim.backend != loaded.claim.backend:
        what = f"backend {want.claim.backend!r} instead of {loaded.claim.backend!r}"
    else:
        what = ", ".join(
            f"{name} {_shown(want.options.get(name))} instead of {_shown(loaded.options.get(name))}"
            for name in want.differing(loaded)
        )
    return (
        f"the model was loaded anew for this request ({what}); where requests with different load "
        "options alternate, each of them waits for a load: send all with the same"
    )


def _shown(value: Any) -> str:
    """Write a value as a request would have it."""
    return "unset" if value is None else json.encode(value).decode()
