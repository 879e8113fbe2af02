"""The error tree. A `code` is stable and crosses processes; nobody matches a message."""

import signal
from typing import ClassVar


class CorralError(Exception):
    """Something that a user, a file or another process can cause.

    The message says what was found, what was wanted and what to do. `corral_api` maps the `code`
    to a status and to each dialect's words; the kernel knows no status codes.
    """

    code: ClassVar[str] = "internal"


class InvalidRequestError(CorralError):
    """A request that can never succeed as it stands."""

    code = "invalid_request"


class InvalidNameError(InvalidRequestError):
    """A text that is no model name."""

    code = "invalid_name"


class InvalidDigestError(InvalidRequestError):
    """A text that is no digest."""

    code = "invalid_digest"


class InvalidOptionError(CorralError):
    """An option of a wrong type or out of its range.

    Args:
        message: What is wrong.
        wrong_type: Name of the option, if its value is of a wrong type; else empty.
    """

    code = "invalid_option"

    def __init__(self, message: str, *, wrong_type: str = "") -> None:
        super().__init__(message)
        self.wrong_type = wrong_type


class InvalidFormatError(CorralError):
    """A `format` that no constraint type knows, or that its type refuses."""

    code = "invalid_format"


class UnknownFormatError(InvalidFormatError):
    """A `format` of a type that no installed plugin gives."""

    code = "unknown_format"


class UnsupportedError(InvalidRequestError):
    """A request for something that this model, engine or release does not do."""

    code = "unsupported"


class MissingCapabilityError(UnsupportedError):
    """The model lacks capabilities that the request needs."""

    code = "missing_capability"

    def __init__(self, model: str, missing: tuple[str, ...]) -> None:
        super().__init__(f"{model} does not support " + "\n".join(missing))
        self.model = model
        self.missing = missing


class PromptTooLongError(InvalidRequestError):
    """A prompt over the context length where nothing may be cut from it."""

    code = "prompt_too_long"


class ModelNotFoundError(CorralError):
    """No model of that name."""

    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"model {model!r} not found")
        self.model = model


class BlobNotFoundError(CorralError):
    """A blob that is not in the store."""

    code = "blob_not_found"


class BlobMismatchError(InvalidRequestError):
    """Bytes whose digest is not the one that was announced."""

    code = "blob_mismatch"


class StoreError(CorralError):
    """The store cannot be read or written: disk full, no permission."""

    code = "store"


class InvalidModelError(CorralError):
    """A model file or directory that is damaged, hostile or of no known kind."""

    code = "invalid_model"


class ReadOnlyModelError(InvalidRequestError):
    """A model that a registry lends in place, and that cannot be removed here."""

    code = "read_only_model"


class InvalidLockError(InvalidRequestError):
    """A text that is no lock of models, or one that contradicts itself."""

    code = "invalid_lock"


class LockedStoreError(InvalidRequestError):
    """A change of the models of a server that serves those of a lock alone."""

    code = "locked_store"


class NoBackendError(CorralError):
    """No installed backend bids for the model."""

    code = "no_backend"


class UnusableBackendError(NoBackendError):
    """The backend that was asked for is not installed, or does not bid for the model."""

    code = "unusable_backend"


class LoadError(CorralError):
    """The engine could not load the model."""

    code = "load_failed"


class OutOfMemoryError(LoadError):
    """The model does not fit into the memory that there is."""

    code = "out_of_memory"


class LoadTimeoutError(LoadError):
    """Loading showed no progress for the load timeout."""

    code = "load_timeout"


class QueueFullError(CorralError):
    """More requests wait than the queue holds."""

    code = "queue_full"

    def __init__(
        self, message: str = "server busy, please try again.  maximum pending requests exceeded"
    ) -> None:
        super().__init__(message)


class ShuttingDownError(CorralError):
    """The server is going down and takes no new work."""

    code = "shutting_down"

    def __init__(self, message: str = "the server is shutting down") -> None:
        super().__init__(message)


class CancelledJobError(CorralError):
    """The client left, or read nothing for too long."""

    code = "cancelled"


class TemplateError(CorralError):
    """A chat template that does not parse, or that failed while rendering."""

    code = "template"


class TemplateBoundsError(TemplateError):
    """A chat template that takes more time, memory or depth than it may."""

    code = "template_bounds"


class OutputError(CorralError):
    """What a model wrote is an error by the rules of its family, such as a call that is no call."""

    code = "output"


class UnknownRendererError(CorralError):
    """A model wants a renderer by a name that nobody knows."""

    code = "unknown_renderer"

    def __init__(self, name: str) -> None:
        super().__init__(f'unknown renderer "{name}"')


class EngineError(CorralError):
    """The engine failed this job."""

    code = "engine"


class SamplerFailedError(CorralError):
    """A sampler raised, or overran its time; only its own request ends by that.

    Args:
        name: What requests name it by; empty: one of those of this request.
        why: What happened.
    """

    code = "sampler_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"sampler {name!r} failed: {why}" if name else f"a sampler failed: {why}")


class ConstraintFailedError(CorralError):
    """A constraint raised, or overran its time; only its own request ends by that.

    Args:
        name: Of its type.
        why: What happened.
    """

    code = "constraint_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"format {name!r} failed: {why}")


class RemoteHostError(InvalidRequestError):
    """A model on a server that this one may not ask.

    Args:
        why: What of its address is not allowed.
    """

    code = "remote_host"

    def __init__(self, why: str) -> None:
        super().__init__(f"this server cannot run this remote model: {why}")


class RemoteRefusedError(InvalidRequestError):
    """The server on which a model runs refused the request as one that it cannot obey."""

    code = "remote_refused"


class RemoteServerError(CorralError):
    """The server on which a model runs cannot be reached, refused us, or failed."""

    code = "remote_server"


class RemoteTimeoutError(RemoteServerError):
    """The server on which a model runs took too long."""

    code = "remote_timeout"


class RemoteBusyError(RemoteServerError):
    """The server on which a model runs has too much to do."""

    code = "remote_busy"


class RegistryError(CorralError):
    """A registry has not what is wanted, refuses it, or answers what is none of it."""

    code = "registry"


class RegistryUnavailableError(RegistryError):
    """A registry that fails now and may answer at another try.

    Args:
        message: What happened.
        after_s: How long it asks to wait before that; None: it does not say.
    """

    code = "registry_unavailable"

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class NoRangesError(RegistryError):
    """A registry that gives blobs only from their beginning."""

    code = "no_ranges"


class WorkerError(CorralError):
    """A worker process broke its contract."""

    code = "worker"


class WorkerDiedError(WorkerError):
    """A worker process ended while a request was running."""

    code = "worker_died"

    def __init__(self, model: str, exit_status: int | None, detail: str = "") -> None:
        what = _how_it_ended(exit_status)
        super().__init__(f"worker for {model!r} {what}" + (f": {detail}" if detail else ""))
        self.exit_status = exit_status
        self.detail = detail


def _how_it_ended(exit_status: int | None) -> str:
    if exit_status is None:
        return "was lost"
    if exit_status >= 0:
        return f"exited with status {exit_status}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-exit_status, f'signal {-exit_status}')}"


class WorkerHungError(WorkerError):
    """A worker owed a frame and sent none within its timeout; it was killed.

    Args:
        message: Which, and how long it was silent.
        alone: Whether one request alone was open on it.
    """

    code = "worker_hung"

    def __init__(self, message: str, *, alone: bool = False) -> None:
        super().__init__(message)
        self.alone = alone


class TaskError(CorralError):
    """Converting or quantizing failed, or cannot be done."""

    code = "task"


class TaskDiedError(TaskError):
    """A task process ended, or was ended, before its work was done.

    Args:
        doing: What it was for.
        exit_status: Of the process; negative: the signal that ended it.
        detail: What it printed last.
    """

    code = "task_died"

    def __init__(self, doing: str, exit_status: int | None, detail: str = "") -> None:
        what = _how_it_ended(exit_status)
        super().__init__(f"the process {doing} {what}" + (f": {detail}" if detail else ""))
        self.exit_status = exit_status


class FrameError(WorkerError):
    """Bytes on a worker's channel that are no frame, or a frame over the bound."""

    code = "frame"


class PluginError(CorralError):
    """A plugin that cannot be used: it does not import, or breaks the contract."""

    code = "plugin"


class ParserFailedError(CorralError):
    """A parser of answers raised, or overran its time; only its own request ends by that.

    Args:
        name: Of the parser.
        why: What happened.
    """

    code = "parser_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"parser {name!r} failed: {why}")


class RemoteJobError(CorralError):
    """An error that a worker reported for a job; carries the code of what was raised there."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.remote_code = code


class NotGgufError(InvalidModelError):
    """A file that does not begin as a GGUF file does."""

    code = "not_gguf"


class ManifestNotFoundError(CorralError):
    """No registry that is asked has a manifest for the name."""

    code = "manifest_not_found"
