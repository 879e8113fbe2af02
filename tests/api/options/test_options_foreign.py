"""Samplers of a third party's distribution: listed, used, and harmless where they are broken."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

QUESTION = "capital of Italy?"
FIXED = {"temperature": 0, "num_thread": 1}

Ask = Callable[..., httpx.Response]


PLUGIN = """
from typing import Literal
from corral_kernel.contracts import Sampler, SamplerOptions, SamplerType
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1

class FavourOptions(SamplerOptions, frozen=True, kw_only=True):
    favour: str = ""
    favour_mode: Literal[0, 1] = 0
    top_k: str = "clashes"
    seed: int = 0

class Favour(Sampler):
    def __init__(self, wanted):
        self._wanted = wanted

    def apply(self, candidates):
        if candidates.ids is None:
            candidates.logits[self._wanted] += 100

class FavourType(SamplerType):
    name = "favour"
    options = FavourOptions
    docs = "makes one token certain"
    default_place = 1.0

    def enabled(self, options):
        return bool(options.favour)

    def start(self, options, job):
        return Favour(job.tokenizer.encode(options.favour, special=False)[0])

class ShakyOptions(SamplerOptions, frozen=True, kw_only=True):
    shake: float = 0.0

class Shaky(SamplerType):
    name = "shaky"
    options = ShakyOptions
    default_place = 2.0

    def enabled(self, options):
        return 1 / options.shake > 0

@hookimpl
def corral_samplers():
    return [FavourType(), Shaky()]
"""


@pytest.fixture(scope="module")
def foreign(
    start_server: Callable[..., Any], tools: Any, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The address of a server with another one's samplers installed."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "favours_plugin.py").write_text(PLUGIN)
    info = folder / "favours-2.1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[corral]\nfavours = favours_plugin\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: favours\nVersion: 2.1\n")
    url: str = start_server(PYTHONPATH=str(folder)).url
    tools.make_model(url)
    return url


def test_a_foreign_sampler_is_listed_and_used(foreign: str, tools: Any) -> None:
    listed = {s["name"]: s for s in httpx.get(f"{foreign}/api/samplers").json()["samplers"]}
    assert (listed["favour"]["plugin"], listed["favour"]["version"]) == ("favours", "2.1")
    assert [field["name"] for field in listed["favour"]["fields"]] == [
        "favour",
        "favour_mode",
        "top_k",
        "seed",
    ]
    options = {o["name"]: o for o in httpx.get(f"{foreign}/api/options").json()["options"]}
    assert options["favour"]["owners"] == ["favour"]
    assert (options["favour_mode"]["type"], options["favour_mode"]["choices"]) == (
        "integer",
        [0, 1],
    )
    ask = tools.asking(foreign)
    assert ask({**FIXED, "favour": "z", "num_predict": 3}).json()["response"] == "zzz"
    chain = [{"name": "favour", "favour": "q"}]
    assert ask({**FIXED, "samplers": chain, "num_predict": 3}).json()["response"] == "qqq"
    assert ask(FIXED).json()["response"] == "Rome."


def test_clashes_of_option_names_are_listed_with_the_others(foreign: str) -> None:
    answer = httpx.get(f"{foreign}/api/plugins").json()
    (plugin,) = [plugin for plugin in answer["plugins"] if plugin["name"] == "favours"]
    assert plugin["provides"] == {"samplers": ["favour", "shaky"]}
    clashes = [clash for clash in answer["clashes"] if clash["kind"] == "option"]
    assert clashes == [
        {"kind": "option", "name": "top_k", "winner": "top_k", "losers": ["favour"]},
        {"kind": "option", "name": "seed", "winner": "corral", "losers": ["favour"]},
    ]


def test_a_foreign_sampler_that_raises_harms_only_who_asks_for_it(foreign: str, tools: Any) -> None:
    ask = tools.asking(foreign)
    assert ask(FIXED).json()["response"] == "Rome."
    answer = ask({**FIXED, "samplers": ["shaky"]})
    assert answer.status_code == 500
    assert 'sampler "shaky" cannot be used: its enabled raised' in answer.json()["error"]
