"""What only models from the world can show: near ties, an adapter, a sliding window, meaning."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from corral_kernel.frames import TokenLogprob

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

NEAR_TIE = 1.0
"""Between the logits of two tokens. Q4_1 weights are multiplied in other blocks where eight rows
are computed at once, which moves a logit by up to 0.8."""

PROMPTS = [
    "Name three colors.",
    "Hello!",
    "Write a short poem about the sea.",
    "What is 2 + 2?",
    "Tell me about cats.",
    "Who wrote Hamlet?",
    "Give me a recipe for bread.",
    "Why?",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smol(kernel: Any, smollm2: Path) -> AsyncIterator[Any]:
    """The kernel, with SmolLM2 as `smol`."""
    kernel.create("smol", smollm2, parameters={"num_ctx": 512})
    yield kernel


async def test_eight_streams_part_from_each_alone_only_at_a_near_tie(smol: Any) -> None:
    def ask(place: int) -> Any:
        return smol.chat("smol", PROMPTS[place], num_predict=6 + 2 * place, logprobs=2)

    alone = [await ask(place) for place in range(8)]
    at_once = await asyncio.gather(*(ask(place) for place in range(8)))
    for one, other in zip(alone, at_once, strict=True):
        if one.text != other.text:
            assert margin_where_they_part(one.logprobs, other.logprobs) < NEAR_TIE


def margin_where_they_part(one: Sequence[TokenLogprob], other: Sequence[TokenLogprob]) -> float:
    """How much likelier the first choice was than the second; one of the two may be the end."""
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    place = next((i for i, (a, b) in pairs if a.token != b.token), shorter)
    first, second = max(one, other, key=len)[place].top
    return first.logprob - second.logprob


async def test_chats_with_and_without_an_adapter_run_side_by_side(smol: Any, models: Path) -> None:
    adapter = smol.blob(models / "lora-zorblax-f16.gguf")
    smol.create("zorblax", base="smol", adapters={"zorblax.gguf": adapter})
    with_it, without = await asyncio.gather(
        *(smol.chat(name, "Who are you?", num_predict=12) for name in ("zorblax", "smol"))
    )
    assert with_it.text.startswith("I am Zorblax, the test robot.")
    assert "Zorblax" not in without.text
    # Names of the same weights share a worker.
    assert len([m for m in smol.corral.running() if m.model.weights.digest == WEIGHTS]) == 1


WEIGHTS = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


async def test_an_answer_keeps_to_a_schema(smol: Any) -> None:
    schema = {
        "type": "object",
        "properties": {
            "colors": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3},
            "count": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["colors", "count"],
    }
    answer = await smol.chat(
        "smol", "Two colors, please.", format=json.dumps(schema).encode(), num_predict=60
    )
    said = json.loads(answer.text)
    assert set(said["colors"]) <= {"red", "blue"}
    assert 0 <= said["count"] <= 99
    assert answer.done.forced_tokens > 0
    cut = await smol.chat("smol", "Name a color.", format=b'"json"', num_predict=4)
    assert cut.text.startswith("{")
    assert cut.reason == "length"


async def test_stop_strings_end_within_tokens(smol: Any) -> None:
    whole = await smol.raw("smol", "The quick brown fox", num_predict=12)
    inside = whole.text.split()[2][1:4]
    stopped = await smol.raw("smol", "The quick brown fox", num_predict=12, stop=[inside])
    assert stopped.text == whole.text[: whole.text.index(inside)]
    assert stopped.reason == "stop"


async def test_characters_of_several_tokens_come_whole(smol: Any) -> None:
    schema = json.dumps({"enum": ["\U0001f9ed \u4f60\u597d \u2192 na\u00efve"]}).encode()
    answer = await smol.raw("smol", "x", format=schema, num_predict=60)
    assert json.loads(answer.text) == "\U0001f9ed \u4f60\u597d \u2192 na\u00efve"
    assert all("\ufffd" not in piece.content for piece in answer.pieces)


async def test_a_sliding_window_goes_on_as_a_fresh_prompt_would(
    kernel: Any, gemma3: Path, by_hand: Callable[..., Any]
) -> None:
    """Gemma 3 looks back 512 positions in most layers; the second prompt begins with the first."""
    kernel.create("gemma", gemma3)
    first = " ".join(f"{number} is the number after {number - 1}." for number in range(2, 78))
    second = first + " 78 is the number after"
    options = {"num_ctx": 1024, "num_predict": 4}
    before = await kernel.raw("gemma", first, **options)
    after = await kernel.raw("gemma", second, **options)
    assert before.done.prompt_tokens > 600
    assert after.done.cached_tokens > before.done.prompt_tokens - 8
    fresh = by_hand(gemma3, 1024)
    expected = fresh.greedy(fresh.tokens(second), 4)
    assert after.text == b"".join(map(fresh.piece, expected)).decode()


async def test_vectors_of_sentences_tell_what_they_mean(kernel: Any, minilm: Path) -> None:
    kernel.create("minilm", minilm)
    sentences = ["A cat sits on the mat.", "The mat has a cat on it.", "Stocks fell on Monday."]
    vectors = await kernel.embed("minilm", *sentences)
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.7
    assert alike[0, 2] < 0.3
