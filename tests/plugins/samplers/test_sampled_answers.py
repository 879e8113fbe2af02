"""Samplers in real workers on a tiny model: options of each form, with drafts, under a format."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from corral_kernel.calls import CompletionCall
from corral_kernel.environment import Settings
from corral_kernel.errors import CorralError, InvalidOptionError
from corral_kernel.fields import fields_of
from corral_kernel.frames import Done, Text
from corral_kernel.samplers import standard_samplers
from corral_kernel.service import Corral
from corral_kernel.store import CreateRequest, create_model
from corral_samplers import corral_samplers

pytestmark = pytest.mark.asyncio(loop_scope="module")

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
REPEATING = "one two three four five six seven eight nine ten. " * 3 + "one two"
# All filters off: what a sampler does is then its own.
HOT = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "seed": 7, "num_predict": 40}
SAMPLERS: dict[str, dict[str, Any]] = {
    "logit_bias": {"logit_bias": {"e": -5, " ": False}},
    "dry": {"dry_multiplier": 4.0, "dry_allowed_length": 1},
    "top_n_sigma": {"top_n_sigma": 0.6},
    "xtc": {"xtc_probability": 0.6, "xtc_threshold": 0.05},
    "dynatemp": {"dynatemp_range": 1.2, "dynatemp_exponent": 0.5},
    "mirostat": {"mirostat": 2, "mirostat_tau": 1.0, "mirostat_eta": 0.4},
    "mirostat 1": {"mirostat": 1, "mirostat_tau": 1.0, "mirostat_eta": 0.4},
    # Among hundreds of equally unlikely tokens a draw shows the last bit of a logit.
    "adaptive_p": {"adaptive_target": 0.3, "adaptive_decay": 0.5, "min_p": 0.02},
}
CHAINS = {
    "dynatemp": ["dynatemp"],
    "mirostat": ["temperature", "mirostat"],
    "mirostat 1": ["temperature", "mirostat"],
    "adaptive_p": ["min_p", "temperature", "adaptive_p"],
}
TYPES = {**standard_samplers(), **{kind.name: kind for kind in corral_samplers()}}
EACH = pytest.mark.parametrize("case", SAMPLERS)


class Asked:
    """A kernel with the tiny model, and a short way to ask it."""

    def __init__(self, corral: Corral) -> None:
        self._corral = corral

    async def answer(self, prompt: str, *, format: bytes = b"", **options: Any) -> "Answer":  # noqa: A002 - the API's word
        # Drafts are asked for at the load: a copy of the weights makes that once, not each time.
        name = "tiny-drafting" if "draft_num_predict" in options else "tiny"
        call = CompletionCall(
            model=await self._corral.find(name),
            prompt=prompt,
            raw=True,
            format=format,
            options={"num_thread": 1, "num_predict": 40, "temperature": 0, **options},
        )
        async with await self._corral.complete(call) as completion:
            pieces: list[str] = []
            async for event in completion:
                if isinstance(event, Text):
                    pieces.append(event.content)
                else:
                    assert isinstance(event, Done)
                    return Answer("".join(pieces), event, completion.warnings)
        raise AssertionError("a completion ends with Done")

    async def text(self, prompt: str, **options: Any) -> str:
        return (await self.answer(prompt, **options)).text


class Answer:
    def __init__(self, text: str, done: Done, warnings: tuple[str, ...]) -> None:
        self.text, self.done, self.warnings = text, done, warnings


@contextlib.asynccontextmanager
async def kernel_at(home: Path, **settings: str) -> AsyncIterator[Asked]:
    # What llama.cpp rounds to 16 bits to be quick moves a logit by hundredths when tokens are
    # computed together, as drafts are, which draws show now and then.
    exact = {"CORRAL_KV_CACHE_TYPE": "f32", "CORRAL_FLASH_ATTENTION": "0"}
    corral = Corral(Settings.from_environ({"CORRAL_HOME": str(home), **exact, **settings}))
    await corral.start()
    try:
        for name in ("tiny", "tiny-drafting"):
            with corral.store.blobs.writer() as writer:
                writer.write(
                    TINY.read_bytes() + name.encode()
                )  # what follows the tensors is nothing
                files = {"model.gguf": writer.finish()}
            for _ in create_model(corral.store, CreateRequest(model=name, files=files)):
                pass
        yield Asked(corral)
    finally:
        await corral.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asked]:
    async with kernel_at(tmp_path_factory.mktemp("home")) as asked:
        yield asked


@EACH
async def test_flat_options_names_and_objects_give_the_same_answer(tiny: Asked, case: str) -> None:
    fields, name = SAMPLERS[case], case.split(maxsplit=1)[0]
    chain = CHAINS.get(case, [name, "temperature"])
    asked = {"seed": 7, "num_predict": 40}
    warm = {**fields, "temperature": HOT["temperature"]}
    objects = [
        {"name": kind, **{k: v for k, v in warm.items() if k in fields_of(TYPES[kind].options)}}
        for kind in chain
    ]
    off = await tiny.text(REPEATING, **HOT)
    flat = await tiny.text(REPEATING, **HOT, **fields)
    assert flat != off
    assert await tiny.text(REPEATING, **asked, **warm, samplers=chain) == flat
    assert await tiny.text(REPEATING, **asked, temperature=1, samplers=objects) == flat


@EACH
async def test_a_seed_gives_the_same_answer_again_and_with_drafts(tiny: Asked, case: str) -> None:
    for heat in (0.4, 1.0):
        options = {**HOT, **SAMPLERS[case], "temperature": heat, "num_predict": 60}
        plain = await tiny.answer(REPEATING, **options)
        again = await tiny.answer(REPEATING, **options)
        drafted = await tiny.answer(REPEATING, **options, draft_num_predict=6)
        assert plain.text == again.text == drafted.text
        assert drafted.done.output_tokens == plain.done.output_tokens
        assert drafted.done.steps <= plain.done.steps


@EACH
async def test_a_sampler_and_a_format_agree(tiny: Asked, case: str) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["tiny", "huge"]}, "size": {"enum": [1, 2, 3]}},
        "required": ["name", "size"],
    }
    options = {**HOT, **SAMPLERS[case], "num_predict": 200}
    if case == "logit_bias":
        options["logit_bias"] = {"t": -3}  # a blank must be possible: the format wants some
    answers = [
        await tiny.answer("x", format=json.dumps(schema).encode(), **options, **drafts)
        for drafts in ({}, {"draft_num_predict": 6})
    ]
    assert answers[0].text == answers[1].text
    assert answers[0].done.reason == "stop"
    said = json.loads(answers[0].text)
    assert list(said) == ["name", "size"]
    assert said["name"] in ("tiny", "huge")
    assert said["size"] in (1, 2, 3)


async def test_at_temperature_0_what_keeps_the_best_token_changes_nothing(tiny: Asked) -> None:
    greedy = await tiny.text("one two")
    for case in ("mirostat", "mirostat 1", "top_n_sigma", "dynatemp"):
        assert await tiny.text("one two", **SAMPLERS[case]) == greedy


async def test_a_bias_forbids_the_likeliest_token_and_another_one_forces(tiny: Asked) -> None:
    greedy = await tiny.text("one two", num_predict=6)
    assert greedy == " three"
    for never in (False, -1e30):
        other = await tiny.text("one two", num_predict=6, logit_bias={" ": never})
        assert other
        assert " " not in other
    forced = await tiny.text("one two", num_predict=6, logit_bias=[["z", 100]])
    assert forced == "zzzzzz"


async def test_dry_ends_a_loop(tiny: Asked) -> None:
    looping = "la la la la la la la la la la la la"
    again = await tiny.text(looping, num_predict=12, logit_bias={" ": 1, "l": 8, "a": 8})
    other = await tiny.text(
        looping, num_predict=12, logit_bias={" ": 1, "l": 8, "a": 8}, dry_multiplier=5
    )
    assert other != again


@pytest.mark.parametrize("options", [{"logit_bias": {"259": 1}}, {"logit_bias": [[70_000, 1]]}])
async def test_a_token_that_the_model_lacks_is_an_error_of_the_request(
    tiny: Asked, options: dict[str, Any]
) -> None:
    with pytest.raises(CorralError, match="this model has those from 0 to 258") as caught:
        await tiny.text("one", **options)
    code = getattr(caught.value, "remote_code", caught.value.code)
    assert code == InvalidOptionError.code


async def test_without_the_plugin_its_options_are_told_of_and_change_nothing(
    tiny: Asked, tmp_path: Path
) -> None:
    here = await tiny.answer(REPEATING, **HOT, mirostat=2, mirostat_tau=1.0)
    assert not here.warnings
    async with kernel_at(tmp_path, CORRAL_DISABLE_PLUGINS="samplers") as without:
        answer = await without.answer(REPEATING, **HOT, mirostat=2, xtc_probability=0.5)
        off = await without.text(REPEATING, **HOT)
    assert answer.text == off
    told = " ".join(answer.warnings)
    assert "mirostat" in told
    assert "xtc_probability" in told
