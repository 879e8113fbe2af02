"""Every sampler and constraint that is installed here, by the suites that authors run."""

import subprocess
import sys
from typing import Any

import pytest

from corral_kernel.plugins import Plugins
from corral_kernel.testing import ConstraintSuite, SamplerSuite, run_suite

PLUGINS = Plugins()
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "size": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "the"]}, "maxItems": 2},
    },
    "required": ["name", "size"],
}
SPECS: dict[str, list[Any]] = {
    "json": ["json"],
    "schema": [SCHEMA, {"enum": ["yes", "no", "yesterday"]}, {"type": "integer"}],
    "regex": [{"type": "regex", "pattern": "(ab|cd)+[0-9]{2}"}, {"type": "regex", "pattern": "é*"}],
    "choice": [{"type": "choice", "choices": ["yes", "no", "yesterday"]}],
    "gbnf": [{"type": "gbnf", "grammar": 'root ::= ("ab" | "12") root | "."'}],
    "lark": [{"type": "lark", "grammar": 'start: "a" start | /[0-9]{2}/'}],
}
"""Of kinds whose own examples are few; another kind is tried by its `examples`."""


def test_suites_need_no_pytest_and_the_server_no_suites() -> None:
    code = (
        "import sys, corral_kernel.service, corral_api.app, corral_cli.main\n"
        "print([n for n in sys.modules if n.startswith('corral_kernel.testing')])\n"
        "import corral_kernel.testing; print('pytest' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nFalse\n"


@pytest.mark.parametrize("name", sorted(PLUGINS.samplers))
def test_a_sampler_follows_its_contract(name: str) -> None:
    suite = type("Suite", (SamplerSuite,), {"kind": PLUGINS.samplers[name][1]})
    outcomes = list(run_suite(suite))
    assert len(outcomes) > 10
    assert [outcome for outcome in outcomes if outcome.error] == []


@pytest.mark.parametrize("name", sorted(PLUGINS.constraints))
def test_a_constraint_follows_its_contract(name: str) -> None:
    members = {"kind": PLUGINS.constraints[name][1], "specs": SPECS.get(name, [])}
    outcomes = list(run_suite(type("Suite", (ConstraintSuite,), members)))
    assert len(outcomes) > 10
    assert [outcome for outcome in outcomes if outcome.error] == []
