"""The kernel as the API sees it: models by name, completions, vectors."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from corral_kernel.calls import BackendChoice, Call, CompletionCall, EncodeCall, RunningModel
from corral_kernel.completion import Completion, Encoding, Granted, begin, gather_vectors
from corral_kernel.durations import FOREVER
from corral_kernel.environment import Settings
from corral_kernel.errors import (
    CorralError,
    MissingCapabilityError,
    UnsupportedError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.formats import check_format
from corral_kernel.frames import Encode, Generate
from corral_kernel.models import Model
from corral_kernel.names import ModelName
from corral_kernel.options import BACKEND
from corral_kernel.planning import Plan, Planner
from corral_kernel.plugins import KERNEL, Plugins
from corral_kernel.prompts import prompt_spec
from corral_kernel.scheduler import Lease, Limits, Scheduler
from corral_kernel.store import Store, shown_template
from corral_kernel.supervisor import JobLimits, JobStream, WorkerSetup
from corral_kernel.telling import WarningLog

T = TypeVar("T")
NS = 1_000_000_000
REPEAT_LIMIT = 32
SHORT_FORMAT_BYTES = 4096
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
        self._warned = WarningLog()
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
                sampler_timeout_s=_seconds(settings.sampler_timeout_ns),
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

    def capabilities_for(self, call: Call) -> tuple[str, ...]:
        """What works for a call, on the backend that it or its model asks for.

        Raises:
            NoBackendError: If what is asked for is not installed, or does not run the model.
            InvalidOptionError: For an option of a wrong type or range.
        """
        if (call.options.get(BACKEND.name) or call.model.parameters.get(BACKEND.name)) is None:
            return self.capabilities(call.model)
        return self._planner.plan(call.model, call.options).want.claim.capabilities

    def backend_of(self, model: Model) -> BackendChoice:
        """Which backend would run a model, and why that one; or why none does."""
        try:
            claim = self._planner.plan(model, {}).want.claim
        except CorralError as error:
            return BackendChoice(error=str(error))
        return BackendChoice(name=claim.backend, why=claim.why)

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
                details=i.info.details,
            )
            for i in instances
            if i.info is not None
        ]

    # -------------------------------------------------------------------------------- calls

    async def load(self, call: Call) -> tuple[str, ...]:
        """Load a model, whatever it can do, and let go of it.

        Returns:
            Warnings for the client.

        Raises:
            CorralError: Why not; see `complete`.
        """
        plan = self._planner.plan(call.model, call.options)
        lease, _load_ns = await self._lease(call, plan)
        warnings = (*plan.warnings, *lease.warnings, *plan.told_by(lease.info))
        lease.release()
        self._warned.add(warnings)
        return warnings

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
        job = self._generate(call, plan, await self._constraint(call.format))
        completion = await self._begin(call, plan, job, begin)
        self._warned.add(completion.warnings)
        return completion

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
        encoding = await self._begin(call, plan, job, gather_vectors)
        self._warned.add(encoding.warnings)
        return encoding

    # ---------------------------------------------------------------------------- privately

    @property
    def _started(self) -> Scheduler:
        assert self._scheduler is not None, "start() comes first"
        return self._scheduler

    def _plan(self, call: Call, needs: Need) -> Plan:
        plan = self._planner.plan(call.model, call.options, samples=needs == "completion")
        if needs not in plan.want.claim.capabilities:
            raise MissingCapabilityError(call.model.name.short, (needs,))
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
        start: Callable[[JobStream, Granted], Awaitable[T]],
    ) -> T:
        """Begin a job on a worker that has the model; on another one if that worker dies first."""
        warnings = plan.warnings
        for attempt in ("first", "last"):
            lease, load_ns = await self._lease(call, plan)
            warnings = (*warnings, *lease.warnings)
            if plan.adapters and "adapters" not in lease.info.capabilities:
                lease.release()
                raise UnsupportedError(f"backend {plan.want.claim.backend!r} applies no adapters")
            try:
                granted = Granted(load_ns, (*warnings, *plan.told_by(lease.info)))
                return await start(lease.submit(job), granted)
            except (WorkerDiedError, WorkerHungError) as error:
                if attempt == "last" or self._is_to_blame(job, error):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _is_to_blame(self, job: Generate | Encode, error: WorkerError) -> bool:
        """Whether a worker hung with this job alone, and plugins' code in every step of it.

        To run it once more would only hang another worker for as long.
        """
        if not isinstance(error, WorkerHungError) or not isinstance(job, Generate):
            return False
        names = {sampler.name for sampler in job.chain.samplers}
        giving = (self.plugins.samplers[name][0] for name in names)
        return error.alone and (bool(job.constraint) or any(p is not KERNEL for p in giving))

    async def _constraint(self, given: bytes | None) -> str:
        """Check a format; a long one in a thread, since that may take a tenth of a second."""
        if not given:
            return ""
        if len(given) <= SHORT_FORMAT_BYTES:
            return check_format(given, self.plugins)
        return await asyncio.to_thread(check_format, given, self.plugins)

    def _generate(self, call: CompletionCall, plan: Plan, constraint: str) -> Generate:
        chat = call.messages is not None
        shift = call.model.family != "deepseek2" if call.shift is None else call.shift
        return Generate(
            job_id=0,
            prompt=prompt_spec(call, self.plugins),
            options=plan.options,
            chain=plan.chain,
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
