"""What the tests of remote models share: `lab`, and a real server."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_LAB = Path(__file__).with_name("lab.py")


@pytest.fixture(scope="session")
def lab() -> ModuleType:
    """See `lab.py`."""
    spec = importlib.util.spec_from_file_location("remote_lab", _LAB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def llama(lab: Any, tmp_path_factory: pytest.TempPathFactory, minilm_file: Path) -> Iterator[str]:
    """The base URL of a real server with the models `tiny` and `minilm`."""
    tiny = {"model": str(lab.TINY), "model_alias": "tiny", "logits_all": True}
    minilm = {"model": str(minilm_file), "model_alias": "minilm", "embedding": True}
    with lab.llama_server(tmp_path_factory.mktemp("llama"), tiny, minilm) as (_, url, _log):
        yield url
