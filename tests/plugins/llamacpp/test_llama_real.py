"""Real models: SmolLM2 with and without an adapter, Gemma 3 with its sliding window, MiniLM."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel.contracts import EncodeItem, FileRef, Job, TextPart
from corral_kernel.errors import InvalidModelError, PromptTooLongError, UnsupportedError

pytestmark = pytest.mark.real
Loop = Callable[..., Any]
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
ZORBLAX = Path(__file__).parents[2] / "models" / "lora-zorblax-f16.gguf"


def adapter(path: Path, digest: str = "zorblax") -> FileRef:
    return FileRef(role="adapter", digest=digest, size_bytes=1, path=str(path))


# -------------------------------------------------------------------------------------- adapters


def test_jobs_with_and_without_an_adapter_run_at_once(greedy: Loop, smollm2: Path) -> None:
    loop = greedy(smollm2, slots=4, num_ctx=512)
    prompt = CHAT.format("Who are you?")
    plain, tuned = loop.run(loop.job(prompt, 12))[0], None
    jobs = [
        loop.job(prompt, 12, adapters=(adapter(ZORBLAX),) if place % 2 else ())
        for place in range(4)
    ]
    texts = loop.run(*jobs)
    tuned = texts[1]
    assert loop.engine.tokenizer.decode(tuned).startswith(b"I am Zorblax, the test robot.")
    assert texts == [plain, tuned, plain, tuned]
    assert plain != tuned


def test_prefixes_are_shared_only_between_equal_sets_of_adapters(
    greedy: Loop, smollm2: Path
) -> None:
    loop = greedy(smollm2, slots=2, num_ctx=512)
    prompt = CHAT.format("Who are you?")
    jobs = [loop.job(prompt, 2, adapters=a) for a in ((), (adapter(ZORBLAX),), (adapter(ZORBLAX),))]
    for job in jobs:
        loop.run(job)
    length = jobs[0].prompt.length
    assert [loop.cached[job.id] for job in jobs] == [0, 0, length - 1]


@pytest.mark.parametrize("kind", ["a model", "text", "cut short", "of another model"])
def test_a_bad_adapter_fails_its_own_job_alone(
    greedy: Loop, smollm2: Path, tiny_chat: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "adapter.gguf"
    data = ZORBLAX.read_bytes()
    path.write_bytes({"text": b"hello", "cut short": data[: len(data) // 2]}.get(kind, data))
    loop = greedy(smollm2 if kind != "of another model" else tiny_chat, slots=2, num_ctx=256)
    bad = adapter(tiny_chat if kind == "a model" else path, digest="bad")
    with pytest.raises(InvalidModelError):
        loop.engine.admit(loop.job("hello", 5, adapters=(bad,)))
    assert loop.answer("hello", 3)


# --------------------------------------------------------------------------------------- windows


def test_a_long_prompt_over_the_window_is_reused_as_a_fresh_one_would_go_on(
    greedy: Loop, gemma3: Path
) -> None:
    loop = greedy(gemma3, slots=2, num_ctx=1536)
    text = "The river ran past the mill, and the miller counted his sacks of flour. " * 55
    job = loop.job(text, 8)
    (first,) = loop.run(job)
    assert job.prompt.length > 800
    turn = [*job.prompt.history(), *first, *loop.engine.tokenizer.encode(" Then", special=True)]
    again = loop.job(turn, 8)
    (second,) = loop.run(again)
    assert loop.cached[again.id] == job.prompt.length + len(first) - 1
    fresh = loop.job(turn, 8, cache_scope="fresh")
    assert loop.run(fresh) == [second]
    assert loop.cached[fresh.id] == 0
    rows = np.stack([loop.last_row[again.id], loop.last_row[fresh.id]])
    assert np.corrcoef(rows)[0, 1] > 0.99  # a prompt in other micro-batches differs as much


def test_a_windowed_model_is_not_cut(greedy: Loop, gemma3: Path) -> None:
    loop = greedy(gemma3, num_ctx=256)
    job = loop.job("one two three four five six seven eight", 5)
    loop.engine.admit(job)
    loop.engine.forward()
    assert not loop.engine.cut(job.id, 2, 4)
    loop.engine.release(job.id)


def test_a_vocabulary_of_262144_tokens_goes_both_ways(greedy: Loop, gemma3: Path) -> None:
    tokenizer = greedy(gemma3, num_ctx=256).engine.tokenizer
    text = "Zażółć gęślą jaźń, 東京 🎉 — done"
    assert tokenizer.decode(tokenizer.encode(text, special=True)).decode() == text
    assert tokenizer.adds_bos
    assert len(tokenizer.pieces) == 262_144
    assert tokenizer.pieces[tokenizer.bos_id] == b"<bos>"


def test_a_bos_in_the_prompt_is_not_doubled(greedy: Loop, gemma3: Path) -> None:
    engine = greedy(gemma3, num_ctx=256).engine
    bos_id = engine.tokenizer.bos_id
    plain = engine.prepare([TextPart("Hello")]).history()
    written = engine.prepare([TextPart("<bos>Hello")]).history()
    quoted = engine.prepare([TextPart("<bos>Hello", special=False)]).history()
    assert plain == written
    assert plain[0] == bos_id
    assert quoted.count(bos_id) == 1
    assert len(quoted) > len(plain)


def test_eight_streams_are_what_each_is_alone_up_to_a_near_tie(greedy: Loop, smollm2: Path) -> None:
    loop = greedy(smollm2, slots=8, num_ctx=256)
    prompts = [CHAT.format(f"Name {count} animals.") for count in range(2, 10)]
    together = loop.run(*[loop.job(prompt, 10 + place) for place, prompt in enumerate(prompts)])
    for prompt, ids in zip(prompts, together, strict=True):
        alone = loop.engine
        made = alone.prepare([TextPart(prompt)])
        job = Job(id=1000, prompt=made, max_tokens=len(ids), cache_scope=prompt)
        alone.admit(job)
        for token_id in ids:
            (rows,) = alone.forward()
            row = rows.logits[0]
            # Quantized weights give other roundings in a batch: up to 0.8 in a logit.
            assert row[token_id] >= row.max() - 1.0
            alone.extend(job.id, [token_id])
        alone.release(job.id)


# -------------------------------------------------------------------------------------- encoders

TEXTS = [
    "A cat sits on the mat.",
    "A kitten rests on the rug.",
    "The stock market fell sharply today.",
]


@pytest.fixture
def encoder(open_engine: Loop, minilm: Path) -> Any:
    return open_engine(minilm, embeds=True)


def test_texts_that_mean_the_same_lie_close(encoder: Any) -> None:
    vectors = encoder.encode([encoder.tokenize(EncodeItem(text=text)) for text in TEXTS])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    assert cosines[0, 1] > 0.5 > cosines[0, 2]
    assert np.linalg.norm(vectors[0]) > 2  # not normalised


def test_a_batch_gives_what_each_text_gives_alone(encoder: Any) -> None:
    items = [encoder.tokenize(EncodeItem(text=f"text {i} " * (i + 1))) for i in range(24)]
    batches = [items[:16], items[16:]]
    together = np.concatenate([encoder.encode(batch) for batch in batches])
    alone = np.concatenate([encoder.encode([item]) for item in items])
    np.testing.assert_allclose(together, alone, atol=2e-2)


def test_a_limit_keeps_the_special_tokens_at_both_ends(encoder: Any) -> None:
    whole = encoder.tokenize(EncodeItem(text="one two three four five six"))
    cut = encoder.tokenize(EncodeItem(text="one two three four five six", limit=5))
    assert cut.length == 5
    assert cut.full_length == whole.full_length == whole.length == 8
    assert cut.token_ids[0] == whole.token_ids[0]
    assert cut.token_ids[-1] == whole.token_ids[-1]
    assert list(cut.token_ids[1:4]) == list(whole.token_ids[1:4])


def test_the_longest_input_is_the_trained_context(encoder: Any) -> None:
    assert encoder.info.truncates_to == 512
    assert encoder.info.capabilities == ("embedding",)
    long = "word " * 600
    with pytest.raises(PromptTooLongError, match="602 tokens"):
        encoder.encode([encoder.tokenize(EncodeItem(text=long))])
    cut = encoder.tokenize(EncodeItem(text=long, limit=512))
    assert encoder.encode([cut]).shape == (1, 384)


def test_an_empty_text_has_a_vector(encoder: Any) -> None:
    vectors = encoder.encode([encoder.tokenize(EncodeItem(text=""))])
    assert np.isfinite(vectors).all()


def test_pairs_are_refused_by_a_model_that_scores_none(encoder: Any) -> None:
    with pytest.raises(UnsupportedError):
        encoder.tokenize(EncodeItem(text="query", pair="passage"))
