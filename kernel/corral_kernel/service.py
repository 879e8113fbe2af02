"""The kernel as the API sees it: models by name, completions, vectors."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from corral_kernel.calls import Call, CompletionCall, EncodeCall, RunningModel
from corral_kernel.completion import Completion, Encoding, begin, gather_vectors
from corral_kernel.durations import FOREVER
from corral_kernel.environment import Settings
from corral_kernel.errors import (
    MissingCapabilityError,
    UnsupportedError,
    WorkerDiedError,
    WorkerHungError,
)
from corral_kernel.formats import check_format
from corral_kernel.frames import Encode, Generate
from corral_kernel.models import Model
from corral_kernel.names import ModelName
from corral_kernel.planning import Plan, Planner
from corral_kernel.plugins import Plugins
from corral_kernel.prompts import prompt_spec
from corral_kernel.scheduler import Lease, Limits, Scheduler
from corral_kernel.store import Store, shown_template
from corral_kernel.supervisor import JobLimits, JobStream, WorkerSetup

T = TypeVar("T")
NS = 1_000_000_000
REPEAT_LIMIT = 32
Need = Literal["completion", "embedding"]


class Corral:
    """One server's kernel.

    Args:
        settings: Of this server.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.plugins = Plugins(settings.plugins, settings.disable_plugins)
        self.store = Store(
            settings.models_dir,
            settings.home / "cache",
            prune=not settings.noprune,
            lent=self.plugins.lent,
        )
        self._planner = Planner(self.plugins, settings)
        self._scheduler: Scheduler | None = None

    async def start(self) -> None:
        """Clean the store up and begin to take requests."""
        await asyncio.to_thread(self.store.start_up)
        settings = self.settings
        self._scheduler = Scheduler(
            Limits(
                max_loaded=settings.max_loaded_models,
                max_queue=settings.max_queue,
                budget_bytes=settings.memory_budget_bytes,
                keep_alive_ns=settings.keep_alive_ns,
            ),
            WorkerSetup(
                only=settings.plugins,
                disabled=settings.disable_plugins,
                debug=bool(settings.debug),
                load_timeout_s=_seconds(settings.load_timeout_ns),
                step_timeout_s=_seconds(settings.step_timeout_ns),
                limits=JobLimits(stall_s=_seconds(settings.stall_timeout_ns)),
            ),
        )
        self._scheduler.start()

    async def close(self) -> None:
        """End all workers."""
        if self._scheduler is not None:
            await self._scheduler.close()

    # ------------------------------------------------------------------------------- models

    async def find(self, name: str) -> Model:
        """A model by its name, in any letter case.

        Raises:
            InvalidNameError: If it is no name.
            ModelNotFoundError: If there is none of that name.
        """
        return await asyncio.to_thread(self.store.open, ModelName.parse(name))

    async def models(self) -> list[Model]:
        """All models, the newest first."""
        return await asyncio.to_thread(self.store.list_models)

    def capabilities(self, model: Model) -> tuple[str, ...]:
        """What works with a model here: `completion` or `embedding`, or nothing."""
        return self._planner.capabilities(model)

    def chosen_template(self, model: Model) -> str:
        """The template to show: its TEMPLATE, else the Jinja one inside the weights."""
        return shown_template(model)

    def running(self) -> list[RunningModel]:
        """Loaded models, the latest to expire first."""
        never = float("inf")
        instances = self._started.running()
        instances.sort(key=lambda i: never if i.expires_at is None else i.expires_at, reverse=True)
        return [
            RunningModel(
                model=i.want.model,
                size_bytes=i.memory_bytes,
                vram_bytes=i.info.vram_bytes,
                expires_at=i.expires_at,
                context_tokens=i.info.context_tokens,
                slots=i.slots,
                backend=i.want.claim.backend,
            )
            for i in instances
            if i.info is not None
        ]

    # -------------------------------------------------------------------------------- calls

    async def load(self, call: Call) -> None:
        """Load a model, whatever it can do, and let go of it.

        Raises:
            CorralError: Why not; see `complete`.
        """
        lease, _load_ns = await self._lease(call, self._planner.plan(call.model, call.options))
        lease.release()

    async def unload(self, model: Model) -> None:
        """Have a model go as soon as nobody uses it; returns at once, loaded or not."""
        if self.capabilities(model):
            self._started.expire(self._planner.plan(model, {}).want.key)

    async def complete(self, call: CompletionCall) -> Completion:
        """Begin an answer; returns with its first piece.

        A job whose worker dies before that is run once more.

        Raises:
            MissingCapabilityError: For a model that makes vectors.
            QueueFullError: If too many wait.
            LoadError: If the model cannot be loaded.
            CorralError: Whatever else keeps it from beginning.
        """
        plan = self._plan(call, "completion")
        return await self._begin(call, plan, self._generate(call, plan), begin)

    async def encode(self, call: EncodeCall) -> Encoding:
        """Make vectors of texts; once more if the worker dies over it.

        Raises:
            MissingCapabilityError: For a model that completes text.
            CorralError: As for `complete`.
        """
        plan = self._plan(call, "embedding")
        job = Encode(
            job_id=0,
            texts=call.texts,
            truncate=call.truncate,
            normalize=call.normalize,
            dimensions=max(0, call.dimensions),
        )
        return await self._begin(call, plan, job, gather_vectors)

    # ---------------------------------------------------------------------------- privately

    @property
    def _started(self) -> Scheduler:
        assert self._scheduler is not None, "start() comes first"
        return self._scheduler

    def _plan(self, call: Call, needs: Need) -> Plan:
        plan = self._planner.plan(call.model, call.options)
        if needs not in plan.want.claim.capabilities:
            raise MissingCapabilityError(call.model.name.full, (needs,))
        return plan

    async def _lease(self, call: Call, plan: Plan) -> tuple[Lease, int]:
        asked_ns = time.perf_counter_ns()
        if call.model.owner:
            await asyncio.to_thread(self.store.verify, call.model)
        lease = await self._started.acquire(plan.want, call.keep_alive_ns)
        return lease, time.perf_counter_ns() - asked_ns

    async def _begin(
        self,
        call: Call,
        plan: Plan,
        job: Generate | Encode,
        start: Callable[[JobStream, int], Awaitable[T]],
    ) -> T:
        """Begin a job on a worker that has the model; on another one if that worker dies first."""
        for attempt in ("first", "last"):
            lease, load_ns = await self._lease(call, plan)
            if plan.adapters and "adapters" not in lease.info.capabilities:
                lease.release()
                raise UnsupportedError(f"backend {plan.want.claim.backend!r} applies no adapters")
            try:
                return await start(lease.submit(job), load_ns)
            except (WorkerDiedError, WorkerHungError):
                if attempt == "last":
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _generate(self, call: CompletionCall, plan: Plan) -> Generate:
        chat = call.messages is not None
        constraint = check_format(call.format, self.plugins) if call.format else ""
        shift = call.model.family != "deepseek2" if call.shift is None else call.shift
        return Generate(
            job_id=0,
            prompt=prompt_spec(call, self.plugins),
            options=plan.options,
            adapters=plan.adapters,
            constraint=constraint,
            format=call.format or b"",
            shift=shift,
            logprobs=call.logprobs,
            repeat_limit=0 if chat else REPEAT_LIMIT,
            render_only=call.render_only,
            want_ids=not chat and not call.raw,
            now=time.time(),
        )


def _seconds(duration_ns: int) -> float:
    return float("inf") if duration_ns >= FOREVER else duration_ns / NS
