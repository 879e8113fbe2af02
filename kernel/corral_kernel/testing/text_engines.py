"""What the contract asks of an engine with a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from corral_kernel.contracts import (
    Ending,
    EngineInfo,
    Message,
    Piece,
    PieceLogprob,
    TextEngine,
    TextRequest,
)
from corral_kernel.errors import CorralError
from corral_kernel.testing.suites import ContractBrokenError, demand

LIMIT_S = 60.0
"""How long a test may take; only a failing one does."""
_TOP = 2


@dataclass(frozen=True)
class Said:
    """A whole answer."""

    pieces: Sequence[Piece]
    ending: Ending

    @property
    def text(self) -> str:
        """What it says."""
        return "".join(piece.content for piece in self.pieces)


class TextEngineSuite:
    """Tests of one text engine. A subclass opens it in `engine`.

    Attributes:
        prompts: That it answers with several tokens each.
        target: Which of the models that it reaches; empty: its only one.
        unknown_target: One that it does not reach; empty: it looks at none.
        vectors_of: The target that makes vectors; None: none does.
        greedy: Options of sampling by which equal requests get equal answers.
    """

    prompts: ClassVar[Sequence[str]] = ("Hello", "one two", "Who are you?")
    target: ClassVar[str] = ""
    unknown_target: ClassVar[str] = ""
    vectors_of: ClassVar[str | None] = None
    greedy: ClassVar[Mapping[str, Any]] = {"temperature": 0.0}

    def engine(self) -> TextEngine:
        """Open it; the event loop on which it is used runs only later."""
        raise NotImplementedError

    # -------------------------------------------------------------------------------- tests

    def test_it_says_what_it_is(self) -> None:
        """The worker goes by it."""
        self._run(self._says_what_it_is)

    async def _says_what_it_is(self, engine: TextEngine) -> None:
        info: object = engine.info
        demand(isinstance(info, EngineInfo), f"info is {type(info).__name__}, not an EngineInfo")
        known = {"completion", "embedding"} & set(engine.info.capabilities)
        demand(known, "neither completion nor embedding among its capabilities")
        demand(engine.info.slots > 0, "slots is not over 0")
        demand(engine.takes in ("chat", "text"), f"it takes {engine.takes!r}, not chat or text")
        for names in (engine.sampling, engine.formats):
            demand(isinstance(names, frozenset), f"{names!r} is no frozenset of names")

    def test_an_answer_is_pieces_and_one_ending(self) -> None:
        """What it asks and what it says is counted, if anything is."""
        self._run(self._is_pieces_and_an_ending)

    async def _is_pieces_and_an_ending(self, engine: TextEngine) -> None:
        for prompt in self.prompts:
            said = await self._ask(engine, prompt)
            demand(said.text, f"the answer to {prompt!r} is empty: give other `prompts`")
            demand("\ufffd" not in said.text, f"half a letter is in {said.text!r}")
            end = said.ending
            demand(end.reason in ("stop", "length"), f"it ended by {end.reason!r}")
            demand(end.cached_tokens <= end.prompt_tokens, f"{end.cached_tokens} tokens are cached")
            demand(min(end.prompt_tokens, end.output_tokens, end.cached_tokens) >= 0, f"{end}")

    def test_equal_requests_get_equal_answers(self) -> None:
        """One after another, or many at once."""
        self._run(self._answers_equally)

    async def _answers_equally(self, engine: TextEngine) -> None:
        alone = [(await self._ask(engine, prompt)).text for prompt in self.prompts]
        asked = [*self.prompts] * max(1, min(engine.info.slots, 8) // len(self.prompts))
        together = await asyncio.gather(*(self._ask(engine, prompt) for prompt in asked))
        for number, said in enumerate(together):
            wanted = alone[number % len(alone)]
            demand(said.text == wanted, f"{wanted!r} alone, {said.text!r} among others")

    def test_an_answer_has_no_more_tokens_than_asked_for(self) -> None:
        """And says that this is why it ended."""
        self._run(self._keeps_limits)

    async def _keeps_limits(self, engine: TextEngine) -> None:
        whole = await self._ask(engine, self.prompts[0])
        said = await self._ask(engine, self.prompts[0], max_tokens=1)
        demand(said.ending.reason == "length", f"cut after a token: {said.ending.reason!r}")
        shorter = len(said.text) < len(whole.text) and whole.text.startswith(said.text)
        demand(shorter, f"{said.text!r} is no beginning of {whole.text!r}")

    def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(self) -> None:
        """Wherever it stands."""
        self._run(self._stops)

    async def _stops(self, engine: TextEngine) -> None:
        whole = (await self._ask(engine, self.prompts[0])).text
        middle = len(whole) // 2
        for stop in (whole[middle : middle + 2], whole[-1]):
            said = await self._ask(engine, self.prompts[0], stop=(stop,))
            wanted = whole.partition(stop)[0]
            demand(said.text == wanted, f"stop {stop!r}: {said.text!r}, wanted {wanted!r}")
            demand(said.ending.reason == "stop", f"stopped it ended by {said.ending.reason!r}")

    def test_a_closed_answer_is_cancelled(self) -> None:
        """Before its first piece, after it, or when it is over; others go on."""
        self._run(self._cancels)

    async def _cancels(self, engine: TextEngine) -> None:
        wanted = (await self._ask(engine, self.prompts[0])).text
        for number in range(engine.info.slots + 2):  # more than there is room for
            other = asyncio.ensure_future(self._ask(engine, self.prompts[0]))
            answer = engine.generate(self._request(engine, self.prompts[1]))
            if number % 2:
                demand(isinstance(await anext(answer), Piece), "the first thing is no piece")
            await _close(answer)
            demand((await other).text == wanted, "an answer changed by another one's end")
            if number > 8:  # noqa: PLR2004 - enough of many slots
                break

    def test_a_target_that_it_does_not_reach_is_refused(self) -> None:
        """By an error that its request alone has."""
        self._run(self._refuses_targets)

    async def _refuses_targets(self, engine: TextEngine) -> None:
        if not self.unknown_target:
            return
        try:
            await self._ask(engine, self.prompts[0], target=self.unknown_target)
        except CorralError as error:
            demand(self.unknown_target in str(error), f"the error does not name it: {error}")
        else:
            raise ContractBrokenError(f"model {self.unknown_target!r} answers")
        demand((await self._ask(engine, self.prompts[0])).text, "then nobody is answered")

    def test_log_probabilities_are_those_of_the_answer(self) -> None:
        """If it has them."""
        self._run(self._has_logprobs)

    async def _has_logprobs(self, engine: TextEngine) -> None:
        try:
            said = await self._ask(engine, self.prompts[0], logprobs=_TOP)
        except CorralError as error:
            demand("logprobs" in str(error), f"logprobs are refused by {error}")
            return
        found = [token for piece in said.pieces for token in piece.logprobs]
        demand(found, "logprobs were asked for; there are none, and no error")
        written = b"".join(token.bytes for token in found)
        demand(written.startswith(said.text.encode()), f"{written!r} is not {said.text!r}")
        for token in found:
            _demand_sound(token)

    def test_vectors_are_of_their_texts(self) -> None:
        """If it makes any."""
        self._run(self._embeds)

    async def _embeds(self, engine: TextEngine) -> None:
        if self.vectors_of is None:
            return
        demand("embedding" in engine.info.capabilities, "no embedding among its capabilities")
        made = await engine.embed(self.vectors_of, self.prompts, 0, truncate=True)
        demand(made.rows.dtype == np.float32, f"vectors of {made.rows.dtype}, not float32")
        shape = made.rows.shape
        demand(shape[0] == len(self.prompts), f"{shape} is no shape of {len(self.prompts)} vectors")
        demand(np.isfinite(made.rows).all(), "vectors hold NaN or infinity")
        few = await engine.embed(self.vectors_of, self.prompts[:1], 2, truncate=True)
        demand(few.rows.shape == (1, 2), f"asked for two dimensions it gave {few.rows.shape}")

    # -------------------------------------------------------------------- how it is tried

    def _run(self, test: Callable[[TextEngine], Awaitable[None]]) -> None:
        engine = self.engine()

        async def run() -> None:
            try:
                await asyncio.wait_for(test(engine), LIMIT_S)
            finally:
                await engine.aclose()
                engine.close()

        asyncio.run(run())

    def _request(self, engine: TextEngine, prompt: str, **more: Any) -> TextRequest:
        chats = engine.takes == "chat"
        asked: dict[str, Any] = {
            "job_id": 1,
            "target": self.target,
            "messages": (Message(role="user", content=prompt),) if chats else None,
            "prompt": "" if chats else prompt,
            "max_tokens": 40,
            "sampling": self.greedy,
        }
        return TextRequest(**{**asked, **more})

    async def _ask(self, engine: TextEngine, prompt: str, **more: Any) -> Said:
        pieces: list[Piece] = []
        endings: list[Ending] = []
        async for event in engine.generate(self._request(engine, prompt, **more)):
            demand(not endings, f"after its ending came {event}")
            if isinstance(event, Piece):
                pieces.append(event)
            else:
                demand(isinstance(event, Ending), f"it gave {type(event).__name__}")
                endings.append(event)
        demand(endings, "an answer ended without its Ending")
        return Said(pieces, endings[0])


async def _close(answer: Any) -> None:
    demand(hasattr(answer, "aclose"), "what generate gives has no aclose(), by which to cancel it")
    await answer.aclose()


def _demand_sound(token: PieceLogprob) -> None:
    top = [other.logprob for other in token.top]
    demand(len(top) == _TOP, f"{token.text!r} has {len(top)} alternatives, not {_TOP}")
    demand(token.logprob <= 1e-3, f"{token.text!r} has the log-probability {token.logprob}")  # noqa: PLR2004 - rounding
    demand(top == sorted(top, reverse=True), f"the alternatives of {token.text!r} are unsorted")
