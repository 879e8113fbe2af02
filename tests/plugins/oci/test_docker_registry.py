"""Against a real registry: Debian's `docker-registry`, on loopback."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MANIFEST = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
USER = "corral:s3cret:x"
# Of the password above, made by `htpasswd -nbB -C 5`.
HTPASSWD = "corral:$2y$05$abcdefghijklmnopqrstuuWrm/5AoaKADYlqOe34LrWvaAncFaCxG\n"

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None,
    reason="needs docker-registry: apt-get install docker-registry",
)


def lines_of(answer: httpx.Response) -> list[Any]:
    return [json.loads(line) for line in answer.text.splitlines()]


def digest_of(client: httpx.Client, name: str) -> str:
    models = client.get("/api/tags").json()["models"]
    return next(str(model["digest"]) for model in models if model["name"] == name)


def push_delete_pull(client: httpx.Client, source: str, name: str) -> None:
    client.post("/api/copy", json={"source": source, "destination": name}).raise_for_status()
    before = digest_of(client, name)
    body = {"model": name, "insecure": True}
    assert lines_of(client.post("/api/push", json=body))[-1] == {"status": "success"}
    again = lines_of(client.post("/api/push", json=body))
    assert [line["status"] for line in again[-2:]] == ["pushing manifest", "success"]
    client.request("DELETE", "/api/delete", json={"model": name}).raise_for_status()
    assert lines_of(client.post("/api/pull", json=body))[-1] == {"status": "success"}
    assert digest_of(client, name) == before
    asked = {"model": name, "prompt": "hi", "stream": False, "options": {"num_predict": 2}}
    assert client.post("/api/generate", json=asked).json()["eval_count"] == 2


@pytest.mark.real
def test_a_model_that_is_pushed_deleted_and_pulled_is_the_same(
    lab: Any, tmp_path: Path, smollm2: Path
) -> None:
    (tmp_path / "registry").mkdir()
    with (
        lab.docker_registry(tmp_path / "registry") as address,
        lab.running_server(tmp_path / "home") as server,
        httpx.Client(base_url=server.url, timeout=100) as client,
    ):
        # The packaged model is lent in place: its files enter the store by the copy.
        push_delete_pull(client, "smollm2", f"{address}/lib/smollm2:q4_1")


@pytest.fixture
def guarded(lab: Any, tmp_path: Path) -> Iterator[str]:
    """A registry that wants a user."""
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: here, path: {folder / 'htpasswd'}}}}}\n"
    with lab.docker_registry(folder, auth) as address:
        yield address


def with_tiny(client: httpx.Client) -> None:
    from hashlib import sha256

    data = (Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf").read_bytes()
    digest = f"sha256:{sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {"model": "tiny", "files": {"m.gguf": digest}, "stream": False}
    client.post("/api/create", json=body).raise_for_status()


def test_a_private_registry_knows_us_by_the_settings(
    lab: Any, tmp_path: Path, guarded: str
) -> None:
    auth = f"{guarded}={USER}"
    with (
        lab.running_server(tmp_path / "home", CORRAL_REGISTRY_AUTH=auth) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        with_tiny(client)
        push_delete_pull(client, "tiny", f"{guarded}/lib/tiny:x")
    assert "s3cret" not in "".join(server.log)


def test_a_private_registry_knows_us_by_docker_s_file(
    lab: Any, tmp_path: Path, guarded: str
) -> None:
    docker = tmp_path / "docker"
    docker.mkdir()
    entry = {"auth": base64.b64encode(USER.encode()).decode()}
    (docker / "config.json").write_text(json.dumps({"auths": {guarded: entry}}))
    with (
        lab.running_server(tmp_path / "home", DOCKER_CONFIG=str(docker)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        with_tiny(client)
        push_delete_pull(client, "tiny", f"{guarded}/lib/tiny:x")


def test_a_private_registry_refuses_strangers_and_wrong_passwords(
    lab: Any, tmp_path: Path, guarded: str
) -> None:
    body = {"model": f"{guarded}/lib/tiny:x", "insecure": True}
    with (
        lab.running_server(tmp_path / "home") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        error = lines_of(client.post("/api/pull", json=body))[-1]["error"]
        assert f"CORRAL_REGISTRY_AUTH={guarded}=USER:PASSWORD" in error
    wrong = f"{guarded}=corral:wrong"
    with (
        lab.running_server(tmp_path / "home", CORRAL_REGISTRY_AUTH=wrong) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        error = lines_of(client.post("/api/pull", json=body))[-1]["error"]
        assert error == "pull model manifest: unauthorized: access denied"


def test_what_a_model_inherits_is_mounted_and_not_sent_again(lab: Any, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with (
        lab.docker_registry(folder) as address,
        lab.running_server(tmp_path / "home") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        with_tiny(client)
        push_delete_pull(client, "tiny", f"{address}/lib/one:x")
        heir = f"{address}/lib/two:x"
        body = {"model": heir, "from": f"{address}/lib/one:x", "system": "Be brief."}
        assert lines_of(client.post("/api/create", json=body))[-1] == {"status": "success"}
        pushed = client.post("/api/push", json={"model": heir, "insecure": True})
        assert lines_of(pushed)[-1] == {"status": "success"}
        manifest = httpx.get(f"http://{address}/v2/lib/two/manifests/x", headers=MANIFEST).json()
        weights = manifest["layers"][0]
        assert weights["size"] > 100_000
    asked = [line for line in (folder / "log").read_text().splitlines() if "/v2/lib/two/" in line]
    hexadecimal = weights["digest"].partition(":")[2]
    (mounting,) = [line for line in asked if "mount=" in line and hexadecimal in line]
    assert " 201 " in mounting, mounting
    assert not [line for line in asked if '"PUT ' in line and hexadecimal in line]
