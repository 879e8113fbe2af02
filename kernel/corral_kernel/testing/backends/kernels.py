"""A kernel with a store of its own and real workers, asked from plain code without `await`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from corral_kernel.calls import CompletionCall, EncodeCall
from corral_kernel.completion import Completion
from corral_kernel.environment import Settings
from corral_kernel.frames import Done, Text
from corral_kernel.service import Corral
from corral_kernel.store import CreateRequest, create_model
from corral_kernel.testing.backends import guest
from corral_kernel.testing.backends.asking import Answer, Started
from corral_kernel.testing.suites import ContractBrokenError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from corral_kernel.scheduler.instance import Instance

T = TypeVar("T")
LIMIT_S = 60.0
"""How long anything may take that comes by itself; only a failing test waits for so long."""
_FIELDS = frozenset(CompletionCall.__struct_fields__)


class RunningKernel:
    """Started by `until_close`, ended by `close`.

    Args:
        settings: Variables of its environment, beside those that give it a home.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._ending: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self.corral: Corral

    @contextlib.contextmanager
    def until_close(self) -> Iterator[None]:
        """Start it; it runs on after the block, unless that raises."""
        with contextlib.ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="corral-suite-")))
            stack.enter_context(_installed_guest(home / "site"))
            given = {"CORRAL_HOME": str(home), **self._settings}
            begun: Future[None] = Future()
            thread = threading.Thread(target=lambda: asyncio.run(self._live(given, begun)))
            thread.start()
            stack.callback(thread.join)
            begun.result()
            stack.callback(lambda: self._loop.call_soon_threadsafe(self._ending.set))
            yield
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End it, its workers and its store."""
        self._stack.close()

    async def _live(self, given: Mapping[str, str], begun: Future[None]) -> None:
        try:
            self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
            self.corral = Corral(Settings.from_environ(given))
            await self.corral.start()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            begun.set_exception(error)
            return
        begun.set_result(None)
        await self._ending.wait()
        await self.corral.close()

    def run(self, work: Awaitable[T], limit_s: float = LIMIT_S) -> T:
        """Wait for work on the kernel's own event loop.

        Raises:
            ContractBrokenError: If it takes longer than allowed.
        """
        try:
            return asyncio.run_coroutine_threadsafe(_within(work, limit_s), self._loop).result()
        except _TooLongError:
            raise ContractBrokenError(f"nothing came within {limit_s:g} s") from None

    # -------------------------------------------------------------------------------- models

    def create(
        self,
        name: str,
        files: Mapping[str, Path | bytes],
        parameters: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """Make a model of files; give its name.

        Args:
            name: To give it.
            files: Path in the model -> file on disk, or its bytes.
            parameters: Its PARAMETERs.
            fields: Others of a `CreateRequest`; its `adapters` are files too.
        """
        fields["adapters"] = self._blobs(fields.get("adapters", {}))
        request = CreateRequest(
            model=name,
            files=None if "base" in fields else self._blobs(files),
            parameters=parameters or {},
            **fields,
        )
        for _ in create_model(self.corral.store, request):
            pass
        return name

    def _blobs(self, files: Mapping[str, Path | bytes]) -> dict[str, str]:
        return {name: self._blob(file) for name, file in files.items()}

    def _blob(self, file: Path | bytes) -> str:
        with self.corral.store.blobs.writer() as writer:
            writer.write(file if isinstance(file, bytes) else file.read_bytes())
            return writer.finish()

    # ------------------------------------------------------------------------------- answers

    def start(self, model: str, **given: Any) -> Started:
        """Begin an answer; returns with its first piece.

        Args:
            model: Its name.
            given: Fields of a `CompletionCall`; all others are options.
        """
        return Started(self, self.run(self._begin(model, given)))

    def ask(self, model: str, **given: Any) -> Answer:
        """Get a whole answer; see `start`."""
        (answer,) = self.ask_together(model, [given])
        return answer

    def ask_later(self, model: str, **given: Any) -> Future[Answer]:
        """Send a request for a whole answer, and wait for nothing."""
        return asyncio.run_coroutine_threadsafe(self._whole(model, given), self._loop)

    def ask_together(self, model: str, given: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Get several answers at once."""
        return self.run(self._gather(model, given))

    async def _gather(self, model: str, given: Sequence[Mapping[str, Any]]) -> list[Answer]:
        return await asyncio.gather(*(self._whole(model, one) for one in given))

    async def _begin(self, model: str, given: Mapping[str, Any]) -> Completion:
        fields = {name: value for name, value in given.items() if name in _FIELDS}
        options = {name: value for name, value in given.items() if name not in _FIELDS}
        if "format" in fields:
            fields["format"] = msgspec.json.encode(fields["format"])
        found = await self.corral.find(model)
        return await self.corral.complete(CompletionCall(model=found, options=options, **fields))

    async def _whole(self, model: str, given: Mapping[str, Any]) -> Answer:
        pieces: list[Text] = []
        async with await self._begin(model, given) as completion:
            async for event in completion:
                if isinstance(event, Done):
                    return Answer(completion.accepted, pieces, event, completion.warnings)
                if isinstance(event, Text):
                    pieces.append(event)
        raise ContractBrokenError("an answer ended without its end")

    def embed(self, model: str, *texts: str, **given: Any) -> NDArray[np.float32]:
        """Vectors `(n, dim)` of texts; keywords are fields of an `EncodeCall`."""
        import numpy as np

        found = self.run(self.corral.find(model))
        made = self.run(self.corral.encode(EncodeCall(model=found, texts=texts, **given)))
        return np.frombuffer(made.data, "<f4").reshape(made.count, made.dim)

    # ------------------------------------------------------------------------------- workers

    def loaded(self, model: str) -> list[Instance]:
        """Where a model is loaded: one place at most, or where it is on its way out too."""
        key = self.run(self._key(model))
        leasing = self.corral._started  # noqa: SLF001 - nobody else needs processes
        return [each for each in leasing.scheduler.running() if each.want.key == key]

    async def _key(self, model: str) -> str:
        found = await self.corral.find(model)
        return self.corral._planner.plan(found, {}).want.key  # noqa: SLF001 - as above

    def unload(self, model: str) -> None:
        """Have a model go, and wait until its process is over and its memory free."""
        instances = self.loaded(model)
        self.run(self._unload(model))
        for instance in instances:
            self.wait_gone(instance)

    async def _unload(self, model: str) -> None:
        await self.corral.unload(await self.corral.find(model))

    def wait_gone(self, instance: Instance) -> None:
        """Wait until the process of a loaded model is over and its memory free."""
        assert instance.worker is not None, "it is loaded"
        self.run(_wait(instance.worker.gone))


class _TooLongError(Exception):
    pass


async def _within(work: Awaitable[T], limit_s: float) -> T:
    # A limit of its own error: what the work itself raises is the kernel's, a timeout too.
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=limit_s)
    if not done:
        task.cancel()
        raise _TooLongError
    return task.result()


async def _wait(future: asyncio.Future[None]) -> None:
    await asyncio.shield(future)


@contextlib.contextmanager
def _installed_guest(site: Path) -> Iterator[None]:
    """Have this process and those that it starts find the guest plugin."""
    site.mkdir()
    guest.lay_out(site)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(site), *filter(None, [before])])
    sys.path.append(str(site))
    try:
        yield
    finally:
        sys.path.remove(str(site))
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
