"""What the tests of pulls and pushes share: registries, a store; `lab` is every test's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def registry(lab: Any) -> Iterator[Any]:
    with lab.imitation() as running:
        yield running


@pytest.fixture
def elsewhere(lab: Any) -> Iterator[Any]:
    """Another host."""
    with lab.imitation() as running:
        yield running


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No user of this machine is known to any registry, and no proxy is asked."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def site(lab: Any, tmp_path: Path) -> Any:
    return lab.Site(tmp_path / "home")
