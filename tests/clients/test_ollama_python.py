"""The official Python client, unchanged: every method that this release serves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import ollama
import pytest
from pydantic import BaseModel

TINY = Path(__file__).parent.parent / "models" / "tiny-chat-f32.gguf"
MODEL = "tiny-chat"
QUESTION = [{"role": "user", "content": "capital of Italy?"}]
GREEDY = {"temperature": 0}


@pytest.fixture
def client(server: Any) -> Iterator[ollama.Client]:
    client = ollama.Client(server.url)
    yield client
    client.close()


@pytest.fixture
async def async_client(server: Any) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(server.url)
    yield client
    await client.close()


# --- completions --------------------------------------------------------------------------------


def test_chat(client: ollama.Client) -> None:
    answer = client.chat(MODEL, QUESTION, options=GREEDY)
    assert answer.message.content == "Rome."
    assert (answer.message.role, answer.done, answer.done_reason) == ("assistant", True, "stop")
    assert answer.eval_count == 6
    assert answer.total_duration


def test_chat_as_a_stream(client: ollama.Client) -> None:
    *parts, last = client.chat(MODEL, QUESTION, stream=True, options=GREEDY)
    assert "".join(part.message.content or "" for part in parts) == "Rome."
    assert not any(part.done for part in parts)
    assert last.done


def test_chat_with_what_clients_always_send(client: ollama.Client) -> None:
    answer = client.chat(
        MODEL, QUESTION, tools=[], think=False, format="", keep_alive="5m", options=GREEDY
    )
    assert answer.message.content == "Rome."


def test_generate(client: ollama.Client) -> None:
    answer = client.generate(MODEL, "capital of Italy?", options=GREEDY)
    assert answer.response == "Rome."
    assert answer.context


def test_generate_as_a_stream(client: ollama.Client) -> None:
    *parts, last = client.generate(MODEL, "capital of Italy?", stream=True, options=GREEDY)
    assert "".join(part.response for part in parts) == "Rome."
    assert last.done_reason == "stop"


def test_generate_with_options_of_all_times(client: ollama.Client) -> None:
    options = ollama.Options(
        numa=False, low_vram=False, f16_kv=True, tfs_z=1.0, mirostat=0, temperature=0.0, seed=1
    )
    assert client.generate(MODEL, "capital of Italy?", options=options).response == "Rome."


def test_logprobs(client: ollama.Client) -> None:
    answer = client.generate(
        MODEL, "capital of Italy?", logprobs=True, top_logprobs=2, options=GREEDY
    )
    assert answer.logprobs
    assert answer.logprobs[0].token == "R"
    assert answer.logprobs[0].top_logprobs
    assert len(answer.logprobs[0].top_logprobs) == 2


class Thing(BaseModel):
    name: Literal["tiny", "small"]
    size: Literal[1, 2, 3]


def test_structured_output_by_a_pydantic_schema(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "give me json"}]
    answer = client.chat(MODEL, messages, format=Thing.model_json_schema(), options=GREEDY)
    assert Thing.model_validate_json(answer.message.content or "").name in ("tiny", "small")


def test_structured_output_streamed(client: ollama.Client) -> None:
    parts = client.generate(
        MODEL, "give me json", format=Thing.model_json_schema(), stream=True, options=GREEDY
    )
    Thing.model_validate_json("".join(part.response for part in parts))


def test_a_client_that_stops_reading_in_the_middle(client: ollama.Client) -> None:
    options = {"temperature": 1.5, "num_predict": 2000}
    parts = client.generate(MODEL, "count to five", stream=True, options=options)
    next(parts)
    parts.close()  # type: ignore[attr-defined]  # it is a generator, whatever it says
    assert client.generate(MODEL, "capital of Italy?", options=GREEDY).response == "Rome."


# --- models -------------------------------------------------------------------------------------


def test_the_life_of_a_model(client: ollama.Client) -> None:
    digest = client.create_blob(TINY)
    made = client.create(
        "made", files={"tiny.gguf": digest}, system="Be brief.", parameters={"temperature": 0}
    )
    assert made.status == "success"
    statuses = [step.status for step in client.create("made2", from_="made", stream=True)]
    assert statuses[-1] == "success"
    assert client.copy("made2", "made3").status == "success"
    listed = {model.model for model in client.list().models}
    assert {"made:latest", "made2:latest", "made3:latest"} <= listed
    for name in ("made", "made2", "made3"):
        assert client.delete(name).status == "success"
    assert not {"made:latest", "made2:latest"} & {model.model for model in client.list().models}


def test_list(client: ollama.Client) -> None:
    model = next(entry for entry in client.list().models if entry.model == "tiny-chat:latest")
    assert model.size
    assert model.modified_at
    assert model.details
    assert (model.details.family, model.details.parameter_size) == ("llama", "91K")


def test_show(client: ollama.Client) -> None:
    shown = client.show(MODEL)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.details
    assert shown.details.format == "gguf"
    assert shown.modified_at


def test_ps_and_unloading(client: ollama.Client) -> None:
    client.generate(MODEL, keep_alive=300)
    # Names of the same weights share what is loaded, which is listed under the first of them.
    entry = next(model for model in client.ps().models if model.context_length == 256)
    assert entry.size_vram == 0
    assert entry.expires_at
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        (lambda c: c.chat("no-such", QUESTION), 404, "model 'no-such' not found"),
        (lambda c: list(c.chat("no-such", QUESTION, stream=True)), 404, "not found"),
        (lambda c: c.show("no-such"), 404, "not found"),
        (lambda c: c.delete("no-such"), 404, "not found"),
        (lambda c: c.copy("no-such", "x"), 404, "not found"),
        (lambda c: c.embed("no-such", "x"), 404, "try pulling it first"),
        (lambda c: c.chat(MODEL, QUESTION, think=True), 400, "does not support thinking"),
        (lambda c: c.pull("127.0.0.1:1/a/b"), 500, "pull model manifest: .* refused"),
        (lambda c: list(c.pull("127.0.0.1:1/a/b", stream=True)), -1, "pull model manifest: "),
        (lambda c: c.push("127.0.0.1:1/a/b"), 500, "/latest: no such file or directory"),
        (lambda c: c.generate(MODEL, "x", images=[b"png"]), 400, "does not support images"),
        (lambda c: c.generate(MODEL, "x", options={"num_ctx": "x"}), 500, "must be of type"),
    ],
    ids=range(12),
)
def test_errors_are_the_clients_own(
    client: ollama.Client, call: Callable[[ollama.Client], Any], status: int, words: str
) -> None:
    with pytest.raises(ollama.ResponseError, match=words) as caught:
        call(client)
    assert caught.value.status_code == status


def test_tools_need_a_model_that_takes_them(client: ollama.Client) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The first.
            b: The second.
        """
        return a + b

    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        client.chat(MODEL, QUESTION, tools=[add])


# --- vectors ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(server: Any, minilm_file: Path) -> str:
    with ollama.Client(server.url) as client:
        client.create("minilm", files={"minilm.gguf": client.create_blob(minilm_file)})
    return "minilm"


def dot(a: Any, b: Any) -> float:
    return float(sum(x * y for x, y in zip(a, b, strict=True)))


@pytest.mark.real
def test_embed(client: ollama.Client, encoder: str) -> None:
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stocks fell sharply today."]
    answer = client.embed(encoder, texts)
    cat, kitten, stocks = answer.embeddings
    assert len(cat) == 384
    assert dot(cat, cat) == pytest.approx(1, abs=1e-5)
    assert dot(cat, kitten) > 0.4
    assert dot(cat, stocks) < 0.2
    assert answer.prompt_eval_count
    assert client.embed(encoder, texts[0]).embeddings[0] == pytest.approx(cat, abs=2e-3)


@pytest.mark.real
def test_embed_fewer_dimensions_and_too_long_a_text(client: ollama.Client, encoder: str) -> None:
    (vector,) = client.embed(encoder, "A cat.", dimensions=64).embeddings
    assert len(vector) == 64
    assert dot(vector, vector) == pytest.approx(1, abs=1e-5)
    long = "word " * 3000
    assert len(client.embed(encoder, long).embeddings) == 1
    with pytest.raises(ollama.ResponseError, match="the input length exceeds the context length"):
        client.embed(encoder, long, truncate=False)


@pytest.mark.real
def test_embeddings(client: ollama.Client, encoder: str) -> None:
    old = client.embeddings(encoder, "A cat sits on the mat.").embedding
    (new,) = client.embed(encoder, "A cat sits on the mat.").embeddings
    length = dot(old, old) ** 0.5
    assert [number / length for number in old] == pytest.approx(new, abs=2e-3)


@pytest.mark.real
def test_an_encoder_does_not_chat(client: ollama.Client, encoder: str) -> None:
    assert client.show(encoder).capabilities == ["embedding"]
    with pytest.raises(ollama.ResponseError, match='"minilm" does not support chat'):
        client.chat(encoder, QUESTION)
    with pytest.raises(ollama.ResponseError, match='"minilm" does not support generate'):
        client.generate(encoder, "x")


# --- the asynchronous client --------------------------------------------------------------------


async def test_async_chat(async_client: ollama.AsyncClient) -> None:
    answer = await async_client.chat(MODEL, QUESTION, options=GREEDY)
    assert answer.message.content == "Rome."
    parts = await async_client.chat(MODEL, QUESTION, stream=True, options=GREEDY)
    assert "".join([part.message.content or "" async for part in parts]) == "Rome."


async def test_async_generate(async_client: ollama.AsyncClient) -> None:
    parts = await async_client.generate(MODEL, "capital of Italy?", stream=True, options=GREEDY)
    assert "".join([part.response async for part in parts]) == "Rome."


async def test_async_chats_side_by_side(async_client: ollama.AsyncClient) -> None:
    chats = [async_client.chat(MODEL, QUESTION, options=GREEDY) for _ in range(6)]
    answers = await asyncio.gather(*chats)
    assert {answer.message.content for answer in answers} == {"Rome."}


async def test_async_management(async_client: ollama.AsyncClient) -> None:
    digest = await async_client.create_blob(TINY)
    steps = await async_client.create("amade", files={"t.gguf": digest}, stream=True)
    assert [step.status async for step in steps][-1] == "success"
    assert (await async_client.copy("amade", "amade2")).status == "success"
    assert (await async_client.show("amade2")).capabilities == ["completion"]
    assert "amade2:latest" in {m.model for m in (await async_client.list()).models}
    for name in ("amade", "amade2"):
        assert (await async_client.delete(name)).status == "success"
    assert isinstance((await async_client.ps()).models, list | tuple)


@pytest.mark.real
async def test_async_embed(async_client: ollama.AsyncClient, encoder: str) -> None:
    assert len((await async_client.embed(encoder, ["a", "b"])).embeddings) == 2


async def test_async_errors(async_client: ollama.AsyncClient) -> None:
    async def stream() -> None:
        async for _ in await async_client.chat("no-such", QUESTION, stream=True):
            pass

    calls: list[Awaitable[Any]] = [async_client.show("no-such"), stream()]
    for call in calls:
        with pytest.raises(ollama.ResponseError, match="not found"):
            await call
