"""Drafts and batches: what samplers and constraints choose is the same with and without."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")
DIARY = {
    "temperature": 0.9,
    "seed": 11,
    "diary": 0.7,
    "samplers": ["diary", "top_k", "temperature"],
}
WORDS = json.dumps(
    {"type": "array", "items": {"enum": ["one two", "one ten"]}, "minItems": 5, "maxItems": 9}
).encode()
PROMPT = "one two one two one two one ten one ten one two one two"


@pytest.mark.parametrize("spec", [None, WORDS], ids=["free", "schema"])
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.8, "seed": 3},
        {"temperature": 1.3, "seed": 4, "repeat_penalty": 1.1, "top_k": 0},
        DIARY,
    ],
    ids=["default chain", "penalties", "a stateful sampler"],
)
async def test_a_tiny_model_says_the_same_with_drafts(
    plugin_kernel: Any, options: dict[str, Any], spec: bytes | None
) -> None:
    given = {"num_predict": 120, "format": spec, **options}
    plain = await plugin_kernel.raw("tiny", PROMPT, **given)
    drafted = await plugin_kernel.raw("tiny", PROMPT, draft_num_predict=5, **given)
    assert drafted.text == plain.text
    assert drafted.done.output_tokens == plain.done.output_tokens
    assert drafted.done.forced_tokens == plain.done.forced_tokens
    assert drafted.done.steps <= plain.done.steps


async def test_tokens_that_are_forced_may_have_been_drafted(plugin_kernel: Any) -> None:
    value = {"const": "a long sentence that stands in the prompt"}
    several = {"type": "array", "items": value, "minItems": 3, "maxItems": 3}
    given = {"format": json.dumps(several).encode(), "num_predict": 200, "logprobs": 1}
    prompt = '["a long sentence that stands in the prompt", '
    plain = await plugin_kernel.raw("tiny", prompt, **given)
    drafted = await plugin_kernel.raw("tiny", prompt, draft_num_predict=8, **given)
    assert json.loads(drafted.text) == [value["const"]] * 3
    assert drafted.text == plain.text
    assert drafted.done.forced_tokens == plain.done.forced_tokens
    assert [t.bytes for t in drafted.logprobs] == [t.bytes for t in plain.logprobs]


@pytest.mark.real
@pytest.mark.parametrize("constrained", [False, True], ids=["free", "schema"])
async def test_smollm2_says_the_same_with_drafts(
    local: Callable[..., Any], smollm2: Path, *, constrained: bool
) -> None:
    # The prompt leaves the model little doubt: what a batch rounds otherwise turns no draw.
    prompt = "The words: one two three, one two three, one two three, one two three, one two"
    given: dict[str, Any] = {"temperature": 0.3, "seed": 7, "num_predict": 24}
    given |= {"diary": 0.02, "samplers": ["diary", "top_k", "temperature"]}
    if constrained:
        spec = {"type": "array", "items": {"enum": ["one two three"]}, "minItems": 3}
        given |= {"constraint": "schema", "format": json.dumps({**spec, "maxItems": 3}).encode()}
    plain = local(smollm2).answer(prompt, **given)
    drafted = local(smollm2, drafts=4).answer(prompt, **given)
    assert drafted.text == plain.text
    assert drafted.done.steps <= plain.done.steps


async def test_echo_takes_no_drafts_and_says_so(plugin_kernel: Any) -> None:
    given = {"backend": "echo", "num_predict": -1, **DIARY}
    plain = await plugin_kernel.raw("tiny", "one two one two", **given)
    drafted = await plugin_kernel.raw("tiny", "one two one two", draft_num_predict=5, **given)
    assert drafted.text == plain.text == "one two one two"
    assert plain.accepted.warnings == ()
    assert drafted.accepted.warnings == (
        'option "draft_num_predict" is ignored: this backend takes no draft tokens',
    )


async def test_several_samplers_draw_the_same_beside_other_jobs(plugin_kernel: Any) -> None:
    chain = ["diary", "penalties", "top_k", "min_p", "temperature"]
    options = [
        {**DIARY, "samplers": chain, "seed": seed, "repeat_penalty": 1.1, "min_p": 0.02}
        for seed in range(6)
    ]
    alone = [(await plugin_kernel.raw("endless-tiny", PROMPT, **given)).text for given in options]
    assert len(set(alone)) == 6
    together = await asyncio.gather(
        *(plugin_kernel.raw("endless-tiny", PROMPT, **given) for given in options),
        *(plugin_kernel.raw("endless-tiny", f"noise {n}", seed=n) for n in range(2)),
        plugin_kernel.raw("endless-tiny", "x", cfg_scale=2.0, negative_prompt="y"),
    )
    assert [answer.text for answer in together[:6]] == alone
