"""The pace of free streams beside a flood of requests, each with something never seen before."""

import asyncio
import http
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import formats, hostile_templates, prompts
from benchmarks.client import RequestFailedError
from benchmarks.dialects import Answer, Ollama
from benchmarks.servers import Server

FLOODS: Final[Mapping[str, tuple[str, Callable[[int], bytes]]]] = {
    "schemas": ("format", formats.new_schema),
    "attacks": ("format", formats.attack),
    "templates": ("template", hostile_templates.attack),
}
"""The field of the request, and what makes its value, by kinds."""
STREAMS: Final = 4
FLOODERS: Final = 4
"""Requests of the flood at once: each client sends its next one as soon as it has an answer."""
_A_FLOOD: Final = 1_000_000
"""Between the numbers of one flood's first format and the next one's."""


@dataclass
class _Flood:
    """Clients that ask for one token each time, by a new format or template.

    Attributes:
        field: Of the requests, which the bodies are values of.
        answered: How often they got it.
        refused: How often the value was refused.
    """

    dialect: Ollama
    port: int
    bodies: Iterator[bytes]
    field: str = "format"
    answered: int = 0
    refused: int = 0
    _over: bool = False

    async def run(self) -> None:
        """Flood until `stop`, and then wait for what is under way: it would disturb others."""
        await asyncio.gather(*(self._ask_on() for _ in range(FLOODERS)))

    def stop(self) -> None:
        """Send no more."""
        self._over = True

    async def _ask_on(self) -> None:
        while not self._over:
            try:
                await self.dialect.one_token(self.port, next(self.bodies), self.field)
            except RequestFailedError as error:
                if error.status != http.HTTPStatus.BAD_REQUEST:
                    raise
                self.refused += 1
            else:
                self.answered += 1


def flood(server: Server, kind: str, tokens: int, number: int, turn: int) -> dict[str, float]:
    """Answer four free prompts with a flood beside them, and four without.

    Args:
        server: Ours.
        kind: Of `FLOODS`.
        tokens: Of each free stream.
        number: Of the first prompt.
        turn: Decides what comes first; no two give the same values.

    Returns:
        Tokens a second of a stream, from sending to the last line, with and without; the former's
        share of the latter; and what became of the flood's requests.

    Raises:
        RequestFailedError: If a stream fails, or one of the flood otherwise than by a refusal, or
            a process of the server's did not outlive it.
    """
    dialect = server.dialect
    assert isinstance(dialect, Ollama), "measured of Corral alone"
    texts = [prompts.endless(number + place) for place in range(2 * STREAMS)]
    field, make = FLOODS[kind]
    bodies = map(make, itertools.count(turn * _A_FLOOD))
    water = _Flood(dialect, server.port, bodies, field)
    before = {process.pid for process in server.workers()}

    def alone() -> float:
        return _pace(asyncio.run(_streams(server, texts[:STREAMS], tokens)))

    def flooded() -> float:
        return _pace(asyncio.run(_beside(server, texts[STREAMS:], tokens, water)))

    order = (alone, flooded) if turn % 2 == 0 else (flooded, alone)
    paces = {measure: measure() for measure in order}
    if lost := before - {process.pid for process in server.workers()}:
        raise RequestFailedError(f"{len(lost)} of the server's processes have ended in the flood")
    return {
        "tokens_per_s": paces[alone],
        "flooded_tokens_per_s": paces[flooded],
        "share": paces[flooded] / paces[alone],
        "answered": water.answered,
        "refused": water.refused,
    }


async def _beside(
    server: Server, texts: Sequence[str], tokens: int, water: _Flood
) -> Sequence[Answer]:
    async def streams() -> Sequence[Answer]:
        try:
            return await _streams(server, texts, tokens)
        finally:
            water.stop()

    answers, _ = await asyncio.gather(streams(), water.run())
    return answers


async def _streams(server: Server, texts: Sequence[str], tokens: int) -> Sequence[Answer]:
    asked = (server.dialect.complete(server.port, text, tokens) for text in texts)
    return await asyncio.gather(*asked)


def _pace(answers: Sequence[Answer]) -> float:
    return statistics.median(answer.tokens / answer.end_s for answer in answers)
