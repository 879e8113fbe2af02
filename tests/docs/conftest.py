"""The environment of an author of plugins, shared by all tests that need one."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

MAKER = Path(__file__).parents[1] / "fresh_venv.py"


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A virtual environment with Corral; each module gets a folder of its own."""
    spec = importlib.util.spec_from_file_location("fresh_venv", MAKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fresh_venv"] = module
    spec.loader.exec_module(module)
    return module.fresh_venv(tmp_path_factory.getbasetemp())
