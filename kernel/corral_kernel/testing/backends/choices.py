"""How tokens are chosen: seeds, drafts, others' samplers and constraints, log-probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from corral_kernel.frames import TokenLogprob
from corral_kernel.testing.backends.guest import LETTERS
from corral_kernel.testing.backends.suite import KernelSuite
from corral_kernel.testing.suites import demand

SEEDS = (1, 2, 3, 2**31 - 1)
TOP = 3
_FORMATS: dict[str, tuple[Any, str]] = {
    LETTERS: ({"type": LETTERS, "letters": "abc", "length": 7}, "[abc]{1,7}"),
    "regex": ({"type": "regex", "pattern": "[ab]{3}[0-9]"}, "[ab]{3}[0-9]"),
    "schema": (
        {
            "type": "object",
            "properties": {"is": {"type": "boolean"}, "in": {"enum": ["one", "two"]}},
            "required": ["is", "in"],
        },
        r'\{\s*"is"\s*:\s*(true|false)\s*,\s*"in"\s*:\s*"(one|two)"\s*\}',
    ),
}
_ROUNDING = 1e-3


class ChoiceTests(KernelSuite):
    """Tests of how an answer's tokens are chosen.

    Attributes:
        wild: Options by which answers differ from seed to seed.
    """

    wild: ClassVar[Mapping[str, Any]] = {"temperature": 100.0, "top_p": 1.0}

    def test_equal_seeds_get_equal_answers(self) -> None:
        """And different ones different answers."""
        if "seed" not in self.can:
            self.demand_refused("seed", "seed", lambda: self.ask(self.prompts[0], seed=1))
            return
        texts = [self._seeded(seed) for seed in SEEDS]
        again = [self._seeded(seed) for seed in SEEDS]
        demand(texts == again, f"seeds {SEEDS} give {texts}, then {again}")
        demand(len(set(texts)) > 1, f"all seeds of {SEEDS} give {texts[0]!r} with {self.wild}")

    def test_drafts_change_no_answer(self) -> None:
        """They are guesses; what is not drawn too is forgotten."""
        if "drafts" not in self.can:
            self.demand_refused(
                "drafts", "draft", lambda: self.ask(self.prompts[0], draft_num_predict=4)
            )
            return
        for asked in ({}, {"seed": 5, "temperature": 1.0}):
            plain = self.ask(self.prompts[0], **asked).text
            answer = self.ask(self.prompts[0], draft_num_predict=4, **asked)
            told = " ".join(answer.warnings)
            demand("draft_num_predict is ignored" not in told.replace('"', ""), told)
            demand(answer.text == plain, f"{answer.text!r} with drafts, {plain!r} without")

    def test_a_sampler_of_somebody_else_chooses_its_tokens(self) -> None:
        """One that writes a given text, whatever the model would say."""
        text = "a sampler wrote this"
        if "sampler" in self.can:
            for temperature in (0, 1.0):
                asked = {"num_predict": -2, "temperature": temperature}
                written = self.ask(self.prompts[0], suite_text=text, **asked).text
                demand(written == text, f"{written!r} came of a sampler that writes {text!r}")
        else:
            self.demand_refused(
                "sampler", "suite_text", lambda: self.ask(self.prompts[0], suite_text=text)
            )

    def test_answers_obey_their_format(self) -> None:
        """Greedy or drawn, one by one or together; each kind of format that is installed."""
        for kind, (spec, pattern) in self.formats().items():
            if "constraint" not in self.can and kind not in self.can:
                self.demand_refused("constraint", "format", lambda f=spec: self._held(f))  # type: ignore[misc]  # a default binds it now
                continue
            requests = [self.given("Hello", format=spec, num_predict=99)] * 2
            requests += [{**requests[0], "temperature": 1.0, "seed": seed} for seed in SEEDS]
            for answer in self.kernel.ask_together(self.model, requests):
                demand(
                    re.fullmatch(pattern, answer.text),
                    f"format {spec} is answered by {answer.text!r}",
                )

    def test_log_probabilities_are_those_of_the_answer(self) -> None:
        """Each token's, with the likeliest others at its place."""
        asked = self.given(self.prompts[0], logprobs=TOP)
        if "logprobs" not in self.can:
            self.demand_refused(
                "logprobs", "logprobs", lambda: self.kernel.ask(self.model, **asked)
            )
            return
        answer = self.kernel.ask(self.model, **asked)
        found = answer.logprobs
        written = b"".join(token.bytes for token in found)
        demand(written == answer.text.encode(), f"{written!r} are the bytes of {answer.text!r}")
        demand(found, "there are none")
        for token in found:
            _demand_sound(token)
        plain = self.ask(self.prompts[0]).text
        demand(answer.text == plain, f"asked for logprobs it says {answer.text!r}, else {plain!r}")

    def formats(self) -> dict[str, tuple[Any, str]]:
        """Formats to try by kind, with a regular expression of Python's for their answers."""
        have = self.kernel.corral.plugins.constraints
        return {kind: _FORMATS[kind] for kind in _FORMATS if kind in have}

    def _held(self, spec: Any) -> Any:
        return self.ask(self.prompts[0], format=spec)

    def _seeded(self, seed: int) -> str:
        return self.ask(self.prompts[0], seed=seed, **self.wild).text


def _demand_sound(token: TokenLogprob) -> None:
    own, top = token.logprob, [other.logprob for other in token.top]
    demand(len(top) == TOP, f"{token.token!r} has {len(top)} alternatives, not {TOP}")
    demand(own <= _ROUNDING, f"{token.token!r} has the log-probability {own}")
    demand(top == sorted(top, reverse=True), f"the alternatives of {token.token!r} are unsorted")
    demand(own <= top[0] + _ROUNDING, f"{token.token!r} is likelier than the likeliest, {top[0]}")
    total = sum(map(math.exp, top))
    demand(0 < total <= 1 + _ROUNDING, f"probabilities at {token.token!r} come to {total}")
