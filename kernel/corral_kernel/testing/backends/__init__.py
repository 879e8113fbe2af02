"""What Corral asks of every backend, through a kernel with real worker processes.

    class TestMine(BackendSuite):
        files = {"model.gguf": Path("small.gguf")}
        can = frozenset({"completion", "chat", "raw", "sampler", "constraint", "seed", "logprobs"})

What a backend cannot do is left out of `can`, and is then demanded to be refused in clear words.
"""

from corral_kernel.testing.backends.answers import AnswerTests
from corral_kernel.testing.backends.asking import Answer, Started, chat
from corral_kernel.testing.backends.choices import ChoiceTests
from corral_kernel.testing.backends.files import averaging, gguf_head
from corral_kernel.testing.backends.guest import LettersType, WriteType
from corral_kernel.testing.backends.kernels import RunningKernel
from corral_kernel.testing.backends.lifetimes import LifetimeTests
from corral_kernel.testing.backends.suite import KernelSuite, Maker
from corral_kernel.testing.backends.vectors import VectorTests

__all__ = [
    "Answer",
    "BackendSuite",
    "EmbeddingBackendSuite",
    "KernelSuite",
    "LettersType",
    "Maker",
    "RunningKernel",
    "Started",
    "WriteType",
    "averaging",
    "chat",
    "gguf_head",
]


class BackendSuite(AnswerTests, ChoiceTests, LifetimeTests):
    """Tests of a backend by a model that completes text; see `KernelSuite` for what to set."""


class EmbeddingBackendSuite(VectorTests):
    """Tests of a backend by a model that makes vectors; see `KernelSuite` for what to set."""
