"""The library itself: one loaded model, for one thread at a time."""

import ctypes
import platform
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ctransformers
import numpy as np
from numpy.typing import NDArray

from corral_ctransformers.layouts import GGMF
from corral_ctransformers.walk import GgmlFile
from corral_kernel.errors import EngineError, LoadError

_CPUINFO = Path("/proc/cpuinfo")
_REPORT_EVERY_S = 0.5
_LOAD_S = 60.0
_LOAD_BYTES_S = 10e6  # a slow disk's; the bound of a load grows with the file
# In paths like this the library reads a llama as one of 70B, and in no others.
_NAMED_70B = re.compile(r"(\b|_)70b(\b|_)", re.IGNORECASE)
_MOST_AT_ONCE = 512  # tokens, of what the library's buffers for llama and falcon are made for


class NativeModel:
    """A model as the library loaded it. `free` it once.

    Two threads in it at once end the process, so that each call waits for the other's end.

    Args:
        path: Of a file that was walked over.
        file: What the walk found.
        context_tokens: Positions to allocate, where the architecture lets one choose.
        threads: CPU threads.
        use_mmap: Map the weights where the architecture can, or read them.

    Attributes:
        vocab_size: Width of a row of logits.
        context_tokens: Positions that there are.
        rewinds: Whether `feed` may begin anywhere, not only at 0 and where it ended.
    """

    def __init__(
        self, path: Path, file: GgmlFile, context_tokens: int, threads: int, *, use_mmap: bool
    ) -> None:
        config = ctransformers.Config(
            context_length=context_tokens,
            threads=threads,
            batch_size=_MOST_AT_ONCE,
            mmap=use_mmap and file.magic != GGMF,  # whose tensors lie anywhere
        )
        with _named_for(path, file) as named:
            try:
                self._llm = ctransformers.LLM(
                    str(named), file.layout.name, config=config, lib=_library()
                )
            except (RuntimeError, ValueError, OSError) as error:
                raise LoadError(f"ctransformers refused the file: {error}") from error
        self._lock = threading.Lock()
        self._threads = threads
        self._eval = self._llm.ctransformers_llm_batch_eval
        self.rewinds = file.layout.rewinds
        self.vocab_size = int(self._llm.vocab_size)
        self.context_tokens = int(self._llm.context_length)
        if self.vocab_size != len(file.pieces):
            raise LoadError(
                f"ctransformers read {self.vocab_size} tokens, of {len(file.pieces)} in the file"
            )

    def feed(self, token_ids: Sequence[int], start: int) -> None:
        """Compute tokens at positions from `start` on; what lay there and after is forgotten.

        Raises:
            ValueError: If an id or a position is out of range: the library would not notice.
            EngineError: If the library failed.
        """
        count = len(token_ids)
        if not 0 < count <= _MOST_AT_ONCE or start < 0 or start + count > self.context_tokens:
            raise ValueError(f"{count} tokens from position {start} on are none of this context's")
        if min(token_ids) < 0 or max(token_ids) >= self.vocab_size:
            raise ValueError("a token id out of range")
        with self._lock:
            tokens = (ctypes.c_int * count)(*token_ids)
            if not self._eval(tokens, count, start, count, self._threads):
                raise EngineError(f"ctransformers failed to compute {count} tokens")

    def read_logits(self, into: NDArray[np.float32]) -> None:
        """Copy the logits after the last token that was fed, `(vocab_size,)`.

        Raises:
            EngineError: If there are none.
        """
        with self._lock:
            size = self._llm.ctransformers_llm_logits_size()
            if size != self.vocab_size:
                raise EngineError(f"ctransformers gave {size} logits for {self.vocab_size} tokens")
            pointer = self._llm.ctransformers_llm_logits_data()
            np.copyto(into, np.ctypeslib.as_array(pointer, (size,)))

    def free(self) -> None:
        """Free the weights."""
        with self._lock:
            del self._eval, self._llm


def load_within(
    make: Callable[[], NativeModel], size_bytes: int, report: Callable[[float], bool]
) -> NativeModel:
    """Load in a thread, so that it can be told meanwhile that loading goes on, and be given up.

    Args:
        make: Loads the model.
        size_bytes: Of the file: the larger it is, the longer it may take.
        report: Told the share of the time that it may take; False gives up.

    Raises:
        LoadError: If it took too long, or was given up.
    """
    limit_s = _LOAD_S + size_bytes / _LOAD_BYTES_S
    done: list[NativeModel | BaseException] = []

    def load() -> None:
        try:
            done.append(make())
        except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
            done.append(error)

    thread = threading.Thread(target=load, name="load", daemon=True)
    thread.start()
    waited_s = 0.0
    while thread.is_alive():
        thread.join(_REPORT_EVERY_S)
        waited_s += _REPORT_EVERY_S
        if thread.is_alive() and waited_s > limit_s:
            raise LoadError(f"ctransformers did not load the file in {limit_s:.0f} s")
        if not report(min(waited_s / limit_s, 1.0)):
            raise LoadError("loading was given up")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


def _library(cpuinfo: Path = _CPUINFO) -> str | None:
    """Which of the library's builds suits this CPU; None: it shall find out.

    It does so with processes that print to standard error.
    """
    builds = Path(ctransformers.__file__).parent / "lib"
    if (builds / "local").is_dir() or platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        flags = set(re.findall(r"\w+", _flags(cpuinfo.read_text())))
    except OSError:
        return None
    if {"avx2", "fma", "f16c"} <= flags:
        return "avx2"
    return "avx" if {"avx", "f16c"} <= flags else "basic"


def _flags(text: str) -> str:
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


@contextmanager
def _named_for(path: Path, file: GgmlFile) -> Iterator[Path]:
    """A path of the file by which the library takes it for what it is."""
    shares = file.fields["shared_heads"] > 1
    if file.layout.name != "llama" or bool(_NAMED_70B.search(str(path))) == shares:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        link = Path(folder) / ("70b.bin" if shares else "model.bin")
        if bool(_NAMED_70B.search(str(link))) != shares:
            raise LoadError(f"the folder of temporary files must not be named so: {folder}")
        link.symlink_to(path.resolve())
        yield link
