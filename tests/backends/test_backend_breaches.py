"""What is wrong with a backend is found by its suite, and said; and the suites' own plugin."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from corral_kernel.testing import (
    ContractBrokenError,
    run_suite,
)
from corral_kernel.testing.backends import BackendSuite, LettersType, WriteType, gguf_head
from corral_kernel.testing.constraints import ConstraintSuite
from corral_kernel.testing.samplers import SamplerSuite


def breaches(suite: type[Any]) -> dict[str, str]:
    """What is wrong, by test."""
    return {outcome.test: outcome.error for outcome in run_suite(suite) if outcome.error}


# ------------------------------------------------------------------------------------ backends


class Echo(BackendSuite):
    files: ClassVar = {"none.gguf": gguf_head()}
    parameters: ClassVar = {"backend": "echo"}
    can = frozenset(
        {"completion", "counts", "raw", "window", "sampler", "constraint", "seed", "logprobs"}
    )


@pytest.fixture(scope="module")
def echo() -> Iterator[type[Echo]]:
    Echo.setup_class()
    yield Echo
    Echo.teardown_class()


@pytest.mark.parametrize(
    ("changed", "test", "words"),
    [
        ({"logprobs"}, "log_probabilities_are_those_of_the_answer", "is told nothing"),
        ({"sampler"}, "a_sampler_of_somebody_else_chooses_its_tokens", "is told nothing"),
        ({"constraint"}, "answers_obey_their_format", "is told nothing"),
        ({"seed"}, "equal_seeds_get_equal_answers", "is told nothing"),
        ({"raw"}, "a_prompt_is_continued_as_it_stands", "is told nothing"),
        ({"counts"}, "an_answer_has_no_more_tokens_than_asked_for", "1 tokens of 1"),
        ({"drafts"}, "drafts_change_no_answer", "draft_num_predict"),
        ({"adapters"}, "adapters_change_the_answer", "adapter"),
        ({"prefix"}, "a_second_turn_computes_only_what_is_new", "nothing of the first turn"),
        ({"embedding"}, "the_backend_claims_the_model_and_runs_it", "its claim has"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, set) else "",
)
def test_a_capability_that_is_declared_wrongly_is_told(
    echo: type[Echo], changed: set[str], test: str, words: str
) -> None:
    suite = type("Changed", (echo,), {"can": echo.can ^ changed})
    with pytest.raises(Exception, match=words):
        getattr(suite(), f"test_{test}")()


def test_another_backend_than_the_one_that_is_meant_is_told(echo: type[Echo]) -> None:
    suite = type("Changed", (echo,), {"backend": "other"})
    with pytest.raises(ContractBrokenError, match="echo runs it, not other"):
        suite().test_the_backend_claims_the_model_and_runs_it()


def test_a_template_that_is_not_declared_is_told(echo: type[Echo]) -> None:
    files, parameters = {"other.gguf": gguf_head(x__of="templated")}, {"backend": "echo"}
    echo.kernel.create("templated", files, parameters, template="Q: {{ .Prompt }} A:")
    suite = type("Templated", (echo,), {"model": "templated"})
    with pytest.raises(ContractBrokenError, match="something was put around it"):
        suite().test_a_conversation_is_put_by_the_models_template()
    declared = type("Declared", (suite,), {"can": echo.can | {"chat"}})
    declared().test_a_conversation_is_put_by_the_models_template()


def test_a_worker_that_dies_in_mid_answer_is_told(echo: type[Echo]) -> None:
    echo.kernel.create(
        "dying", {"other.gguf": gguf_head(x__of="dying")}, {"backend": "echo", "echo_die_at": 3}
    )
    suite = type("Dying", (echo,), {"model": "dying"})
    with pytest.raises(Exception, match="SIGKILL"):
        suite().test_equal_requests_get_equal_answers()


# ------------------------------------------------------------------------------- their plugin


class TestWriting(SamplerSuite):
    kind = WriteType()
    cases = ({"suite_text": "a sampler wrote this"}, {"suite_text": "é", "suite_pause_ms": 1})


class TestLetters(ConstraintSuite):
    kind = LettersType()


def test_a_suite_is_ended_whatever_its_tests_do() -> None:
    seen: list[str] = []

    class Suite:
        @classmethod
        def setup_class(cls) -> None:
            seen.append("begun")

        @classmethod
        def teardown_class(cls) -> None:
            seen.append("ended")

        def test_a(self) -> None:
            raise SystemExit(1)

        def test_b(self) -> None:
            seen.append("b")

    assert list(breaches(Suite)) == ["a"]
    assert seen == ["begun", "b", "ended"]
