"""The contract of a backend, on the template's echo."""

from collections.abc import Iterator
from typing import ClassVar, cast

from corral_echo import corral_load
from corral_echo.options import EchoOptions

from corral_kernel.contracts import TokenEngine
from corral_kernel.testing import TokenEngineSuite, load_request
from corral_kernel.testing.backends import BackendSuite, Maker, gguf_head


class TestEchoEngine(TokenEngineSuite):
    def engine(self, slots: int) -> TokenEngine:
        options = EchoOptions(num_ctx=512, num_batch=64)
        return cast(TokenEngine, corral_load(load_request(options, slots=slots)))


class TestEcho(BackendSuite):
    files: ClassVar = {"none.gguf": gguf_head()}
    parameters: ClassVar = {"backend": "echo"}
    can = frozenset(
        {"completion", "counts", "raw", "window", "sampler", "constraint", "seed", "logprobs"}
    )
    backend = "echo"

    def broken(self) -> Iterator[tuple[str, Maker]]:
        yield from super().broken()
        for fault in ("echo_load_fails", "echo_load_dies"):
            yield (
                fault,
                self.maker(fault, {"other.gguf": gguf_head(x__fault=fault)}, **{fault: True}),
            )
