"""An imitation of Hugging Face's Hub: its API, its files, and a host that has the large ones."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 100_000


def git_name(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class Hub:
    """What the imitation holds: one repository of each name, at one commit.

    `script` of `pages` and `storage` may answer in their place; see the laboratory of `oci`.
    """

    def __init__(self, lab: ModuleType, pages: Any, storage: Any) -> None:
        self.lab, self.pages, self.storage = lab, pages, storage
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.wanted_token: dict[str, str] = {}  # by repository
        self.gated: set[str] = set()
        self.change: Callable[[Any, Any], Any] | None = None
        pages.script = self._answer

    def offer(self, repository: str, **files: Any) -> None:
        """Put files there, by names or by a mapping `files`."""
        found: dict[str, bytes] = {}
        for name, data in (files.pop("files", {}) | files).items():
            found[name] = data.read_bytes() if isinstance(data, Path) else data
            if len(found[name]) >= LARGE:
                digest = hashlib.sha256(found[name]).hexdigest()
                self.storage.blobs[digest] = found[name]
        self.repositories[repository] = found

    def _answer(self, seen: Any, _usual: Any) -> Any:
        reply = self._usual(seen)
        return (self.change(seen, reply) if self.change else None) or reply

    def _usual(self, seen: Any) -> Any:
        parts = seen.path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._info("/".join(parts[2:4]), "/".join(parts[5:]), seen)
        if len(parts) > 4 and parts[2] == "resolve":
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), seen)
        return self.lab.Reply(404)

    def _refusal(self, repository: str, seen: Any) -> Any:
        wanted = self.wanted_token.get(repository)
        if repository in self.gated:
            return self._error(403 if "authorization" in seen.headers else 401, "GatedRepo")
        if wanted and seen.headers.get("authorization") != f"Bearer {wanted}":
            return self._error(401, "RepoNotFound")
        if repository not in self.repositories:
            return self._error(404, "RepoNotFound")
        return None

    def _error(self, status: int, code: str) -> Any:
        return self.lab.Reply(
            status, {"X-Error-Code": code, "X-Error-Message": "refused"}, b'{"error":"refused"}'
        )

    def _info(self, repository: str, revision: str, seen: Any) -> Any:
        if refused := self._refusal(repository, seen):
            return refused
        if revision not in ("main", COMMIT, "refs%2Fpr%2F1", "v1"):
            return self._error(404, "RevisionNotFound")
        siblings = [
            {"rfilename": name, "size": len(data), "blobId": git_name(data), **_lfs(data)}
            for name, data in self.repositories[repository].items()
        ]
        document = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False}
        return self.lab.Reply(
            200, {"Content-Type": "application/json"}, json.dumps(document).encode()
        )

    def _file(self, repository: str, commit: str, name: str, seen: Any) -> Any:
        if refused := self._refusal(repository, seen):
            return refused
        data = self.repositories[repository].get(name)
        if data is None or commit != COMMIT:
            return self._error(404, "EntryNotFound")
        if len(data) >= LARGE:
            digest = hashlib.sha256(data).hexdigest()
            where = f"{self.storage.url}/lfs/{digest}?X-Signature=secret"
            return self.lab.Reply(302, {"Location": where})
        return self.lab.Reply(200, {}, data)


def _lfs(data: bytes) -> dict[str, Any]:
    if len(data) < LARGE:
        return {}
    digest = hashlib.sha256(data).hexdigest()
    return {"lfs": {"sha256": digest, "size": len(data), "pointerSize": 134}}


@pytest.fixture
def hub(lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The Hub, which the settings of this process name."""
    with lab.imitation() as pages, lab.imitation() as storage:
        monkeypatch.setenv("HF_ENDPOINT", pages.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        nobody = str(tmp_path / "token")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", nobody)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        yield Hub(lab, pages, storage)


@pytest.fixture
def tiny() -> bytes:
    return (Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf").read_bytes()


@pytest.fixture
def onnx() -> dict[str, Path]:
    """Files of an ONNX folder, by name."""
    folder = Path(__file__).parents[2] / "models" / "tiny-chat-onnx"
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def site(lab: Any, tmp_path: Path) -> Any:
    """A store with its transfers, of which the Hub is the only registry."""
    from corral_kernel.plugins import Plugins
    from corral_kernel.store import Store, create_model
    from corral_kernel.transfers import Maker, Transfers

    class HubSite:
        def __init__(self) -> None:
            self.store = Store(tmp_path / "home" / "models", tmp_path / "home" / "cache")
            self.store.start_up()
            plugins = Plugins(only=("hub",))
            self.transfers = Transfers(
                self.store,
                plugins.registry_for,
                tmp_path / "home",
                address=plugins.address,
                maker=Maker(self.make),
                manner=lab.QUICK,
            )

        async def make(self, request: Any) -> Any:
            for step in create_model(self.store, request):
                yield step

        async def pull(self, name: str) -> list[Any]:
            return [step async for step in self.transfers.pull(name)]

        def files(self) -> set[str]:
            return {entry.name for entry in self.store.blobs.entries()}

    return HubSite()
