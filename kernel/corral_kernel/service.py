"""The kernel as the API sees it: models by name, completions, vectors."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from corral_kernel.addresses import parse_host
from corral_kernel.calls import BackendChoice, Call, CompletionCall, EncodeCall, RunningModel
from corral_kernel.chat_formats import settled, with_format
from corral_kernel.choosing import load_failed
from corral_kernel.completion import Completion, Encoding, Granted, begin, gather_vectors
from corral_kernel.completion_jobs import CompletionJobs, checked_format, with_untold
from corral_kernel.contracts import Claim, RegistryPlaces
from corral_kernel.durations import FOREVER
from corral_kernel.environment import Settings
from corral_kernel.errors import (
    CorralError,
    LoadError,
    MissingCapabilityError,
    ModelNotFoundError,
    RemoteJobError,
    UnsupportedError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.fields import fields_of
from corral_kernel.frames import Encode, Generate
from corral_kernel.lockfile import read_lock
from corral_kernel.locking import Locking, make_store
from corral_kernel.makers import Makers
from corral_kernel.models import Model
from corral_kernel.names import ModelName
from corral_kernel.options import BACKEND
from corral_kernel.planning import Plan, Planner
from corral_kernel.plugins import KERNEL, Plugins
from corral_kernel.prompts import (
    check_template,
    choose_template,
)
from corral_kernel.remotes import DEFAULT_REMOTES, RemotePolicy
from corral_kernel.scheduler import Hold, Lease, Limits, Scheduler
from corral_kernel.store import CreateRequest, Progress, create_model, shown_template
from corral_kernel.store.requests import parse_base, parse_stub
from corral_kernel.supervisor import JobLimits, JobStream, WorkerSetup
from corral_kernel.tasks.compare import CompareCall, CompareResult, Step, check_options
from corral_kernel.tasks.comparing import Side, compare
from corral_kernel.tasks.creating import carry_out
from corral_kernel.tasks.process import TaskLimits
from corral_kernel.telling import WarningLog
from corral_kernel.threads import to_its_end
from corral_kernel.transfers import Maker, Manner, Transfers, check_source

T = TypeVar("T")
NS = 1_000_000_000
Need = Literal["completion", "embedding"]

_log = logging.getLogger(__name__)


def registry_places(settings: Settings) -> RegistryPlaces:
    """What registries learn of a server's folders."""
    return RegistryPlaces(
        home=settings.home,
        models_dir=settings.models_dir,
        folders=settings.model_paths,
        usual=settings.usual_model_paths,
    )


class Corral:
    """One server's kernel.

    Args:
        settings: Of this server.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.plugins = Plugins(settings.plugins, settings.disable_plugins)
        self.plugins.begin(registry_places(settings))
        locked = read_lock(settings.locked) if settings.locked else {}
        self.store = make_store(settings, self.plugins.lent, locked)
        self.transfers = Transfers(
            self.store,
            self.plugins.registry_for,
            settings.home,
            address=self.plugins.address,
            maker=Maker(self.create, lambda files: check_source(self.store, self.makers, files)),
            auth=settings.registry_auth,
            manner=Manner(streams=settings.max_transfer_streams),
        )
        self.locking = Locking(self.store, self.transfers, locked)
        self.makers = Makers(self.plugins)
        self._task_limits = TaskLimits(
            debug=bool(settings.debug),
            timeout_s=_seconds(settings.task_timeout_ns),
        )
        self.remotes = RemotePolicy(_allowed(settings))
        self._planner = Planner(self.plugins, settings)
        self._jobs = CompletionJobs(self.plugins, go_template=settings.go_template)
        self._warned = WarningLog()
        self._scheduler: Scheduler | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Clean the store up and begin to take requests."""
        settings = self.settings
        await asyncio.to_thread(self.store.start_up)
        await self.locking.begin(insecure=settings.locked_insecure)
        self._planner.choosing.warn()
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
                remotes=_allowed(settings),
            ),
        )
        self._scheduler.start()

    async def close(self) -> None:
        """End all transfers and workers."""
        await self.transfers.close()
        if self._scheduler is not None:
            await self._scheduler.close()
        while self._background:
            await asyncio.wait(self._background)
        self.store.close()

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

    def create(self, request: CreateRequest) -> AsyncGenerator[Progress, None]:
        """Create a model step by step; otherwise as `store.create_model`.

        Closing the iterator gives up what is not done yet, and undoes the rest.

        Raises:
            InvalidRequestError: If its TEMPLATE does not parse.
            RemoteHostError: If it is to run on a server that is not allowed.
        """
        self.store.check_changes()
        if request.template:
            check_template(request.template, self.plugins)
        if request.base and (found := self.plugins.address(request.base)):
            request = msgspec.structs.replace(request, base=found[1].full)
        steps = create_model(self.store, request, self.remotes.check_url, self.makers)
        return carry_out(steps, self._task_limits)

    async def pull_of_base(self, request: CreateRequest) -> AsyncGenerator[Progress] | None:
        """The pull of the model that a creation builds upon; None: it is here, or needs none.

        Raises:
            InvalidRequestError: If what it builds upon is no name.
        """
        if not request.base or parse_stub(request) is not None:
            return None
        addressed = self.plugins.address(request.base)
        base = addressed[1] if addressed else parse_base(request.base)
        try:
            await asyncio.to_thread(self.store.find, base)
        except ModelNotFoundError:
            return self.transfers.pull(request.base if addressed else base.full)
        except CorralError:
            pass  # it is here, and damaged: the creation tells how
        return None

    def capabilities(self, model: Model) -> tuple[str, ...]:
        """What works with a model here: `completion`, what its template adds, `embedding`, …."""
        claim = self._planner.claim(model)
        return () if claim is None else self._with_format(model, claim)

    def capabilities_for(self, call: Call) -> tuple[str, ...]:
        """What works for a call, on the backend that it or its model asks for.

        Raises:
            UnusableBackendError: If what is asked for is not installed, or does not run the model.
            InvalidOptionError: If what is asked for is no name.
        """
        if (call.options.get(BACKEND.name) or call.model.parameters.get(BACKEND.name)) is None:
            return self.capabilities(call.model)
        claim = self._planner.choosing.choose(call.model, call.options).bid.claim
        return self._with_format(call.model, claim)

    def _with_format(self, model: Model, claim: Claim) -> tuple[str, ...]:
        go_template = self.settings.go_template
        return with_format(model, claim, self.plugins, go_template=go_template)

    def backend_of(self, model: Model) -> BackendChoice:
        """Which backend would run a model, why that one, and who else could; or why none does."""
        return self._planner.choice(model)

    def reaches(self, model: Model) -> bool:
        """Whether a model is here, or on another server that some backend asks for us.

        Whether that server is allowed is told when it is to be asked.
        """
        if not model.is_remote:
            return True
        of_cloud = self.settings.no_cloud and _is_cloud(model.config.remote_host)
        return not of_cloud and bool(self._planner.choosing.bids(model))

    def chosen_template(self, model: Model) -> str:
        """The template to show: of its TEMPLATE and the Jinja one in its weights that in use."""
        if not (model.template and model.jinja_template) or model.is_remote:
            return shown_template(model)
        try:
            return choose_template(model, self.plugins, go_template=self.settings.go_template)[1]
        except CorralError:  # which a request will tell
            return model.template

    def running(self) -> list[RunningModel]:
        """Loaded models, the latest to expire first."""
        never = float("inf")
        instances = self._started.running()
        instances.sort(key=lambda i: never if i.expires_at is None else i.expires_at, reverse=True)
        return [
            RunningModel(
                model=model,
                size_bytes=i.memory_bytes,
                vram_bytes=i.info.vram_bytes,
                expires_at=i.expires_at,
                context_tokens=i.info.context_tokens,
                slots=i.slots,
                backend=i.want.claim.backend,
                details=i.info.details,
            )
            for i in instances
            for model in i.models.values()
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
        self._check_remote(call.model)
        plan = self._planner.plan(call.model, call.options)
        lease, _load_ns = await self._lease(call, plan)
        warnings = (*plan.warnings, *lease.warnings, *plan.told_by(lease.info))
        lease.release()
        self._warned.add(warnings)
        return warnings

    async def unload(self, model: Model) -> None:
        """Have a model go as soon as nobody uses it; returns at once, loaded or not."""
        for key in self._planner.keys(model):
            self._started.expire(key)

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
        has = self._with_format(call.model, plan.want.claim)
        call = settled(call, has, self.plugins)
        constraint = await checked_format(call, plan, self.plugins)
        job = self._jobs.make(call, plan, constraint)
        plan = with_untold(plan, call, job)
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
            target=call.model.config.remote_model,
        )
        encoding = await self._begin(call, plan, job, gather_vectors)
        self._warned.add(encoding.warnings)
        return encoding

    def compare(self, call: CompareCall) -> AsyncGenerator[Step | CompareResult, None]:
        """Begin to compare two models; gives steps and, last, the result.

        Raises:
            MissingCapabilityError: For a model that makes vectors.
            CorralError: Whatever else is wrong with the request; more is raised on the way.
        """
        call.check()
        first, second = (
            self._side(letter, completion, given)
            for letter, completion, given in zip(
                "ab", call.completions(), call.options, strict=True
            )
        )

        def make_job(completion: CompletionCall, plan: Plan) -> Generate:
            return self._jobs.make(completion, plan, "")

        return compare((first, second), call.prompts, self._lease_alone, make_job)

    # ---------------------------------------------------------------------------- privately

    def _side(self, letter: str, call: CompletionCall, given: Mapping[str, Any]) -> Side:
        plan = self._plan(call, "completion")
        backend = self.plugins.backends[plan.want.claim.backend][1]
        check_options(given, fields_of(backend.options))
        return Side(letter=letter, call=call, plan=plan)

    @property
    def _started(self) -> Scheduler:
        assert self._scheduler is not None, "start() comes first"
        return self._scheduler

    def _check_remote(self, model: Model) -> None:
        if model.is_remote:
            self.remotes.check_url(model.config.remote_host)

    def _plan(self, call: Call, needs: Need) -> Plan:
        self._check_remote(call.model)
        plan = self._planner.plan(call.model, call.options, samples=needs == "completion")
        if needs not in plan.want.claim.capabilities:
            raise MissingCapabilityError(call.model.name.short, (needs,))
        return plan

    async def _lease(self, call: Call, plan: Plan) -> tuple[Lease, int]:
        asked_ns = time.perf_counter_ns()
        if call.model.owner:
            await asyncio.to_thread(self.store.verify, call.model)
        hold = None
        if call.model.folder:
            hold = await asyncio.to_thread(self.store.lay_out, call.model)
        try:
            kept = await self._keep(call.model)
            lease = await self._started.acquire(plan.want, call.keep_alive_ns, kept)
        except (LoadError, RemoteJobError, WorkerDiedError) as error:
            raise load_failed(error, plan.want.name, plan.choice) from error
        finally:
            if hold:
                hold.release()  # from now on the worker's own lock keeps the folder
        return lease, time.perf_counter_ns() - asked_ns

    async def _keep(self, model: Model) -> Hold | None:
        """Keep the files of a model from being deleted while a worker has them."""
        if model.owner or not model.files:
            return None
        uses: list[Callable[[], None]] = []

        def let_go() -> None:
            for use in uses:
                self._in_background(use)

        try:
            await to_its_end(lambda: uses.append(self.store.use(model)))
        except asyncio.CancelledError:
            let_go()
            raise
        return Hold(model.digest, let_go)

    def _in_background(self, work: Callable[[], None]) -> None:
        """Do what nobody waits for in a thread; `close` does wait."""
        task = asyncio.create_task(asyncio.to_thread(work))
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.warning("clean-up after a model was unloaded: %s", error)

    async def _lease_alone(self, call: Call, plan: Plan) -> tuple[Lease, int]:
        """As `_lease`, for what nobody else will want: it is not loaded on once nobody waits."""
        try:
            return await self._lease(call, plan)
        except asyncio.CancelledError:
            self._started.expire(plan.want.key)
            raise

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


def _allowed(settings: Settings) -> tuple[str, ...]:
    """Where models may run; with the cloud switched off not there."""
    hosts = settings.remotes
    return tuple(h for h in hosts if not (settings.no_cloud and _is_cloud(h)))


def _is_cloud(url: str) -> bool:
    return parse_host(url).host.lower().rstrip(".") in DEFAULT_REMOTES


def _seconds(duration_ns: int) -> float:
    return float("inf") if duration_ns >= FOREVER else duration_ns / NS
