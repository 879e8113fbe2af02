"""What is wrong with an encoder or a text engine is found by its suite, and said."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest

from corral_kernel.contracts import (
    Encodable,
    EncodeItem,
    Encoder,
    Ending,
    EngineInfo,
    Piece,
    TextEngine,
    TextRequest,
)
from corral_kernel.errors import InvalidRequestError
from corral_kernel.testing import (
    EncoderSuite,
    TextEngineSuite,
    run_suite,
)


def breaches(suite: type[Any]) -> dict[str, str]:
    """What is wrong, by test."""
    return {outcome.test: outcome.error for outcome in run_suite(suite) if outcome.error}


# ------------------------------------------------------------------------------------ encoders


class Letters(Encoder):
    """Averages a vector for each letter; its frame are the ids 1 and 2."""

    def __init__(self) -> None:
        self.info = EngineInfo(
            capabilities=("embedding",), slots=2, batch_tokens=64, truncates_to=32
        )

    def tokenize(self, item: EncodeItem) -> Encodable:
        ids = [1, *(byte + 3 for byte in item.text.encode()), 2]
        return Encodable(self.cut(ids, item.limit), len(ids))

    def cut(self, ids: list[int], limit: int | None) -> list[int]:
        if limit is None or len(ids) <= limit:
            return ids
        return [*ids[: limit - 1], 2][:limit]

    def encode(self, batch: Sequence[Encodable]) -> Any:
        return np.stack([self.vector(item) for item in batch])

    def vector(self, item: Encodable) -> Any:
        seed = hashlib.sha256(bytes(i % 256 for i in item.token_ids)).digest()
        return np.frombuffer(seed, np.uint8).astype(np.float32)


class LettersInDoubles(Letters):
    def encode(self, batch: Sequence[Encodable]) -> Any:
        return super().encode(batch).astype(np.float64)


class LettersWithoutEnd(Letters):
    def cut(self, ids: list[int], limit: int | None) -> list[int]:
        return ids[:limit]


class LettersWithoutLimit(Letters):
    def cut(self, ids: list[int], limit: int | None) -> list[int]:
        return ids[: limit and 1000]


class LettersThatMingle(Letters):
    def encode(self, batch: Sequence[Encodable]) -> Any:
        rows = super().encode(batch)
        return rows + rows.mean(axis=0)


class LettersReversed(Letters):
    def encode(self, batch: Sequence[Encodable]) -> Any:
        return super().encode(batch)[::-1]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (LettersInDoubles, "not float32"),
        (LettersWithoutEnd, "every text ends with 2"),
        (LettersWithoutLimit, "tokens of"),
        (LettersThatMingle, "off what each is alone"),
        (LettersReversed, "off what each is alone"),
    ],
)
def test_an_encoder_that_breaks_its_contract_is_told(kind: type[Letters], words: str) -> None:
    suite = type("Suite", (EncoderSuite,), {"engine": lambda _self: kind()})
    assert words in " ".join(breaches(suite).values())


def test_a_sound_encoder_has_no_breach() -> None:
    assert breaches(type("Suite", (EncoderSuite,), {"engine": lambda _self: Letters()})) == {}


# -------------------------------------------------------------------------------- text engines


class Words(TextEngine):
    """Says the words of the last message again, twice, and one at a time."""

    takes = "chat"

    def __init__(self) -> None:
        self.info = EngineInfo(capabilities=("completion",), slots=3)
        self.running = 0

    async def generate(self, request: TextRequest) -> AsyncIterator[Piece | Ending]:
        if request.target == "nobody":
            raise InvalidRequestError("there is no model nobody")
        if request.logprobs is not None:
            raise InvalidRequestError("logprobs are not to be had")
        said = self.said(request)
        for place, word in enumerate(said.split(" ")):
            if place == request.max_tokens:
                yield Ending(reason="length", output_tokens=place)
                return
            await asyncio.sleep(0)
            yield Piece(content=word if not place else f" {word}")
        yield Ending(output_tokens=place + 1)

    def said(self, request: TextRequest) -> str:
        assert request.messages is not None
        text = f"{request.messages[-1].content} I say, {request.messages[-1].content}"
        for stop in request.stop:
            text = text.partition(stop)[0]
        return text


class WordsWithoutEnd(Words):
    async def generate(self, request: TextRequest) -> AsyncIterator[Piece | Ending]:
        async for event in super().generate(request):
            if isinstance(event, Piece):
                yield event


class WordsAfterTheEnd(Words):
    async def generate(self, request: TextRequest) -> AsyncIterator[Piece | Ending]:
        async for event in super().generate(request):
            yield event
        yield Piece(content="more")


class WordsUnstopped(Words):
    def said(self, request: TextRequest) -> str:
        return super().said(TextRequest(job_id=1, messages=request.messages, sampling={}))


class WordsForAnybody(Words):
    async def generate(self, request: TextRequest) -> AsyncIterator[Piece | Ending]:
        plain = TextRequest(job_id=1, messages=request.messages, sampling={})
        async for event in super().generate(plain):
            yield event


class WordsThatMix(Words):
    def said(self, request: TextRequest) -> str:
        self.running += 1
        return f"{super().said(request)} {self.running}"


def suite_of_words(kind: type[Words]) -> type[TextEngineSuite]:
    members = {"engine": lambda _self: kind(), "unknown_target": "nobody"}
    return type("Suite", (TextEngineSuite,), members)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (WordsWithoutEnd, "ended without its Ending"),
        (WordsAfterTheEnd, "after its ending came"),
        (WordsUnstopped, "wanted"),
        (WordsForAnybody, "model 'nobody' answers"),
        (WordsThatMix, "among others"),
    ],
)
def test_a_text_engine_that_breaks_its_contract_is_told(kind: type[Words], words: str) -> None:
    assert words in " ".join(breaches(suite_of_words(kind)).values())


def test_a_sound_text_engine_has_no_breach() -> None:
    assert breaches(suite_of_words(Words)) == {}
