"""What is listed of options and samplers, and which names of theirs clash."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from corral_kernel.catalog import all_options, all_samplers, option_clashes
from corral_kernel.plugins import Plugins
from corral_kernel.telling import MOST_TEXTS, WarningLog

SAMPLERS = """
from typing import Annotated, Literal
from msgspec import Meta
from corral_kernel.contracts import SamplerOptions, SamplerType
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1

class TiltOptions(SamplerOptions, frozen=True, kw_only=True):
    tilt: Annotated[float, Meta(ge=0, lt=2, description="how far")] = 0.0
    mood: Literal["calm", "wild"] = "calm"
    min_keep: int = 7
    top_k: str = ""
    seed: int = 0
    echo_step_ms: int = 0

class Tilt(SamplerType):
    name = "tilt"
    options = TiltOptions
    docs = "tilts"
    default_place = 45

class Named(SamplerType):
    name = "named"

@hookimpl
def corral_samplers():
    return [Tilt(), Named()]
"""

Install = Callable[[str], Plugins]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(code: str) -> Plugins:
        module = f"samplers_of_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / "tilts-1.5.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[corral]\ntilts = {module}\n")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tilts\nVersion: 1.5\n")
        return Plugins(only=("echo", "tilts"))

    return install


def test_every_option_has_owners_and_says_when_it_counts(install: Install) -> None:
    entries = all_options(install(SAMPLERS))
    names = [entry.field.name for entry in entries]
    assert names == sorted(names)
    found = {entry.field.name: entry for entry in reversed(entries)}
    assert (found["num_ctx"].owners, found["num_ctx"].load_time) == (("corral",), True)
    assert (found["seed"].owners, found["seed"].load_time) == (("corral",), False)
    assert (found["echo_step_ms"].owners, found["echo_step_ms"].load_time) == (("echo",), True)
    assert (found["tilt"].owners, found["tilt"].field.range) == (
        ("tilt",),
        "at least 0 and under 2",
    )
    assert found["top_k"].owners == ("top_k",)
    assert (found["samplers"].field.type, found["backend"].field.type) == ("array", "string")
    assert all(e.field.description for e in entries if not {"echo", "tilt"} & {*e.owners})


def test_an_option_that_several_samplers_share_is_listed_once_or_as_they_differ(
    install: Install,
) -> None:
    entries = [e for e in all_options(install(SAMPLERS)) if e.field.name == "min_keep"]
    assert [(entry.field.default, entry.owners) for entry in entries] == [
        (0, ("typical_p", "top_p", "min_p")),
        (7, ("tilt",)),
    ]


def test_samplers_stand_in_the_order_of_the_default_chain(install: Install) -> None:
    entries = all_samplers(install(SAMPLERS))
    names = " ".join(entry.kind.name for entry in entries)
    assert names == "penalties top_k tilt typical_p top_p min_p temperature named"
    used = [entry.kind.name for entry in entries if entry.in_default_chain]
    assert used == ["top_k", "tilt", "top_p", "temperature"]
    tilt = entries[2]
    assert (tilt.plugin.name, tilt.plugin.distribution) == ("tilts", "tilts")
    assert [field.name for field in tilt.fields][:2] == ["tilt", "mood"]


def test_names_that_a_sampler_and_somebody_else_mean_differently_are_clashes(
    install: Install,
) -> None:
    found = {(c.kind, c.name, c.winner, c.losers) for c in option_clashes(install(SAMPLERS))}
    assert found == {
        ("option", "top_k", "top_k", ("tilt",)),
        ("option", "seed", "corral", ("tilt",)),
        ("option", "echo_step_ms", "echo", ("tilt",)),
    }


def test_built_in_samplers_clash_with_nothing() -> None:
    assert option_clashes(Plugins()) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("default_place = 45", 'default_place = "first"', "default_place of sampler tilt"),
        ("default_place = 45", "default_place = float('nan')", "default_place of sampler tilt"),
        ('docs = "tilts"', 'replaces = "top_k"', "replaces of sampler tilt is no tuple"),
        ('docs = "tilts"', "docs = 5", "docs of sampler tilt are no text"),
        ("tilt: Annotated[", "other: int\n    tilt: Annotated[", "other"),
        ("seed: int = 0", "seed: 'Nowhere' = 0", "Nowhere"),
    ],
)
def test_a_sampler_that_would_break_every_request_is_left_out(
    install: Install, old: str, new: str, words: str
) -> None:
    plugins = install(SAMPLERS.replace(old, new))
    assert "tilt" not in plugins.samplers
    plugin = next(plugin for plugin in plugins.plugins if plugin.name == "tilts")
    assert words in plugin.error
    assert "top_k" in [entry.kind.name for entry in all_samplers(plugins)]


def test_each_warning_is_logged_once_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "corral_kernel.telling")
    log = WarningLog()
    log.add(["one", "two"])
    log.add(["one"])
    assert [record.getMessage() for record in caplog.records] == [
        "a client was warned: one",
        "a client was warned: two",
    ]
    for number in range(MOST_TEXTS * 2):
        log.add([f"text {number}"])
    assert len(caplog.records) == MOST_TEXTS + 1
    assert "not logged any more" in caplog.records[-1].getMessage()
