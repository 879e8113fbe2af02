"""What the tests of remote models share: `lab`, and a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_LAB = Path(__file__).with_name("lab.py")


@pytest.fixture(scope="session")
def lab(load_module: Callable[[Path, str], Any]) -> Any:
    """See `lab.py`."""
    return load_module(_LAB, "remote_lab")


@pytest.fixture(scope="session")
def llama(lab: Any, tmp_path_factory: pytest.TempPathFactory, minilm_file: Path) -> Iterator[str]:
    """The base URL of a real server with the models `tiny` and `minilm`."""
    tiny = {"model": str(lab.TINY), "model_alias": "tiny", "logits_all": True}
    minilm = {"model": str(minilm_file), "model_alias": "minilm", "embedding": True}
    with lab.llama_server(tmp_path_factory.mktemp("llama"), tiny, minilm) as (_, url, _log):
        yield url
