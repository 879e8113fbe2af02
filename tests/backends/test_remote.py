"""The contract of a backend, on models of another server: llama-cpp-python's."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec
import pytest

from corral_kernel.contracts import TextEngine
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.testing import TextEngineSuite, load_request
from corral_kernel.testing.backends import (
    BackendSuite,
    EmbeddingBackendSuite,
    KernelSuite,
    Maker,
    Started,
    averaging,
)
from corral_remote import corral_claim, corral_load
from corral_remote.options import RemoteOptions

TINY_CHAT = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
PROMPTS = ("who are you?", "count to five", "capital of Italy?")
LISTENING = "Uvicorn running on "


@contextlib.contextmanager
def llama_server() -> Iterator[str]:
    """Run the server with the models `tiny` and `vectors`; give its base URL."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "server.json"
        pooled, unending = Path(folder) / "pooled.gguf", Path(folder) / "endless.gguf"
        pooled.write_bytes(averaging(TINY_CHAT.read_bytes()))
        unending.write_bytes(endless(TINY_CHAT.read_bytes()))
        models: list[dict[str, Any]] = [
            {"model": str(TINY_CHAT), "model_alias": "tiny", "logits_all": True},
            {"model": str(pooled), "model_alias": "vectors", "embedding": True, "n_batch": 256},
            {"model": str(unending), "model_alias": "endless", "n_ctx": 4096},
        ]
        sized = [{"n_threads": 1, "n_ctx": 256, **model} for model in models]
        here = {"host": "127.0.0.1", "port": 0, "interrupt_requests": False}
        config.write_text(json.dumps({**here, "models": sized}))
        process = subprocess.Popen(
            [sys.executable, "-m", "llama_cpp.server", "--config_file", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        assert process.stderr is not None
        log: list[str] = []
        try:
            for line in process.stderr:
                log.append(line)
                if LISTENING in line:
                    break
            else:
                pytest.fail("the server ended: " + "".join(log)[-2000:])
            reader = threading.Thread(target=lambda: log.extend(process.stderr or ()))
            reader.start()
            yield line.partition(LISTENING)[2].split()[0] + "/v1"
            process.kill()
            reader.join()
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def endless(gguf: bytes) -> bytes:
    """Tiny-chat, less its tokens that end an answer."""
    for end in (b"<|im_end|>", b"<|endoftext|>"):
        gguf = gguf.replace(end, end.replace(b"|>", b"_>"))
    key = b"tokenizer.ggml.eos_token_id"
    at = gguf.index(key) + len(key) + 4  # of its type
    return gguf[:at] + struct.pack("<I", 0) + gguf[at + 4 :]


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Served:
    """Begins with a server of llama-cpp-python's, and ends it."""

    server: ClassVar[contextlib.ExitStack]
    url: ClassVar[str]

    @classmethod
    def setup_class(cls) -> None:
        with contextlib.ExitStack() as server:
            cls.url = server.enter_context(llama_server())
            if begin := getattr(super(), "setup_class", None):
                begin()
            cls.server = server.pop_all()

    @classmethod
    def teardown_class(cls) -> None:
        if end := getattr(super(), "teardown_class", None):
            end()
        cls.server.close()


class TestRemoteEngine(Served, TextEngineSuite):
    prompts = PROMPTS
    target = "tiny"
    vectors_of = "vectors"

    def engine(self) -> TextEngine:
        stub = Model(
            name=ModelName.parse("here"),
            digest="0" * 64,
            size_bytes=0,
            modified_ns=0,
            config=ModelConfig(remote_host=self.url, remote_model="tiny"),
            files=(),
        )
        claim = corral_claim(stub)
        assert claim is not None
        request = load_request(RemoteOptions(), slots=4)
        request = msgspec.structs.replace(request, claim=claim, remotes=("127.0.0.1",))
        return cast(TextEngine, corral_load(request))


class Elsewhere(Served, KernelSuite):
    """Its model is a stub."""

    settings: ClassVar = {"CORRAL_REMOTES": "127.0.0.1"}
    parameters: ClassVar = {"remote_retries": 0}
    backend = "remote"
    target = "tiny"
    info: ClassVar[dict[str, Any]] = {}

    @classmethod
    def make(
        cls, name: str, files: Mapping[str, Path | bytes], parameters: Mapping[str, Any] = {}
    ) -> str:
        del files
        return cls.stub(name, cls.url, parameters)

    @classmethod
    def stub(cls, name: str, url: str, parameters: Mapping[str, Any] = {}, target: str = "") -> str:
        given = {**cls.parameters, **parameters}
        there = {"base": target or cls.target, "remote_host": url}
        return cls.kernel.create(name, {}, given, info=cls.info, **there)

    def broken(self) -> Iterator[tuple[str, Maker]]:
        nobody = f"http://127.0.0.1:{closed_port()}/v1"
        yield "a server that is not there", lambda: self.stub("nobody", nobody)
        yield "a host that is not allowed", lambda: self.stub("strange", "http://127.0.0.2:1/v1")
        yield "a base URL of something else", lambda: self.stub("else", f"{self.url}/x")


class TestTinyChat(Elsewhere, BackendSuite):
    can = frozenset({"completion", "chat", "raw", "schema", "seed", "logprobs"})
    prompts = PROMPTS
    wild: ClassVar = {"temperature": 2.0, "top_p": 1.0, "min_p": 0.0}
    at_once = 1  # the other server's

    def slow(self) -> Started:
        name = self.stub("endless", self.url, target="endless")
        return self.kernel.start(name, **self.given(self.prompts[0], num_predict=3000))


class TestTinyVectors(Elsewhere, EmbeddingBackendSuite):
    can = frozenset({"embedding"})
    target = "vectors"
    info: ClassVar = {"capabilities": ["embedding"]}
