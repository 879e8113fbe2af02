"""The backend as Corral runs it: found by its entry point, in worker processes."""

from typing import ClassVar

from corral_kernel.testing.backends import BackendSuite, gguf_head

OURS = {"completion", "counts", "raw", "window"}
CORRALS = {"sampler", "constraint", "seed", "logprobs"}  # on the logits of any `TokenEngine`


class TestRepeatBackend(BackendSuite):
    """What Corral asks of every backend; what is not in `can` is to be refused in clear words."""

    files: ClassVar = {"model.gguf": gguf_head()}  # yours: a model as small as there is
    parameters: ClassVar = {"backend": "repeat"}  # what its Modelfile says
    can = frozenset(OURS | CORRALS)
    backend = "repeat"
