"""Each option does what it says, on a real model."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

QUESTION = "capital of Italy?"
FIXED = {"temperature": 0, "num_thread": 1}

Ask = Callable[..., httpx.Response]


WILD = {"temperature": 50, "top_k": 0, "top_p": 1, "num_thread": 1, "num_predict": 12}


def test_equal_seeds_give_equal_answers_and_others_do_not(ask: Ask) -> None:
    said = [ask({**WILD, "seed": seed}).json()["response"] for seed in (1, 2, 3, 1, -1, -1)]
    assert said[0] == said[3]
    assert len({*said}) == 5


@pytest.mark.parametrize(
    "options",
    [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"typical_p": 1e-6}, {"temperature": 0}],
    ids=lambda options: next(iter(options)),
)
def test_each_option_that_leaves_one_token_does(ask: Ask, options: dict[str, Any]) -> None:
    said = {ask({**WILD, "seed": seed, **options}).json()["response"] for seed in (1, 2)}
    assert said == {"Rome."}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"repeat_penalty": 50.0}, None),
        ({"presence_penalty": 100.0}, None),
        ({"frequency_penalty": 100.0}, None),
        ({"repeat_penalty": 50.0, "repeat_last_n": 0}, "Rome."),
        ({"stop": ["m"]}, "Ro"),
        ({"num_predict": 2}, "Ro"),
        ({"logit_bias": {"R": -100}}, None),
    ],
    ids=str,
)
def test_each_option_that_changes_the_best_answer_does(
    ask: Ask, options: dict[str, Any], said: str | None
) -> None:
    answer = ask({**FIXED, "num_predict": 12, **options}).json()
    assert "warnings" not in answer
    assert answer["response"] == said if said else answer["response"] != "Rome."


def test_mirostat_works_and_what_it_replaces_is_told_of(ask: Ask) -> None:
    steady = {**WILD, "temperature": 1, "mirostat_tau": 0.01, "mirostat_eta": 1.0}
    for version in (1, 2):
        answer = ask({**steady, "mirostat": version}).json()
        assert "warnings" not in answer  # top_k and top_p are off
        assert answer["response"] == "Rome."
    assert ask({**steady, "mirostat": 2, "top_k": 5}).json()["warnings"] == [
        'option "top_k" is ignored: "mirostat" takes its sampler\'s place'
    ]


def test_load_options_reach_the_engine(own: Any, ask: Ask) -> None:
    assert ask({"num_ctx": 96, "num_thread": 2, "temperature": 0}).status_code == 200
    (loaded,) = (
        model
        for model in httpx.get(f"{own.url}/api/ps").json()["models"]
        if model["context_length"] == 96
    )
    assert loaded["engine"]["details"]["threads"] == 2


def test_what_a_backend_of_no_hardware_ignores_is_told_of(ask: Ask) -> None:
    options = {"num_gpu": 3, "main_gpu": 0, "use_mmap": True, "num_thread": 2}
    told = ask({"backend": "echo", "num_predict": 2, **options}).json()["warnings"]
    for name in options:
        assert f'option "{name}" is ignored: this backend computes nothing' in told
    plain = ask({"backend": "echo", "num_predict": 2, "num_gpu": -1, "num_thread": 0}).json()
    assert not any("computes" in words for words in plain.get("warnings", ()))
