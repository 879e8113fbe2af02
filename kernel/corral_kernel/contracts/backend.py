"""What a backend says of itself and of a model, before anything is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct


class LoadOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options whose change reloads a model; a backend's own struct subclasses this one.

    A field's `Meta(description=…)` is what `GET /api/options` and the docs show of it. The kernel
    fills `num_ctx` and `num_batch` (both in tokens) with their effective values before loading.
    """

    # Below 4 it is raised, not refused: so it is in Ollama.
    num_ctx: Annotated[
        int, Meta(description="tokens a request may occupy, at least 4; 0: automatic")
    ] = 0
    num_batch: Annotated[
        int, Meta(ge=0, description="tokens fed in one step at most; 0: automatic")
    ] = 0
    num_gpu: Annotated[int, Meta(description="layers on the GPU; negative: automatic")] = -1
    main_gpu: Annotated[int | None, Meta(description="index of the only GPU to use")] = None
    use_mmap: Annotated[bool | None, Meta(description="map the weights; unset: automatic")] = None
    num_thread: Annotated[int, Meta(ge=0, le=512, description="CPU threads; 0: automatic")] = 0
    draft_num_predict: (
        Annotated[int, Meta(ge=0, description="draft tokens a step; unset: none")] | None
    ) = None


class Backend(Struct, frozen=True, kw_only=True):
    """A backend as listed: its name, load options and what it needs installed.

    Args:
        name: What `PARAMETER backend` and `options.backend` choose it by.
        options: Its load options, a subclass of `LoadOptions`.
        docs: One line for people.
        library: Import name of the library that it stands on; while that is not installed, the
            backend makes no bids and is listed as unavailable. Empty: needs none.
        extra: What to install then, such as `corral[llamacpp]`.
    """

    name: str
    options: type[LoadOptions] = LoadOptions
    docs: str = ""
    library: str = ""
    extra: str = ""


class MemoryNeed(Struct, frozen=True, kw_only=True):
    """An estimate of a loaded model's memory, in bytes: `base + context_tokens * per_token`.

    Args:
        base_bytes: Weights and what does not depend on the context.
        per_token_bytes: Of one position of context, of one slot.
    """

    base_bytes: int
    per_token_bytes: int = 0

    def total_bytes(self, context_tokens: int, slots: int) -> int:
        """Memory of `slots` requests of `context_tokens` each."""
        return self.base_bytes + self.per_token_bytes * context_tokens * slots


class FileRef(Struct, frozen=True, kw_only=True):
    """One file of a model, named by digest; `path` is where the launcher put it, for the worker.

    Args:
        role: `weights`, `adapter`, `projector`, `draft` or `file`.
        digest: `sha256:` and 64 hexadecimal digits.
        size_bytes: Of the file.
        name: Its path inside a model directory, with slashes; empty for a single file.
        path: On the worker's machine; for a `file` of a directory it ends with `name`.
    """

    role: str
    digest: str
    size_bytes: int
    name: str = ""
    path: str = ""


class Claim(Struct, frozen=True, kw_only=True):
    """A backend's bid for a model.

    Args:
        backend: The bidding backend's name.
        confidence: In (0, 1]; the highest wins.
        why: One clause for people: "a GGUF of architecture llama".
        capabilities: Of `completion`, `embedding`, `vision`, …; only what works.
        context_tokens: Trained context; 0: unknown.
        memory: Estimate for the scheduler.
        slots: Requests that one worker can run at once; 0: as many as the scheduler likes.
        environment: Variables that the worker sets before it imports the backend.
        share_key: Models with equal keys are served by one worker. Empty: the weights' digest.
        takes: What its engine is given: `tokens`, or as `TextEngine.takes` says. An engine that
            takes chats and needs no memory counts as no loaded model: all it has is a connection.
        sampling: Flat options of sampling that a `TextEngine` obeys; a request for others is
            refused before anything is loaded. None: the engine tells.
        formats: Kinds of `format` that it enforces: `json`, `schema`, or the `type` that such an
            object names. None: the engine tells.
        ignored: Load options that change nothing for this model, and what to tell who sets them,
            as in `EngineInfo.warnings`. They stay at their defaults, so that they reload nothing.
        private: What it tells its own `corral_load`; shown to nobody.
    """

    backend: str
    confidence: Annotated[float, Meta(gt=0, le=1)]
    why: str
    capabilities: tuple[str, ...]
    context_tokens: int = 0
    memory: MemoryNeed = MemoryNeed(base_bytes=0)
    slots: int = 0
    environment: dict[str, str] = {}
    share_key: str = ""
    takes: Literal["tokens", "chat", "text"] = "tokens"
    sampling: tuple[str, ...] | None = None
    formats: tuple[str, ...] | None = None
    ignored: dict[str, str] = {}
    private: dict[str, str] = {}


class LoadRequest(Struct, frozen=True, kw_only=True):
    """What a plugin's `corral_load` gets, in the worker.

    Args:
        claim: Its own bid.
        options: Its own struct of load options, with effective values.
        files: The model's files, `path` set.
        slots: Jobs that run at once at most.
        report: Tell that loading goes on: a share in [0, 1]. To be called in the thread of
            `corral_load`, at least once in each load timeout. False means to stop and raise; a
            server that gives a load up may also just end the process.
        remotes: Hosts that models may run on, for `corral_kernel.remotes.RemotePolicy`.
    """

    claim: Claim
    options: LoadOptions
    files: tuple[FileRef, ...]
    slots: int
    report: Callable[[float], bool]
    remotes: tuple[str, ...] = ()

    def folder(self) -> Path:
        """The folder in which the model's `file` files lie under their names.

        Raises:
            LookupError: If the model is no folder.
        """
        for file in self.files:
            if file.role == "file":
                return Path(file.path).parents[file.name.count("/")]
        raise LookupError("the model is no folder of files")

    def path(self, role: str) -> Path:
        """Path of the first file of a role.

        Raises:
            LookupError: If the model has no such file.
        """
        for file in self.files:
            if file.role == role:
                return Path(file.path)
        raise LookupError(f"the model has no {role} file")


class EngineInfo(Struct, frozen=True, kw_only=True):
    """What a loaded engine is; it may narrow the claim, never widen it.

    Args:
        capabilities: Of `completion`, `embedding`, `drafts`, `adapters`, `cut`.
        vocab_size: Width of a row of logits; 0 for an encoder.
        context_tokens: Positions that one job may occupy.
        slots: Jobs at once.
        batch_tokens: Tokens that one step or one encoder batch takes at most.
        memory_bytes: Host and device, as the library reports it, or as measured; 0: unknown.
        vram_bytes: The device's share of it.
        truncates_to: For an encoder: the longest input in tokens, all special ones counted.
        details: For people: library version, devices, thread counts.
        warnings: Load options that this engine does not follow as they stand, and what to tell who
            set them, to go on from `option "NAME" `: "is ignored: this build uses no GPU".
    """

    capabilities: tuple[str, ...]
    vocab_size: int = 0
    context_tokens: int = 0
    slots: int = 1
    batch_tokens: int = 512
    memory_bytes: int = 0
    vram_bytes: int = 0
    truncates_to: int = 0
    details: dict[str, str | int] = {}
    warnings: dict[str, str] = {}
