"""A comparison of two models, as it is asked for and as it is answered."""

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct

from corral_kernel.calls import CompletionCall
from corral_kernel.errors import InvalidOptionError, InvalidRequestError
from corral_kernel.models import Model
from corral_kernel.tasks.answers import PromptResult

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived",
    "def fibonacci(n):\n    ",
    "Question: What is 17 + 25?\nAnswer:",
    "Water boils at",
    "Translate to German: Good morning, my friend.\nGerman:",
    "The three primary colours are",
    '{"name": "Ada Lovelace", "born":',
)
"""What is compared where nothing else is asked for."""

MAX_TOKENS = 64
MOST_PROMPTS = 256
MOST_TOKENS = 1024
MOST_ROWS = 16384
"""Tokens of all answers: of each a distribution, 32 KiB at most, is kept in a temporary file."""

_OWN = frozenset({"backend", "seed"})


class CompareCall(Struct, frozen=True, kw_only=True):
    """A comparison.

    Args:
        models: The two; the divergence is over the first one's answers.
        options: Load options of each, `backend` and `seed`.
        prompts: To continue as they stand.
        max_tokens: Of each answer.
    """

    models: tuple[Model, Model]
    options: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
    prompts: tuple[str, ...] = PROMPTS
    max_tokens: int = MAX_TOKENS

    def check(self) -> None:
        """Look at the sizes.

        Raises:
            InvalidRequestError: If one is out of its bounds.
        """
        if not 1 <= len(self.prompts) <= MOST_PROMPTS:
            raise InvalidRequestError(
                f"{len(self.prompts)} prompts: compare takes from 1 to {MOST_PROMPTS}"
            )
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise InvalidRequestError(
                f"max_tokens is {self.max_tokens}; it must be from 1 to {MOST_TOKENS}"
            )
        if len(self.prompts) * self.max_tokens > MOST_ROWS:
            raise InvalidRequestError(
                f"{len(self.prompts)} prompts of {self.max_tokens} tokens are more than "
                f"{MOST_ROWS} in all: ask for fewer of either"
            )

    def completions(self) -> tuple[CompletionCall, CompletionCall]:
        """What each model is asked, but for the prompt."""
        first, second = (
            CompletionCall(
                model=model,
                options={**given, "temperature": 0, "num_predict": self.max_tokens, "stop": []},
                raw=True,
                truncate=False,
                shift=False,
            )
            for model, given in zip(self.models, self.options, strict=True)
        )
        return first, second


class Step(Struct, frozen=True, kw_only=True):
    """How far it is.

    Args:
        status: What is being done: `waiting` for other tasks, `loading` or `answering`.
        side: Of which model: `a` or `b`.
        model: Its name.
        completed: Prompts that are done, of `total`.
    """

    status: str
    side: str
    model: str
    completed: int = 0
    total: int = 0


class SideResult(Struct, frozen=True, kw_only=True):
    """What was measured of one model. Unknown numbers are null.

    Args:
        model: Its name; `quantization`, `backend`: what ran.
        load_duration: Nanoseconds until it was loaded.
        memory: Bytes that its process had in RAM after the last answer, libraries and mapped
            weights too; what its engine says where that is more, as on a graphics card.
        context_length: Tokens of one request.
        tokens: Of all its answers.
        tokens_per_second: Of decoding, without the prompts.
    """

    model: str
    backend: str
    quantization: str
    load_duration: int
    memory: int
    context_length: int
    tokens: int
    tokens_per_second: float | None


class CompareResult(Struct, frozen=True, kw_only=True):
    """All of it.

    Args:
        a: The first model.
        b: The second one.
        prompts: Each one's answers.
        equal: Prompts that both answered alike.
        kl_mean: Divergence of the second model from the first over all tokens, in nats.
        kl_max: The largest of one token.
        agreement: Share of tokens that both found likeliest, after the same text.
        kl_reason: Why there is no divergence; empty: there is.
        warnings: For people.
    """

    a: SideResult
    b: SideResult
    prompts: tuple[PromptResult, ...]
    equal: int
    kl_mean: float | None
    kl_max: float | None
    agreement: float | None
    kl_reason: str = ""
    warnings: tuple[str, ...] = ()


def check_options(given: Mapping[str, Any], load_names: Collection[str]) -> None:
    """Refuse options that a comparison does not obey.

    Args:
        given: A side's own.
        load_names: Load options of its backend.

    Raises:
        InvalidOptionError: If there is one.
    """
    for name, value in given.items():
        if value is not None and name not in _OWN and name not in load_names:
            raise InvalidOptionError(
                f'option "{name[:100]}" means nothing here: compare takes the most likely token '
                'each time, and obeys load options, "backend" and "seed"'
            )
