"""What a worker does from its load to its end."""

import logging
import os
import time
from collections.abc import Callable
from typing import assert_never

from corral_kernel import API_VERSION, frames
from corral_kernel.contracts import LoadRequest
from corral_kernel.errors import (
    CorralError,
    LoadError,
    OutOfMemoryError,
    PluginError,
    TemplateError,
    UnsupportedError,
)
from corral_kernel.fields import build
from corral_kernel.folderlocks import FolderHold, hold_folder
from corral_kernel.plugins import Plugins
from corral_kernel.worker.channel import Channel
from corral_kernel.worker.intake import AnyLoop, Intake, intake_for
from corral_kernel.worker.setup import Setup
from corral_kernel.worker.text_threads import Task, TextThreads

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S = 0.1
EXIT_LOAD_FAILED = 65
EXIT_ENGINE_FAILED = 70


class Worker:
    """One worker process: `run` returns when the model cannot be loaded or its engine failed.

    Args:
        channel: To the server.
        plugins: Of this process.
        setup: What the server said.
    """

    def __init__(self, channel: Channel, plugins: Plugins, setup: Setup) -> None:
        self._channel = channel
        self._plugins = plugins
        self._setup = setup
        self._intake: Intake | None = None
        self._hold: FolderHold | None = None  # to the end of this process
        self._text = TextThreads(setup.text_deadline_s)

    def run(self, load: frames.Load) -> int:
        """Load, and run jobs; gives an exit status."""
        try:
            self._intake = intake = self._load(load)
        except Exception as error:
            logger.warning("loading failed", exc_info=error)
            message = str(error) or type(error).__name__
            self._channel.send(frames.LoadFailed(code=_load_code(error), message=message))
            return EXIT_LOAD_FAILED
        self._channel.send(frames.Loaded(info=intake.engine.info))
        try:
            intake.loop.run()
        except Exception:
            logger.exception("the engine failed")
        return EXIT_ENGINE_FAILED

    def _load(self, load: frames.Load) -> Intake:
        if load.api_version != API_VERSION:
            raise UnsupportedError(
                f"the server speaks worker API {load.api_version}, this worker {API_VERSION}"
            )
        os.environ.update(load.claim.environment)
        found = self._plugins.backends.get(load.claim.backend)
        if found is None:
            raise PluginError(f"backend {load.claim.backend!r} is not installed here any more")
        request = LoadRequest(
            claim=load.claim,
            options=build(found[1].options, load.options),
            files=load.files,
            slots=load.slots,
            report=self._reporter(),
            remotes=load.remotes,
        )
        self._hold = _hold(request)
        engine = self._plugins.load(load.plugin, request)
        return intake_for(engine, load, self._channel, self._plugins, self._setup)

    def _reporter(self) -> Callable[[float], bool]:
        """A backend may report as often as it likes; a few a second are sent."""
        last = 0.0

        def report(share: float) -> bool:
            nonlocal last
            if time.monotonic() - last >= REPORT_INTERVAL_S:
                last = time.monotonic()
                self._channel.send(frames.Loading(share=share))
            return True

        return report

    # ------------------------------------------------------------------- on the reader thread

    def take(self, message: frames.ForJobs) -> None:
        """Take a message about jobs, which come after `Loaded`."""
        intake = self._intake
        assert intake is not None, "jobs come after `Loaded`"
        loop = intake.loop
        match message:
            case frames.Generate():
                loop.post(lambda: loop.opened(message.job_id))
                self._submit(loop, message.job_id, lambda: intake.completion(message))
            case frames.Encode():
                loop.post(lambda: loop.opened(message.job_id))
                self._submit(loop, message.job_id, lambda: intake.vectors(message))
            case frames.Cancel():
                loop.post(lambda: loop.cancel(message.job_id))
                self._text.drop(message.job_id)
            case frames.Pause():
                loop.post(lambda: loop.pause(message.job_id))
            case frames.Resume():
                loop.post(lambda: loop.resume(message.job_id))
            case _:
                assert_never(message)

    def _submit(self, loop: AnyLoop, job_id: int, work: Callable[[], Callable[[], None]]) -> None:
        def post(action: Callable[[], None]) -> Callable[[], None]:
            return lambda: loop.post(action)

        def failed(error: Exception) -> None:
            loop.post(lambda: loop.blame(job_id, error))

        def late() -> None:
            words = f"preparing the request took over {self._setup.text_deadline_s:g} s"
            loop.post(lambda: loop.blame(job_id, TemplateError(words)))

        self._text.submit(Task(job_id, lambda: post(work()), failed, late))


def _hold(request: LoadRequest) -> FolderHold | None:
    """Keep the folder of a model from being removed, whatever becomes of its name in the store."""
    try:
        return hold_folder(request.folder())
    except LookupError:
        return None


def _load_code(error: Exception) -> str:
    if isinstance(error, CorralError):
        return error.code
    return OutOfMemoryError.code if isinstance(error, MemoryError) else LoadError.code
