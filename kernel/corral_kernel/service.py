"""The kernel as the API sees it: models by name, completions, vectors."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

import msgspec

from corral_kernel.addresses import parse_host
from corral_kernel.calls import BackendChoice, Call, CompletionCall, EncodeCall, RunningModel
from corral_kernel.chat_formats import settled, with_format
from corral_kernel.completion import Completion, Encoding, begin, gather_vectors
from corral_kernel.completion_jobs import CompletionJobs, checked_format, with_untold
from corral_kernel.contracts import Claim, RegistryPlaces
from corral_kernel.durations import FOREVER
from corral_kernel.environment import Settings
from corral_kernel.errors import CorralError, MissingCapabilityError, ModelNotFoundError
from corral_kernel.fields import fields_of
from corral_kernel.frames import Encode, Generate
from corral_kernel.leasing import Leasing
from corral_kernel.lockfile import read_lock
from corral_kernel.locking import Locking, make_store
from corral_kernel.makers import Makers
from corral_kernel.models import Model
from corral_kernel.names import ModelName
from corral_kernel.options import BACKEND
from corral_kernel.planning import Plan, Planner
from corral_kernel.plugins import Plugins
from corral_kernel.prompts import check_template, choose_template
from corral_kernel.remotes import DEFAULT_REMOTES, RemotePolicy
from corral_kernel.scheduler import Limits, Scheduler
from corral_kernel.store import CreateRequest, Progress, create_model, shown_template
from corral_kernel.store.requests import parse_base, parse_stub
from corral_kernel.supervisor import JobLimits, WorkerSetup
from corral_kernel.tasks.compare import CompareCall, CompareResult, Step, check_options
from corral_kernel.tasks.comparing import Side, compare
from corral_kernel.tasks.creating import carry_out
from corral_kernel.tasks.process import Tasks
from corral_kernel.tasks.turns import Turns
from corral_kernel.telling import WarningLog
from corral_kernel.transfers import Maker, Manner, Transfers, check_source

NS = 1_000_000_000
Need = Literal["completion", "embedding"]


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
        self._turns = Turns(settings.max_tasks, settings.max_queue)
        self.remotes = RemotePolicy(_allowed(settings))
        self._planner = Planner(self.plugins, settings)
        self._jobs = CompletionJobs(self.plugins, go_template=settings.go_template)
        self._warned = WarningLog()
        self._leasing: Leasing | None = None
        self._tasks: Tasks | None = None

    async def start(self) -> None:
        """Clean the store up and begin to take requests."""
        settings = self.settings
        await asyncio.to_thread(self.store.start_up)
        await self.locking.begin(insecure=settings.locked_insecure)
        self._planner.choosing.warn()
        scheduler = Scheduler(
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
                interval_s=_seconds(settings.stream_interval_ns),
                limits=JobLimits(stall_s=_seconds(settings.stall_timeout_ns)),
                remotes=_allowed(settings),
            ),
        )
        scheduler.start()
        self._leasing = Leasing(scheduler, self.store, self.plugins)
        self._tasks = Tasks(scheduler.spare, _seconds(settings.task_timeout_ns))

    async def close(self) -> None:
        """End all transfers and workers."""
        await self.transfers.close()
        if self._leasing is not None:
            await self._leasing.close()
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
        assert self._tasks is not None, "start() comes first"
        return carry_out(steps, self._tasks, self._turns)

    async def pull_of_base(
        self, request: CreateRequest, *, insecure: bool = False
    ) -> AsyncGenerator[Progress] | None:
        """The pull of the model that a creation builds upon; None: it is here, or needs none.

        Args:
            request: What is created.
            insecure: Use plain http.

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
            source = request.base if addressed else base.full
            return self.transfers.pull(source, insecure=insecure)
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
        """The template to show: of its TEMPLATE and the Jinja one in its weights the one in use."""
        if not (model.template and model.jinja_template) or model.is_remote:
            return shown_template(model)
        try:
            return choose_template(model, self.plugins, go_template=self.settings.go_template)[1]
        except CorralError:  # which a request will tell
            return model.template

    def running(self) -> list[RunningModel]:
        """Loaded models, the latest to expire first."""
        never = float("inf")
        instances = self._started.scheduler.running()
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
        lease, _load_ns = await self._started.lease(call, plan)
        warnings = (*plan.warnings, *lease.warnings, *plan.told_by(lease.info))
        lease.release()
        self._warned.add(warnings)
        return warnings

    async def unload(self, model: Model) -> None:
        """Have a model go as soon as nobody uses it; returns at once, loaded or not."""
        for key in self._planner.keys(model):
            self._started.scheduler.expire(key)

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
        completion = await self._started.begin(call, plan, job, begin)
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
        encoding = await self._started.begin(call, plan, job, gather_vectors)
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

        lease = self._started.lease_alone
        return compare((first, second), call.prompts, lease, make_job, self._turns)

    # ---------------------------------------------------------------------------- privately

    def _side(self, letter: str, call: CompletionCall, given: Mapping[str, Any]) -> Side:
        plan = self._plan(call, "completion")
        backend = self.plugins.backends[plan.want.claim.backend][1]
        check_options(given, fields_of(backend.options))
        return Side(letter=letter, call=call, plan=plan)

    @property
    def _started(self) -> Leasing:
        assert self._leasing is not None, "start() comes first"
        return self._leasing

    def _check_remote(self, model: Model) -> None:
        if model.is_remote:
            self.remotes.check_url(model.config.remote_host)

    def _plan(self, call: Call, needs: Need) -> Plan:
        self._check_remote(call.model)
        plan = self._planner.plan(call.model, call.options, samples=needs == "completion")
        if needs not in plan.want.claim.capabilities:
            raise MissingCapabilityError(call.model.name.short, (needs,))
        return plan


def _allowed(settings: Settings) -> tuple[str, ...]:
    """Where models may run; with the cloud switched off not there."""
    hosts = settings.remotes
    return tuple(h for h in hosts if not (settings.no_cloud and _is_cloud(h)))


def _is_cloud(url: str) -> bool:
    return parse_host(url).host.lower().rstrip(".") in DEFAULT_REMOTES


def _seconds(duration_ns: int) -> float:
    return float("inf") if duration_ns >= FOREVER else duration_ns / NS
