import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import CorralError, ModelNotFoundError, RegistryError
from corral_kernel.names import ModelName

LIMIT_S = 60.0


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def statuses(steps: list[Any]) -> list[str]:
    return [step.status for step in steps]


async def test_a_gguf_file_becomes_a_model_of_the_repository_s_name(
    hub: Any, site: Any, tiny: bytes
) -> None:
    hub.offer(
        "u/R-GGUF",
        files={"tiny-Q4_K_M.gguf": tiny, "tiny-Q8_0.gguf": tiny[:-1] + b"!"},
        LICENSE=b"Free.",
        system=b"Be brief.",
        params=b'{"temperature": 0.5}',
        template=b"{{ .Prompt }}",
    )
    steps = await site.pull("hf://u/R-GGUF")
    told = statuses(steps)
    short = digest_of(tiny)[:12]
    assert told[0] == "pulling manifest"
    assert told[-2:] == ["writing manifest", "success"]
    assert told.count("success") == 1
    (first, *_, last) = [step for step in steps if step.status == f"pulling {short}"]
    assert (last.total, last.completed) == (len(tiny), len(tiny))
    assert first.digest == f"sha256:{digest_of(tiny)}"
    assert told.index("verifying sha256 digest") > told.index(f"pulling {short}")

    model = site.store.open(ModelName.parse("hf.co/u/R-GGUF"))
    assert model.weights.digest == f"sha256:{digest_of(tiny)}"
    assert (model.licenses, model.system, model.parameters) == (
        (("Free.",), "Be brief.", {"temperature": 0.5})
    )
    assert model.template == "{{ .Prompt }}"
    again = await site.pull("hf://u/R-GGUF")
    assert statuses(again)[-1] == "success"
    assert sum(hub.storage.sent.values()) == len(tiny)  # once, in parts


async def test_a_tag_chooses_the_quantization_and_names_the_model(
    hub: Any, site: Any, tiny: bytes
) -> None:
    other = tiny[:-1] + b"!"
    hub.offer("u/r", files={"a-Q4_K_M.gguf": tiny, "a-Q8_0.gguf": other})
    await site.pull("hf://u/r:q8_0")
    model = site.store.open(ModelName.parse("hf.co/u/r:Q8_0"))
    assert model.weights.digest == f"sha256:{digest_of(other)}"
    with pytest.raises(RegistryError, match=r"pull model manifest: u/r has no Q2_K; it has"):
        await site.pull("hf://u/r:Q2_K")


async def test_an_onnx_folder_comes_as_it_is(hub: Any, site: Any, onnx: dict[str, Path]) -> None:
    hub.offer("u/o", files={f"cpu/{name}": path for name, path in onnx.items()})
    await site.pull("hf://u/o")
    model = site.store.open(ModelName.parse("hf.co/u/o"))
    assert (model.format, model.family, model.problem) == ("onnx", "llama", "")
    assert {file.name for file in model.folder_files} == set(onnx)
    for file in model.folder_files:
        assert file.path.read_bytes() == onnx[file.name].read_bytes()


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1"])
async def test_a_revision_is_asked_for_and_its_commit_kept_to(
    hub: Any, site: Any, tiny: bytes, revision: str
) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})
    await site.pull(f"hf://u/r@{revision}")
    (asked,) = hub.pages.asked("GET", "/api/models")
    assert asked.path.endswith(f"/revision/{revision.replace('/', '%2F')}")
    assert all("/resolve/0123456789abcdef" in s.path for s in hub.pages.asked("GET", "resolve"))
    with pytest.raises(RegistryError, match="u/r has no revision nowhere"):
        await site.pull("hf://u/r@nowhere")


async def test_a_token_goes_to_the_hub_and_to_nobody_else(
    hub: Any, site: Any, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})
    hub.wanted_token["u/r"] = "hf_secret"
    with pytest.raises(RegistryError, match=r"no repository that we may see; .* set HF_TOKEN"):
        await site.pull("hf://u/r")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    await site.pull("hf://u/r")
    assert {s.headers.get("authorization") for s in hub.pages.seen[1:]} == {"Bearer hf_secret"}
    assert hub.storage.seen
    assert all("authorization" not in seen.headers for seen in hub.storage.seen)
    assert all("X-Signature=secret" in seen.target for seen in hub.storage.seen)


async def test_nothing_is_told_of_what_else_is_installed(hub: Any, site: Any, tiny: bytes) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})
    await site.pull("hf://u/r")
    for seen in hub.pages.seen:
        agent = seen.headers["user-agent"]
        assert agent.startswith("corral/")
        assert not any(word in agent for word in ("torch", "agent/", "tensorflow"))
    assert {seen.path.split("/")[1] for seen in hub.pages.seen} == {"api", "u"}


@pytest.mark.parametrize("token", ["", "hf_x"])
async def test_a_gated_repository_says_where_to_ask(
    hub: Any, site: Any, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated.add("u/gated")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(RegistryError) as caught:
        await site.pull("hf://u/gated")
    said = str(caught.value)
    assert f"u/gated is gated: ask for access at {hub.pages.url}/u/gated" in said
    assert ("with the account of your token" if token else "set HF_TOKEN") in said
    assert "hf_x" not in said


async def test_a_repository_that_is_not_there_is_told(hub: Any, site: Any) -> None:
    with pytest.raises(RegistryError, match=r"pull model manifest: file does not exist: .*u/none"):
        await site.pull("hf://u/none")


async def test_a_cut_connection_is_gone_on_with(hub: Any, site: Any, tiny: bytes) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})
    cut: list[str] = []

    def once(seen: Any, reply: Any) -> Any:
        key = seen.headers.get("range", "")
        if len(cut) < 2:
            cut.append(key)
            reply.cut = 20_000
        return reply

    hub.storage.script = once
    await site.pull("hf://u/r")
    assert site.store.open(ModelName.parse("hf.co/u/r")).weights
    sent = sum(hub.storage.sent.values())
    assert len(tiny) <= sent <= len(tiny) + 20_000 * len(cut)


async def test_what_another_pull_left_is_not_fetched_again(
    hub: Any, site: Any, tiny: bytes
) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})

    def hold(seen: Any, reply: Any) -> Any:
        reply.hold = 40_000
        return reply

    hub.storage.script = hold
    steps = site.transfers.pull("hf://u/r")
    async with asyncio.timeout(LIMIT_S):
        async for step in steps:
            if step.completed > 60_000:
                break
        await steps.aclose()
    assert any(name.endswith(".partial") for name in site.files())
    with pytest.raises(ModelNotFoundError):
        site.store.open(ModelName.parse("hf.co/u/r"))
    hub.storage.script = None
    before = sum(hub.storage.sent.values())
    await site.pull("hf://u/r")
    assert sum(hub.storage.sent.values()) - before < len(tiny) - 30_000


async def test_wrong_bytes_are_never_stored(hub: Any, site: Any, tiny: bytes) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})
    hub.storage.blobs[digest_of(tiny)] = b"x" * len(tiny)
    with pytest.raises(RegistryError, match="digest mismatch"):
        await site.pull("hf://u/r")
    assert site.files() == set()


async def test_a_small_file_is_checked_by_its_git_name(
    hub: Any, site: Any, onnx: dict[str, Path]
) -> None:
    hub.offer("u/o", files=onnx)

    def lie(seen: Any, reply: Any) -> Any:
        if seen.path.endswith("tokenizer_config.json"):
            reply.body = b" " * len(reply.body)
        return reply

    hub.change = lie
    with pytest.raises(RegistryError, match=r"tokenizer_config\.json is not what the Hub says"):
        await site.pull("hf://u/o")


async def test_what_cannot_be_made_leaves_the_store_as_it_was(hub: Any, site: Any) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": os.urandom(150_000)})
    with pytest.raises(CorralError):
        await site.pull("hf://u/r")
    assert site.files() == set()
    assert site.store.list_models() == []


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_hub_that_fails_for_a_while_is_asked_again(
    hub: Any, site: Any, onnx: dict[str, Path], status: int
) -> None:
    hub.offer("u/o", files=onnx)
    failed: set[str] = set()

    def fail_once(seen: Any, reply: Any) -> Any:
        if "/resolve/" in seen.path and seen.path not in failed:
            failed.add(seen.path)
            return hub.lab.Reply(status, {"Retry-After": "0"}, b"later")
        return reply

    hub.change = fail_once
    assert statuses(await site.pull("hf://u/o"))[-1] == "success"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("ftp://x/y", "points to 'ftp://x/y': not followed"),
        ("", "over 10 redirects"),
    ],
)
async def test_a_redirect_to_no_place_is_not_followed(
    hub: Any, site: Any, tiny: bytes, location: str, message: str
) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})
    hub.change = lambda seen, reply: (
        hub.lab.Reply(302, {"Location": location or seen.target})
        if "/resolve/" in seen.path
        else reply
    )
    with pytest.raises(RegistryError, match=message):
        await site.pull("hf://u/r")


async def test_an_answer_that_is_none_is_told(hub: Any, site: Any) -> None:
    hub.offer("u/r", a=b"")
    hub.change = lambda _seen, _: hub.lab.Reply(200, {}, b"[" * 50_000)
    with pytest.raises(RegistryError, match="pull model manifest: "):
        await site.pull("hf://u/r")


async def test_the_loop_is_free_while_the_hub_is_asked(hub: Any, site: Any, tiny: bytes) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(seen: Any, reply: Any) -> Any:
        if "/api/" in seen.path:
            reply.hold = 0
            gates.append(reply.gate)
            loop.call_soon_threadsafe(waiting.set)
        return reply

    gates: list[Any] = []
    hub.change = slow
    pulling = asyncio.create_task(site.pull("hf://u/r"))
    async with asyncio.timeout(LIMIT_S):
        await waiting.wait()
        assert not pulling.done()  # and this very line runs meanwhile
        gates[0].set()
        assert statuses(await pulling)[-1] == "success"


def test_the_command_pulls_from_the_hub_and_no_cache_is_filled(
    hub: Any, tiny: bytes, lab: Any, tmp_path: Path
) -> None:
    hub.offer("u/r", files={"a-Q4_0.gguf": tiny})
    command = shutil.which("corral", path=str(Path(sys.executable).parent))
    assert command is not None
    settings = {"HF_ENDPOINT": hub.pages.url, "HF_HOME": str(tmp_path / "hf")}
    with lab.running_server(tmp_path / "server", **settings) as server:
        environ = {**os.environ, "CORRAL_HOST": server.url}
        done = subprocess.run(
            [command, "pull", "hf://u/r"], env=environ, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "success" in done.stderr + done.stdout) == (0, True), done
        listed = subprocess.run([command, "list"], env=environ, capture_output=True, check=True)
        assert b"hf.co/u/r:latest" in listed.stdout
        wrong = subprocess.run(
            [command, "pull", "hf://u"], env=environ, capture_output=True, text=True, check=False
        )
        assert wrong.returncode != 0
        assert list((tmp_path / "hf").rglob("*")) == []
        assert "wanted hf://USER/REPOSITORY" in wrong.stderr, wrong
