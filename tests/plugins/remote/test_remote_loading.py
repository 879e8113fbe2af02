"""Bids for stubs, and what is asked of a server before the first request."""

import subprocess
import sys
import threading
from typing import Any

import pytest

from corral_kernel.contracts import LoadOptions
from corral_kernel.errors import RemoteServerError, RemoteTimeoutError
from corral_kernel.fields import fields_of
from corral_remote import corral_claim

LIST = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm"}]}


def test_a_stub_is_claimed_and_nothing_else(lab: Any) -> None:
    claim = corral_claim(lab.stub("https://gpu.example/v1", context_length=4096))
    assert claim is not None
    assert (claim.backend, claim.takes) == ("remote", "chat")
    assert claim.why == "a model that runs at https://gpu.example/v1"
    assert claim.capabilities == ("completion", "tools")
    assert claim.context_tokens == 4096
    assert claim.memory.base_bytes == 0
    assert claim.private == {"base_url": "https://gpu.example/v1"}
    assert corral_claim(lab.stub("", target="")) is None
    assert corral_claim(lab.stub("ftp://gpu.example")) is None


@pytest.mark.parametrize(
    ("stated", "claimed"),
    [
        ((), ("completion", "tools")),
        (("completion",), ("completion",)),
        (("completion", "tools", "thinking"), ("completion", "tools", "thinking")),
        (("thinking",), ("completion", "thinking")),
        (("embedding",), ("embedding",)),
        (("embedding", "completion"), ("completion", "embedding")),
        (("vision",), ("completion",)),
    ],
)
def test_capabilities_are_what_works_of_what_the_stub_states(
    lab: Any, stated: tuple[str, ...], claimed: tuple[str, ...]
) -> None:
    claim = corral_claim(lab.stub("https://gpu.example/v1", capabilities=stated))
    assert claim is not None
    assert claim.capabilities == claimed


def test_models_of_one_server_and_key_share_a_worker(lab: Any) -> None:
    def key(url: str = "https://gpu.example/v1", **parameters: Any) -> str:
        claim = corral_claim(lab.stub(url, parameters=parameters))
        assert claim is not None
        return claim.share_key

    assert key() == key(temperature=0.5) == key("HTTPS://GPU.example/v1/")
    others = [key("https://gpu.example/v2"), key(api_key="env:A"), key(api_key="env:B")]
    assert len({key(), *others, key(remote_first_timeout=5)}) == 5


def test_load_options_of_local_engines_are_told_to_be_ignored(lab: Any) -> None:
    claim = corral_claim(lab.stub("https://gpu.example/v1"))
    assert claim is not None
    assert claim.ignored.keys() == fields_of(LoadOptions).keys()
    assert "another server" in claim.ignored["num_ctx"]


def test_the_server_s_half_imports_no_http() -> None:
    code = "import sys, corral_remote; print([n for n in ('httpcore', 'ssl') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("code", [400, 404, 405, 429, 500, 501, 503])
async def test_a_server_that_lists_no_models_will_do(lab: Any, code: int) -> None:
    listing = lab.status(code, {"error": "no"})
    async with lab.serving(lab.HELLO, listing=listing) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).text == "Hello"


async def test_the_context_is_the_server_s_where_all_its_models_have_one(lab: Any) -> None:
    def listing(*lengths: int | None) -> Any:
        models = [{"id": str(i), "max_model_len": n} for i, n in enumerate(lengths)]
        return lab.status(200, {"data": models})

    for lengths, known in {(): 0, (8192,): 8192, (8192, 4096): 0, (None,): 0}.items():
        async with (
            lab.serving(lab.HELLO, listing=listing(*lengths)) as server,
            lab.loaded(server.url) as engine,
        ):
            assert engine.info.context_tokens == known
            assert engine.info.details == {"server": server.url}


async def test_a_server_that_is_not_there_is_told_at_once(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        pass
    with pytest.raises(RemoteServerError, match=f"{server.url} refused the connection"):
        async with lab.loaded(server.url):
            pass


async def test_a_server_of_another_kind_is_told_at_once(lab: Any) -> None:
    for page in (b"<html>It works!</html>", b'["a"]', b""):
        async with lab.serving(lab.HELLO, listing=lab.status(200, page)) as server:
            with pytest.raises(RemoteServerError, match="lists as models is not what OpenAI"):
                async with lab.loaded(server.url):
                    pass


async def test_a_server_that_does_not_answer_is_told(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral_remote.loading._PROBE_S", 0.2)
    async with lab.serving(lab.HELLO, listing=lab.never) as server:
        with pytest.raises(RemoteTimeoutError, match=r"did not answer within 0\.2 s"):
            async with lab.loaded(server.url):
                pass


async def test_a_resolver_that_hangs_keeps_nobody_waiting(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    waited: list[bool] = []

    def hang(*_: Any, **__: Any) -> Any:
        begun.set()
        waited.append(go_on.wait(60))
        raise OSError("at last")

    monkeypatch.setattr("socket.getaddrinfo", hang)
    limits = {"remote_connect_timeout": 0.2, "remotes": ("models.example.org",)}
    with pytest.raises(RemoteTimeoutError, match=r"models\.example\.org was not resolved in time"):
        async with lab.loaded("https://models.example.org/v1", **limits):
            pass
    assert begun.is_set()
    assert waited == []  # it still hangs
    go_on.set()


async def test_a_redirect_is_told_at_once(lab: Any) -> None:
    away = lab.status(301, {}, "location: https://elsewhere.example/")
    async with lab.serving(lab.HELLO, listing=away) as server:
        with pytest.raises(RemoteServerError, match="redirects, which is not followed"):
            async with lab.loaded(server.url):
                pass
