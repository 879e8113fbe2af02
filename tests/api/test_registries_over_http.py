"""`GET /api/registries` of a real server, with a plugin of a stranger that fails."""

from pathlib import Path
from typing import Any

import httpx
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
STRANGER = """
from corral_kernel.contracts import Registry
from corral_kernel.names import ModelName
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


class Share(Registry):
    name = "share"
    docs = "a share"
    claims = "names of host share"
    form = "share://MODEL"

    def claim(self, name):
        return 1.0 if name.host == "share" else 0.0

    def parse(self, text):
        return ModelName.parse("share/x/" + text[8:]) if text.startswith("share://") else None

    def lent(self):
        raise OSError("the share is gone")

    def notes(self):
        return ["it is slow today"]


@hookimpl
def corral_registries():
    return [Share()]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    (site / "share-1.0.dist-info").mkdir(parents=True)
    (site / "share_plugin.py").write_text(STRANGER)
    metadata = "Metadata-Version: 2.1\nName: share\nVersion: 1.0\n"
    (site / "share-1.0.dist-info" / "METADATA").write_text(metadata)
    (site / "share-1.0.dist-info" / "entry_points.txt").write_text(
        "[corral]\nshare = share_plugin\n"
    )
    return site


def test_registries_are_listed_with_what_they_lend_claim_and_fail_at(
    site: Path, tmp_path: Path, start_server: Any
) -> None:
    listed = tmp_path / "listed"
    listed.mkdir()
    (listed / "tiny.gguf").write_bytes(TINY.read_bytes())
    settings = {"CORRAL_MODEL_PATHS": str(listed), "PYTHONPATH": str(site)}
    server = start_server(**settings)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        answer = client.get("/api/registries").json()
        found = {registry["name"]: registry for registry in answer["registries"]}
        assert {"folders", "oci", "packages", "share"} <= set(found)
        assert (answer["name"], answer["answered_by"]) == ("", "")
        (lent,) = found["folders"]["lends"]
        assert (lent["name"], str(listed) in lent["owner"]) == ("tiny:latest", True)
        share = found["share"]
        assert (share["plugin"], share["distribution"], share["version"]) == (
            ("share", "share", "1.0")
        )
        assert share["errors"] == ["lent() raised OSError: the share is gone"]
        assert share["notes"] == ["it is slow today"]

        for sent, name, by in (
            ("llama3", "llama3:latest", "oci"),
            ("share/team/m:v1", "share/team/m:v1", "share"),
            ("share://m", "share/x/m:latest", "share"),
            ("hf.co/u/R:Q4_0", "hf.co/u/R:Q4_0", "oci"),
        ):
            asked = client.get("/api/registries", params={"name": sent}).json()
            assert (asked["name"], asked["answered_by"]) == (name, by)
        assert client.get("/api/registries", params={"name": "a/b/c/d"}).status_code == 400

        copied = client.post("/api/copy", json={"source": "tiny", "destination": "x/tiny"})
        copied.raise_for_status()
        (listed / "x").mkdir()
        (listed / "x" / "tiny.gguf").write_bytes(TINY.read_bytes())

        def hidden() -> dict[str, bool]:
            registries = client.get("/api/registries").json()["registries"]
            (folders,) = [r for r in registries if r["name"] == "folders"]
            return {model["name"]: model.get("hidden", False) for model in folders["lends"]}

        while len(found_now := hidden()) < 2:
            pass
        assert found_now == {"tiny:latest": False, "x/tiny:latest": True}
