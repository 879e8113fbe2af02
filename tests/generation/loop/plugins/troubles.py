"""Samplers and formats that do what a stranger's may: fail, hang, keep state, take their time."""
# ruff: noqa: ARG002 - methods of a contract, most of which a trouble has no need of

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import (
    AnswerSpec,
    Candidates,
    ChatParser,
    Companion,
    Constraint,
    ConstraintType,
    Content,
    EndReason,
    JobView,
    Literal,
    OutputEvent,
    OutputParser,
    Plan,
    Sampler,
    SamplerOptions,
    SamplerType,
    Tokenizer,
)
from corral_kernel.errors import OutputError
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


def misbehave(how: str) -> None:
    if how == "raises":
        raise ValueError("no luck")
    if how == "raises nothing said":
        raise KeyError
    while how == "loops":
        pass
    if how == "sleeps":
        time.sleep(0.02)
    if how.startswith("hangs:"):  # in native code, where no exception is met
        with Path(how.removeprefix("hangs:")).open("a") as file:
            file.write("hung\n")
        ctypes.CDLL(None).sleep(60)
    while how == "swallows":
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001 - that is the trouble
            return


class TroubleOptions(SamplerOptions, frozen=True, kw_only=True):
    trouble: str = ""
    trouble_in: str = "apply"
    trouble_at: int = 3


class Trouble(Sampler):
    def __init__(self, options: TroubleOptions) -> None:
        self._options = options
        self._calls = dict.fromkeys(("apply", "accept"), 0)

    def _call(self, where: str) -> None:
        self._calls[where] += 1
        if where == self._options.trouble_in and self._calls[where] == self._options.trouble_at:
            misbehave(self._options.trouble)

    def apply(self, candidates: Candidates) -> None:
        self._call("apply")

    def accept(self, token_id: int) -> None:
        self._call("accept")


class TroubleType(SamplerType):
    name = "trouble"
    options = TroubleOptions

    def companions(self, options: TroubleOptions) -> Sequence[Companion]:
        if options.trouble_in == "companions":
            misbehave(options.trouble)
        return ()

    def start(self, options: TroubleOptions, job: JobView) -> Sampler:
        if options.trouble_in == "start":
            misbehave(options.trouble)
        return Trouble(options)


class DiaryOptions(SamplerOptions, frozen=True, kw_only=True):
    diary: float = 1.0


class Diary(Sampler):
    """Draws on all that it is given: its own state, the history, random numbers."""

    def __init__(self, options: DiaryOptions, job: JobView) -> None:
        self._options = options
        self._job = job
        self._seen: dict[int, float] = {}

    def apply(self, candidates: Candidates) -> None:
        logits = np.zeros(len(self._job.tokenizer.pieces), np.float32)
        for token_id, weight in self._seen.items():
            logits[token_id] -= self._options.diary * weight
        lucky = int(self._job.random() * len(logits))
        logits[lucky] += 2 + self._job.random(1)
        logits[self._job.token_ids[-1]] -= 0.5
        candidates.logits += logits if candidates.ids is None else logits[candidates.ids]

    def accept(self, token_id: int) -> None:
        self._seen = {known: weight * 0.9 for known, weight in self._seen.items()}
        self._seen[token_id] = self._seen.get(token_id, 0.0) + 1.0


class DiaryType(SamplerType):
    name = "diary"
    options = DiaryOptions

    def start(self, options: DiaryOptions, job: JobView) -> Sampler:
        return Diary(options, job)


class TwinsOptions(SamplerOptions, frozen=True, kw_only=True):
    twins: tuple[str, ...] = ()


class Twins(Sampler):
    """Adds up the logits of two prompts to the answer's own."""

    def apply(self, candidates: Candidates) -> None:
        first, second = candidates.companion_logits
        candidates.logits += first
        candidates.logits += second


class TwinsType(SamplerType):
    """Has two companions, which are texts of their own."""

    name = "twins"
    options = TwinsOptions

    def companions(self, options: TwinsOptions) -> Sequence[Companion]:
        return [Companion(text=text) for text in options.twins]

    def start(self, options: TwinsOptions, job: JobView) -> Sampler:
        return Twins()


class Letters(Constraint):
    """So many of some single bytes, then the end."""

    def __init__(self, spec: dict[str, Any], tokenizer: Tokenizer) -> None:
        self._spec = spec
        self._left = spec.get("count", 8)
        wanted = {letter.encode() for letter in spec.get("letters", "abc")}
        self._ids = {i for i, piece in enumerate(tokenizer.pieces) if piece in wanted}
        self._end_ids = tokenizer.end_ids
        self._calls = 0

    def _call(self, where: str) -> None:
        if self._spec.get("in") == where:
            self._calls += 1
            if self._calls == self._spec.get("at", 1):
                misbehave(self._spec["trouble"])

    def _allowed(self) -> set[int]:
        return self._ids if self._left else set(self._end_ids)

    def mask(self, out: NDArray[np.uint32]) -> bool:
        self._call("mask")
        time.sleep(self._spec.get("mask_s", 0))
        out[:] = 0
        for token_id in self._allowed():
            out[token_id // 32] |= np.uint32(1 << token_id % 32)
        return True

    def accept(self, token_id: int) -> bool:
        self._call("accept")
        if token_id not in self._allowed():
            return False
        self._left -= token_id in self._ids
        return True

    def forced(self) -> Sequence[int]:
        self._call("forced")
        return ()

    def allows(self, token_ids: Sequence[int]) -> int:
        self._call("allows")
        good = [token_id in self._ids for token_id in token_ids[: self._left]]
        return good.index(False) if False in good else len(good)

    def finished(self) -> bool:
        self._call("finished")
        return not self._left


class LettersType(ConstraintType):
    name = "letters"

    def check(self, spec: Any) -> None:
        pass

    def compile(self, spec: Any, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        if spec.get("in") == "compile":
            misbehave(spec["trouble"])
        return Letters(spec, tokenizer)


@hookimpl
def corral_samplers() -> Sequence[SamplerType]:
    return [TroubleType(), DiaryType(), TwinsType()]


@hookimpl
def corral_constraints() -> Sequence[ConstraintType]:
    return [LettersType()]


class TroubledParser(ChatParser):
    """Reads all as content, and misbehaves where it is told: by the level of thinking."""

    name = "troubled"
    capabilities = frozenset({"tools", "thinking"})

    def start(self, spec: AnswerSpec) -> OutputParser:
        return TroubledOutput(str(spec.think))

    def plan(self, spec: AnswerSpec) -> Plan | None:
        if spec.think == "plan":
            misbehave("raises")
        if spec.think in ("keeps", "drops"):
            return Plan(steps=(Literal(text="a<|im_start|>b"),))
        return None


class TroubledOutput(OutputParser):
    def __init__(self, where: str) -> None:
        self._where = where
        self.kept = frozenset({"|<|im_start|>|"} if where == "keeps" else ())
        if where == "start":
            misbehave("raises")

    def feed(self, text: str) -> Sequence[OutputEvent]:
        if self._where == "feed":
            misbehave("raises")
        if self._where == "loops":
            misbehave("loops")
        if self._where == "output":
            raise OutputError("empty function name")
        return [Content(text)]

    def finish(self, reason: EndReason) -> Sequence[OutputEvent]:
        if self._where == "finish":
            misbehave("raises")
        return []


@hookimpl
def corral_chat_formats() -> Sequence[ChatParser]:
    return [TroubledParser()]
