"""LoRA adapters: `.onnx_adapter` files, each loaded once, one for a job."""

from collections.abc import Callable, Sequence

import onnxruntime as ort

from corral_kernel.contracts import FileRef
from corral_kernel.errors import EngineError, InvalidModelError, UnsupportedError
from corral_onnx.batched import BatchedModel
from corral_onnx.native import Native, reason

_KEPT = 8  # adapters that stay loaded unused


class Adapters:
    """The adapters of one model.

    Args:
        native: The model.
        declared: Weights that its graph lets be replaced; none: it takes no adapters.
    """

    def __init__(self, native: Native | BatchedModel, declared: frozenset[str]) -> None:
        self._native = native
        self._declared = declared
        self._loaded: list[str] = []  # digests, least lately used first

    def load(self, files: Sequence[FileRef], unused: Callable[[str], bool]) -> str:
        """Load what a job asks for.

        Args:
            files: Of the job.
            unused: Tells whether no sequence has an adapter, and frees those that are kept.

        Returns:
            Its name for sequences; empty: none.

        Raises:
            UnsupportedError: If the model takes no adapters, or not so many.
            InvalidModelError: If a file is no adapter, or none of this model.
        """
        if not files:
            return ""
        if not self._declared:
            raise UnsupportedError("the graph of this model declares no weights for LoRA adapters")
        if len(files) > 1:
            raise UnsupportedError(
                f"the request adds {len(files)} adapters; ONNX Runtime applies one at a time"
            )
        (file,) = files
        if file.digest in self._loaded:
            self._loaded.remove(file.digest)
        else:
            self._open(file)
        self._loaded.append(file.digest)
        self._shrink(unused)
        return file.digest

    def _shrink(self, unused: Callable[[str], bool]) -> None:
        for digest in self._loaded[:-1]:
            # Asked of no more than must go: what is kept of an adapter's sequences goes with it.
            if len(self._loaded) <= _KEPT:
                return
            if unused(digest):
                self._loaded.remove(digest)
                self._native.unload_adapter(digest)

    def _open(self, file: FileRef) -> None:
        try:
            names = set(ort.AdapterFormat.read_adapter(file.path).get_parameters())
        except Exception as error:  # noqa: BLE001 - the library has no class of its own
            raise InvalidModelError(f"adapter {file.digest}: {reason(error)}") from None
        if strange := sorted(names - self._declared):
            raise InvalidModelError(
                f"adapter {file.digest} is of another model: this one has no {strange[0]!r}"
            )
        try:
            self._native.load_adapter(file.path, file.digest)
        except EngineError as error:
            raise InvalidModelError(f"adapter {file.digest}: {error}") from None
        if misfit := self._misfit(file.digest):
            self._native.unload_adapter(file.digest)
            raise InvalidModelError(f"adapter {file.digest} does not fit: {misfit}")

    def _misfit(self, name: str) -> str:
        """What is wrong with a loaded adapter; shapes are only looked at when the graph runs."""
        try:
            self._native.strand(1, name).feed([0])
        except EngineError as error:
            return str(error)
        return ""
