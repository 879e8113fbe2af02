"""Which of several backends runs a model, and what is told of the choice."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.calls import AbsentBackend
from corral_kernel.choosing import load_failed
from corral_kernel.environment import Settings
from corral_kernel.errors import (
    CorralError,
    InvalidModelError,
    InvalidOptionError,
    LoadTimeoutError,
    NoBackendError,
    QueueFullError,
    RemoteJobError,
    UnusableBackendError,
    WorkerDiedError,
)
from corral_kernel.models import WEIGHTS_TYPE, Model, ModelConfig, ModelFile
from corral_kernel.names import ModelName
from corral_kernel.planning import Planner
from corral_kernel.plugins import Plugins

PLUGIN = """
from corral_kernel.contracts import Backend, Claim
from corral_kernel.plugins import hookimpl
CORRAL_API_VERSION = 1
NAME, CONFIDENCE, NEEDS, EXTRA, SHARED = {facts!r}

@hookimpl
def corral_backends():
    return [Backend(name=NAME, library=NEEDS, extra=EXTRA)]

@hookimpl
def corral_claim(model):
    if not CONFIDENCE:
        return None
    if CONFIDENCE > 1:
        raise ImportError("it needs its library to tell")
    return Claim(backend=NAME, confidence=CONFIDENCE, why="it is " + NAME,
                 capabilities=("completion", NAME), share_key=SHARED)
"""

Install = Callable[..., None]
Make = Callable[..., Planner]


def model(**fields: Any) -> Model:
    weights = ModelFile(
        media_type=WEIGHTS_TYPE, digest="sha256:" + "1" * 64, size_bytes=5, path=Path("/m")
    )
    return Model(
        name=ModelName.parse("m"),
        digest="0" * 64,
        size_bytes=1,
        modified_ns=0,
        config=ModelConfig(),
        files=(weights,),
        **fields,
    )


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out a distribution with one backend; a confidence over 1 raises, 0 bids nothing."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(
        name: str, confidence: float, needs: str = "", extra: str = "", shared: str = ""
    ) -> None:
        module = f"chosen_{name}_{tmp_path.name}".replace("-", "_")
        facts = (name, confidence, needs, extra, shared)
        (tmp_path / f"{module}.py").write_text(PLUGIN.format(facts=facts))
        info = tmp_path / f"chosen_{name}-1.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[corral]\n{name} = {module}\n")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: c-{name}\nVersion: 1\n")

    return install


@pytest.fixture
def planner(install: Install) -> Make:
    """Three backends that bid 0.2, 0.9 and 0.5, one that bids nothing, one without its library."""
    install("low", 0.2)
    install("high", 0.9, shared="a host")
    install("middle", 0.5)
    install("none", 0)
    install("lacking", 0.95, "no_such_library", "corral[lacking]")
    install("dumb", 2, "no_such_library", "dumb[all]")

    def make(order: str = "") -> Planner:
        names = ("low", "high", "middle", "none", "lacking", "dumb")
        settings = Settings.from_environ({"CORRAL_BACKEND_ORDER": order})
        return Planner(Plugins(only=names), settings)

    return make


@pytest.mark.parametrize(
    ("order", "parameter", "option", "chosen", "by", "others"),
    [
        ("", None, None, "high", "bid", ["middle", "low"]),
        ("low", None, None, "low", "order", ["high", "middle"]),
        ("none, ghost,middle,low", None, None, "middle", "order", ["high", "low"]),
        ("low,middle,low", None, None, "low", "order", ["high", "middle"]),
        ("ghost", None, None, "high", "bid", ["middle", "low"]),
        ("low", "middle", None, "middle", "parameter", ["high", "low"]),
        ("low", "middle", "high", "high", "option", ["middle", "low"]),
        ("", None, "low", "low", "option", ["high", "middle"]),
    ],
)
def test_an_explicit_choice_beats_the_order_and_the_order_the_highest_bid(  # noqa: PLR0913, PLR0917 - a row of a table
    planner: Make,
    order: str,
    parameter: str | None,
    option: str | None,
    chosen: str,
    by: str,
    others: list[str],
) -> None:
    asked = model(parameters={"backend": parameter} if parameter else {})
    planned = planner(order)
    plan = planned.plan(asked, {"backend": option})
    assert plan.want.claim.backend == chosen
    assert plan.want.plugin == chosen
    assert plan.choice.by == by
    assert [bid.claim.backend for bid in plan.choice.others] == others
    if option is None:
        claim = planned.claim(asked)
        assert claim is not None
        assert claim.capabilities == ("completion", chosen)
        told = planned.choice(asked)
        assert (told.name, told.why, told.chosen_by) == (chosen, f"it is {chosen}", by)
        assert [(bid.name, bid.why) for bid in told.others] == [(n, f"it is {n}") for n in others]


def test_every_bid_is_told_with_its_confidence_and_what_lacks_a_library_with_the_cure(
    planner: Make,
) -> None:
    told = planner().choice(model())
    assert (told.confidence, [bid.confidence for bid in told.others]) == (0.9, [0.5, 0.2])
    assert told.absent == (
        AbsentBackend(
            name="dumb", why="", needs="no_such_library", install="pip install 'dumb[all]'"
        ),
        AbsentBackend(
            name="lacking",
            why="it is lacking",
            needs="no_such_library",
            install="pip install 'corral[lacking]'",
        ),
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ghost", "backend 'ghost' is not installed; installed: high, low, middle, none"),
        ("x" * 500, f"backend '{'x' * 100}' is not installed; installed: high, low, middle, none"),
        ("lacking", "backend 'lacking' needs no_such_library: pip install 'corral[lacking]'"),
        ("none", "backend 'none' does not run m:latest; those that do: high, middle, low"),
    ],
)
def test_a_choice_that_cannot_be_is_told_and_never_replaced(
    planner: Make, name: str, words: str
) -> None:
    asked = model(parameters={"backend": name})
    for given, of in (({"backend": name}, model()), ({}, asked)):
        with pytest.raises(UnusableBackendError) as caught:
            planner().plan(of, given)
        assert str(caught.value) == words
    assert planner().claim(asked) is None
    told = planner().choice(asked)
    assert (told.name, told.confidence, told.error) == ("", 0.0, words)
    assert [bid.name for bid in told.others] == ["high", "middle", "low"]


def test_a_name_that_is_no_text_and_a_damaged_model_are_told(planner: Make) -> None:
    with pytest.raises(InvalidOptionError, match='"backend" must be of type string'):
        planner().plan(model(), {"backend": 5})
    broken = model(problem="the file is cut short")
    with pytest.raises(InvalidModelError, match="cut short"):
        planner().plan(broken, {"backend": "low"})
    assert planner().choice(broken).error == "the file is cut short"


def test_what_nobody_runs_is_told_with_what_to_install(install: Install) -> None:
    install("none", 0)
    install("lacking", 0.95, "no_such_library", "corral[lacking]")
    planner = Planner(Plugins(only=("none", "lacking")), Settings.from_environ({}))
    with pytest.raises(NoBackendError) as caught:
        planner.plan(model(), {})
    hint = "pip install 'corral[lacking]'"
    assert str(caught.value) == f"no installed backend runs m:latest: {hint}"


def test_the_start_warns_once_of_each_name_of_the_order_that_is_not_there(
    planner: Make, caplog: pytest.LogCaptureFixture
) -> None:
    made = planner("ghost,low,lacking,none,ghost")
    with caplog.at_level(logging.WARNING):
        made.choosing.warn()
        made.plan(model(), {})
    words = [
        "backend 'ghost' is not installed; installed: high, low, middle, none",
        "backend 'lacking' needs no_such_library: pip install 'corral[lacking]'",
    ]
    told = sorted(record.getMessage() for record in caplog.records)
    assert told == [f"CORRAL_BACKEND_ORDER: {each}" for each in words]


def test_a_model_is_looked_for_on_every_backend_when_it_is_to_go(planner: Make) -> None:
    assert planner().keys(model()) == ("a host", "sha256:" + "1" * 64)
    plan = planner().plan(model(), {"backend": "low"})
    assert plan.want.key in planner().keys(model())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RemoteJobError("out_of_memory", "too big"), "too big (NOTE)"),
        (LoadTimeoutError("timed out"), "timed out (NOTE)"),
        (
            WorkerDiedError("m:latest", -9, "its last words"),
            "worker for 'm:latest' was killed by SIGKILL: its last words (NOTE)",
        ),
        (WorkerDiedError("m:latest", 1), "worker for 'm:latest' exited with status 1: NOTE"),
        (QueueFullError("server busy"), "server busy"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_load_that_fails_names_its_backend_and_those_that_could_be_tried(
    planner: Make, error: CorralError, words: str
) -> None:
    choice = planner("low").plan(model(), {}).choice
    note = (
        "backend 'low' was to load it; the option backend chooses another that bids: "
        "'high', 'middle'"
    )
    told = load_failed(error, "m:latest", choice)
    assert type(told) is type(error)
    assert getattr(told, "remote_code", "") == getattr(error, "remote_code", "")
    assert str(told) == words.replace("NOTE", note)
