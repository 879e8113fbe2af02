"""Plugins of throw-away distributions: installed as pip would lay them out, and found as any."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.contracts import Claim, LoadRequest
from corral_kernel.errors import PluginError
from corral_kernel.given import SCHEMA_TYPES
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.plugins import Plugin, Plugins

HEAD = """
from corral_kernel.contracts import Backend, Claim, LoadOptions, Registry
from corral_kernel.plugins import hookimpl
CORRAL_API_VERSION = 1
"""

GOOD = (
    HEAD
    + """
@hookimpl
def corral_backends():
    return [Backend(name=BACKEND)]

@hookimpl
def corral_claim(model):
    return Claim(backend=BACKEND, confidence=0.5, why="any", capabilities=("completion",))
"""
)

MODEL = Model(
    name=ModelName.parse("m"),
    digest="0" * 64,
    size_bytes=0,
    modified_ns=0,
    config=ModelConfig(),
    files=(),
)

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out a distribution with one plugin; give the plugin's name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(code: str, name: str, *, distribution: str = "", metadata: bool = True) -> str:
        distribution = distribution or f"dist-{name}"
        module = f"module_of_{distribution}_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(f"BACKEND = {name!r}\n{code}")
        info = tmp_path / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[corral]\n{name} = {module}\n")
        if metadata:
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n"
            )
        return name

    return install


def found(plugins: Plugins, name: str) -> Plugin:
    return next(plugin for plugin in plugins.plugins if plugin.name == name)


def bidders(plugins: Plugins) -> list[str]:
    return [bid.plugin.name for bid in plugins.bids(MODEL)]


def test_a_plugin_is_listed_with_where_it_is_from_and_what_it_gives(install: Install) -> None:
    plugins = Plugins(only=[install(GOOD, "good")])
    plugin = found(plugins, "good")
    assert (plugin.distribution, plugin.version, plugin.api_version) == ("dist-good", "1.5", 1)
    assert (plugin.status, plugin.error, plugin.hint) == ("ok", "", "")
    assert plugin.hooks == ("corral_backends", "corral_claim")
    assert plugins.provides(plugin) == {"backends": ["good"]}
    assert bidders(plugins) == ["good"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("this is no Python", "SyntaxError: "),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("1 / 0", "ZeroDivisionError: "),
        (GOOD.replace("CORRAL_API_VERSION = 1", ""), "it is written for plugin API None, this is"),
        (GOOD.replace("VERSION = 1", "VERSION = 99"), "it is written for plugin API 99, this is 1"),
        (GOOD.replace("VERSION = 1", "VERSION = 'one'"), "plugin API one, this is 1"),
        (GOOD.replace("claim(model)", "claim(model, luck)"), "PluginValidationError: "),
        (GOOD.replace("corral_claim", "corral_clam"), "PluginValidationError: unknown hook"),
    ],
    ids=[
        "import fails",
        "syntax",
        "exits",
        "raises",
        "no version",
        "newer version",
        "version is no number",
        "signature",
        "unknown hook",
    ],
)
def test_a_plugin_that_cannot_be_used_is_left_out_alone(
    install: Install, code: str, error: str
) -> None:
    plugins = Plugins(only=[install(code, "bad"), install(GOOD, "good")])
    bad = found(plugins, "bad")
    assert bad.status == "failed"
    assert error in bad.error
    assert bidders(plugins) == ["good"]
    assert list(plugins.backends) == ["good"]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            "return Claim(",
            "raise OSError('no disk'); dict(",
            "corral_claim raised OSError: no disk",
        ),
        ("return Claim(", "exit(3); dict(", "corral_claim raised SystemExit: 3"),
        ("return Claim(", "return dict(", "corral_claim raised PluginError: it gave dict, not"),
        ("confidence=0.5", "confidence=7.0", "Expected `float` <= 1"),
        ("confidence=0.5", "confidence=float('nan')", "corral_claim raised ValidationError"),
        ("backend=BACKEND", "backend='good'", "given by plugin good"),
        ("backend=BACKEND", "backend='ghost'", "given by nobody"),
        ("return [Backend(name=BACKEND)]", "return [1]", "corral_backends gave int, not Backend"),
        ("return [Backend(name=BACKEND)]", "return 5", "corral_backends raised TypeError"),
        ("name=BACKEND", "name=''", "a Backend has no name"),
        ("name=BACKEND", "name='bad', options=dict", "are no LoadOptions"),
    ],
    ids=[
        "claim raises",
        "claim exits",
        "no claim",
        "too sure",
        "not a number",
        "another's backend",
        "nobody's backend",
        "no backend",
        "no list",
        "no name",
        "other options",
    ],
)
def test_a_hook_that_fails_counts_as_no_answer_and_is_reported(
    install: Install, old: str, new: str, error: str
) -> None:
    assert old in GOOD
    plugins = Plugins(only=[install(GOOD.replace(old, new, 1), "bad"), install(GOOD, "good")])
    assert bidders(plugins) == ["good"]
    assert error in found(plugins, "bad").error


def test_a_hook_that_fails_is_logged_once(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = Plugins(only=[install(GOOD.replace("return Claim(", "1 / 0; dict("), "bad")])
    for _ in range(5):
        assert bidders(plugins) == []
    assert len([r for r in caplog.records if "corral_claim raised" in r.getMessage()]) == 1


def test_a_backend_without_its_library_is_listed_with_a_hint_and_does_not_bid(
    install: Install,
) -> None:
    needs = "name=BACKEND, library='no_such.library', extra='corral[such]'"
    plugins = Plugins(only=[install(GOOD.replace("name=BACKEND", needs), "lacking")])
    assert bidders(plugins) == []
    plugin = found(plugins, "lacking")
    assert plugin.status == "unavailable"
    assert plugin.hint == "pip install 'corral[such]'"
    assert plugin.error == "backend lacking needs no_such.library"
    assert plugins.missing == {"lacking"}
    assert plugins.provides(plugin) == {"backends": ["lacking"]}


CONVERTER = """
from corral_kernel.contracts import Converter
from corral_kernel.plugins import hookimpl
CORRAL_API_VERSION = 1

class Lacking(Converter):
    name, library, extra = "lacking", "no_such_library", "corral[thing]"

@hookimpl
def corral_converters():
    return [Lacking()]
"""


def test_a_plugin_that_only_converts_and_lacks_its_library_is_unavailable(
    install: Install,
) -> None:
    plugins = Plugins(only=[install(CONVERTER, "converting")])
    plugin = found(plugins, "converting")
    assert plugins.provides(plugin) == {"converters": ["lacking"]}
    assert plugin.status == "unavailable"
    assert (plugin.error, plugin.hint) == (
        "lacking needs no_such_library",
        "pip install 'corral[thing]'",
    )


def test_a_plugin_bids_for_the_one_of_its_backends_that_is_installed(install: Install) -> None:
    both = "[Backend(name=BACKEND), Backend(name='other', library='no_such', extra='x')]"
    plugins = Plugins(only=[install(GOOD.replace("[Backend(name=BACKEND)]", both), "half")])
    assert bidders(plugins) == ["half"]
    assert found(plugins, "half").status == "ok"
    assert plugins.missing == {"other"}
    other = GOOD.replace("[Backend(name=BACKEND)]", both).replace("end=BACKEND", "end='other'")
    plugins = Plugins(only=[install(other, "halb")])
    assert bidders(plugins) == []
    assert found(plugins, "halb").error == "backend other needs no_such"


def test_of_two_that_give_one_name_the_first_by_distribution_serves(install: Install) -> None:
    code = GOOD.replace("BACKEND", "'shared'")
    names = [install(code, "x", distribution="zoo"), install(code, "y", distribution="ant")]
    plugins = Plugins(only=names)
    assert plugins.backends["shared"][0].name == "y"
    assert bidders(plugins) == ["y"]
    (clash,) = plugins.clashes
    assert (clash.kind, clash.name, clash.winner, clash.losers) == (
        "backend",
        "shared",
        "y",
        ("x",),
    )
    assert bidders(Plugins(only=names, disabled=["y"])) == ["x"]


def test_of_two_plugins_of_one_name_the_second_is_left_out(install: Install) -> None:
    install(GOOD, "twin", distribution="beta")
    plugins = Plugins(only=[install(GOOD, "twin", distribution="alpha")])
    first, second = (p for p in plugins.plugins if p.name == "twin")
    assert (first.distribution, first.status) == ("alpha", "ok")
    assert (second.distribution, second.status) == ("beta", "failed")
    assert second.error == "alpha has a plugin of that name"
    assert [(c.kind, c.name) for c in plugins.clashes] == [("plugin", "twin")]


def test_an_installation_without_metadata_is_listed_all_the_same(install: Install) -> None:
    plugins = Plugins(only=[install(GOOD, "bare", metadata=False)])
    assert found(plugins, "bare").status == "ok"
    assert bidders(plugins) == ["bare"]


@pytest.mark.parametrize(
    ("only", "disabled", "want"),
    [
        (["a"], [], {"a": "ok", "b": "disabled"}),
        (["a", "b"], ["b"], {"a": "ok", "b": "disabled"}),
        (None, ["a"], {"a": "disabled", "b": "ok"}),
    ],
    ids=["only", "only and disabled", "disabled"],
)
def test_plugins_can_be_chosen_by_name(
    install: Install, only: list[str] | None, disabled: list[str], want: dict[str, str]
) -> None:
    for name in ("a", "b"):
        install(GOOD, name)
    plugins = Plugins(only, disabled)
    assert {name: found(plugins, name).status for name in want} == want
    assert all(bid in want and want[bid] == "ok" for bid in bidders(plugins) if bid in "ab")


def test_a_disabled_plugin_is_not_imported(install: Install) -> None:
    plugins = Plugins(disabled=[install("raise RuntimeError", "sleeping")])
    assert found(plugins, "sleeping").error == ""


def test_a_chosen_name_that_is_not_installed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    Plugins(only=["tpyo"])
    assert "no plugin named 'tpyo' is installed" in caplog.text


def test_loading_asks_the_claiming_plugin_alone_and_wants_an_engine(install: Install) -> None:
    liar = GOOD + "\n@hookimpl\ndef corral_load(request):\n    return 'an engine'\n"
    plugins = Plugins(only=[install(liar, "liar"), install(GOOD, "lazy")])
    request = LoadRequest(
        claim=Claim(backend="liar", confidence=0.5, why="", capabilities=()),
        options=plugins.backends["liar"][1].options(),
        files=(),
        slots=1,
        report=lambda _share: True,
    )
    for name, why in [
        ("liar", "gave str, not an Engine"),
        ("lazy", "gave NoneType, not an Engine"),
        ("gone", "is not installed here"),
    ]:
        with pytest.raises(PluginError, match=why):
            plugins.load(name, request)


@pytest.mark.parametrize("name", sorted(SCHEMA_TYPES))
def test_a_constraint_named_like_a_type_of_json_schema_is_refused(
    install: Install, name: str
) -> None:
    body = f"""{HEAD}
from corral_kernel.contracts import ConstraintType

class Mine(ConstraintType):
    name = {name!r}

@hookimpl
def corral_constraints():
    return [Mine()]
"""
    plugins = Plugins(only=[install(body, "mine")])
    assert name not in plugins.constraints
    assert f"may not be named {name!r}" in found(plugins, "mine").error


def test_a_registry_that_fails_lends_nothing_and_the_others_lend(install: Install) -> None:
    def registry(body: str) -> str:
        return f"""{HEAD}
from corral_kernel.models import LentModel
class Mine(Registry):
    name = BACKEND
    def lent(self):
        {body}

@hookimpl
def corral_registries():
    return [Mine()]
"""

    lends = "return [LentModel(name='m', manifest=b'{}', blobs={}, owner='me')]"
    plugins = Plugins(
        only=[
            install(registry("return ['nothing']"), "wrong"),
            install(registry("raise SystemExit(2)"), "exits"),
            install(registry(lends), "right"),
        ]
    )
    assert [lent.name for lent in plugins.lent()] == ["m"]
    assert "registry wrong gave str, not LentModel" in found(plugins, "wrong").error
    assert "SystemExit" in found(plugins, "exits").error


def values(plugins: Plugins) -> dict[str, Any]:
    return {kind: getattr(plugins, kind) for kind in ("backends", "constraints", "renderers")}


def test_without_any_plugin_everything_is_empty() -> None:
    plugins = Plugins(only=())
    assert not any(values(plugins).values())
    assert bidders(plugins) == []
    assert {plugin.status for plugin in plugins.plugins} == {"disabled"}
