"""A whole kernel with models of one small file; without an API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.calls import CompletionCall
from corral_kernel.environment import Settings
from corral_kernel.frames import Done, Text
from corral_kernel.service import Corral
from corral_kernel.store import CreateRequest, create_model

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"


class Kernel:
    """A kernel, and models of echo in it."""

    def __init__(self, corral: Corral) -> None:
        self.corral = corral

    def create(self, name: str, **parameters: Any) -> None:
        """Make a model; those with the same `salt` have the same weights."""
        salt = str(parameters.pop("salt", name)).encode()
        with self.corral.store.blobs.writer() as writer:
            writer.write(TINY.read_bytes() + salt)
            digest = writer.finish()
        parameters = {"backend": "echo", **parameters}
        request = CreateRequest(model=name, files={"m.gguf": digest}, parameters=parameters)
        list(create_model(self.corral.store, request))

    async def begin(self, name: str, prompt: str = "hello", **fields: Any) -> Any:
        model = await self.corral.find(name)
        return await self.corral.complete(
            CompletionCall(model=model, prompt=prompt, raw=True, **fields)
        )

    async def ask(self, name: str, prompt: str = "hello", **fields: Any) -> str:
        """The whole answer."""
        pieces: list[str] = []
        async with await self.begin(name, prompt, **fields) as completion:
            async for event in completion:
                if isinstance(event, Done):
                    return "".join(pieces)
                assert isinstance(event, Text)
                pieces.append(event.content)
        raise AssertionError("an answer without an end")

    @property
    def scheduler(self) -> Any:
        return self.corral._started.scheduler

    def pid(self, name: str = "") -> int | None:
        """The process that has a model loaded, or loads it."""
        for instance in self.scheduler._instances.values():
            if instance.want.model.name.model == name or not name:
                return instance.worker.pid if instance.worker else None
        return None


@pytest.fixture
async def start_kernel(
    nothing_left: None, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Kernel]]]:
    """Start a kernel with settings as environment variables without their `CORRAL_`."""
    started: list[Kernel] = []

    async def start(**settings: str) -> Kernel:
        environ = {
            "CORRAL_HOME": str(tmp_path / "home"),
            "CORRAL_PLUGINS": "echo,chat",
            "CORRAL_MEMORY_BUDGET": "1GiB",
            **{f"CORRAL_{name}": value for name, value in settings.items()},
        }
        kernel = Kernel(Corral(Settings.from_environ(environ)))
        await kernel.corral.start()
        started.append(kernel)
        return kernel

    async with asyncio.timeout(200):
        yield start
        for kernel in started:
            await kernel.corral.close()
