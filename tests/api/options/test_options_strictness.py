"""CORRAL_STRICT_OPTIONS both ways, and what is wrong with options whatever it says."""

from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

QUESTION = "capital of Italy?"
FIXED = {"temperature": 0, "num_thread": 1}

Ask = Callable[..., httpx.Response]


def test_by_default_an_unknown_option_is_warned_of_and_an_unknown_sampler_refused(ask: Ask) -> None:
    assert ask({**FIXED, "no_such": 1}).status_code == 200
    for options, words in (
        ({"samplers": ["no_such"]}, 'no sampler "no_such"; there are: '),
        ({"samplers": [{"name": "top_k", "k": 1}]}, 'sampler "top_k" has no field "k"'),
        ({"penalties": {"k": 1}}, 'sampler "penalties" has no field "k"'),
    ):
        answer = ask({**FIXED, **options})
        assert answer.status_code == 400
        assert words in answer.json()["error"]


def test_strictly_an_unknown_option_is_refused_too(strict: Ask) -> None:
    answer = strict({**FIXED, "top_kk": 1})
    wanted = {"error": 'option "top_kk" is unknown; did you mean "top_k"?'}
    assert (answer.status_code, answer.json()) == (400, wanted)
    told = strict(FIXED).json()["warnings"]  # the model's own are no mistake of the client's
    assert told == ['option "of_the_model" is unknown and ignored']
    assert strict({"samplers": ["no_such"]}).status_code == 400
    many = strict({f"x{number}": 1 for number in range(10_000)})
    assert (many.status_code, many.json()) == (400, {"error": 'option "x0" is unknown'})


def test_leniently_all_of_it_is_only_warned_of(lenient: Ask) -> None:
    samplers = [{"name": "top_k", "k": 1}, "no_such"]
    answer = lenient({**FIXED, "no_option": 1, "samplers": samplers}).json()
    assert answer["response"] == "Rome."
    assert [words.partition(";")[0] for words in answer["warnings"]] == [
        'option "no_option" is unknown and ignored',
        'option "samplers": no sampler "no_such"',
        'sampler "top_k" has no field "k"',
    ]
    assert lenient({"num_thread": -1}).status_code == 400
    assert lenient({"num_thread": "x"}).status_code == 500


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"num_ctx": "64"}, 500, 'option "num_ctx" must be of type integer'),
        ({"top_k": True}, 500, 'option "top_k" must be of type integer'),
        ({"temperature": "warm"}, 500, 'option "temperature" must be of type float32'),
        ({"use_mmap": 1}, 500, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 500, 'option "stop" must be of type array'),
        ({"stop": ["x", 1]}, 500, 'option "stop" must be of an array of strings'),
        ({"top_p": {"a": []}, "num_gpu": [1]}, 500, 'option "num_gpu" must be of type integer'),
        ({"samplers": "top_k"}, 400, 'option "samplers" must be of type array'),
        ({"backend": 5}, 400, 'option "backend" must be of type string'),
        ({"kv_cache_type": 5}, 400, 'option "kv_cache_type" must be of type string'),
        ({"penalties": 5}, 400, 'option "penalties" must be an object of its fields'),
        ({"samplers": [[[[]]]]}, 400, "each entry is a name"),
        ({"samplers": [{"name": "top_k", "top_k": {}}]}, 400, "must be of type integer"),
        ({"samplers": ["top_k"] * 65}, 400, "has 65 entries; at most 64"),
        ({"num_thread": -1}, 400, "is -1; it must be at least 0 and at most 512"),
        ({"num_thread": 10**18}, 400, "it must be at least 0 and at most 512"),
        ({"temperature": 1e300}, 400, 'option "temperature" is inf; it must be a finite number'),
        ({"repeat_penalty": 0}, 400, 'option "repeat_penalty" is 0; it must be over 0'),
        ({"split_mode": "odd"}, 400, "option"),
        ({"stop": ["x"] * 65}, 400, 'option "stop": expected array of length <= 64'),
        ({"stop": ["x" * 1025]}, 400, 'option "stop[0]": expected str of length <= 1024'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_option_that_does_not_fit_is_refused_in_words(
    ask: Ask, options: dict[str, Any], status: int, words: str
) -> None:
    answer = ask(options)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"]
    assert len(answer.json()["error"]) < 1000


@pytest.mark.parametrize(
    "text",
    [
        '{"temperature": 1e400}',
        '{"temperature": -1e400}',
        '{"temperature": NaN}',
        '{"temperature": Infinity}',
        '{"a": ' * 200 + "1" + "}" * 201,
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=["1e400", "-1e400", "NaN", "Infinity", "deep objects", "deep arrays"],
)
def test_what_is_no_json_that_an_option_can_be_is_refused(own: Any, ask: Ask, text: str) -> None:
    assert ask(FIXED).status_code == 200
    body = f'{{"model": "options", "prompt": "x", "options": {text}}}'
    answer = httpx.post(f"{own.url}/api/generate", content=body, timeout=60)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_huge_integers_are_as_large_as_can_be(own: Any, ask: Ask) -> None:
    assert ask(FIXED).status_code == 200
    options = f'{{"temperature": 0, "seed": {10**300}, "top_k": {10**30}, "num_thread": 1}}'
    body = f'{{"model": "options", "prompt": "{QUESTION}", "stream": false, "options": {options}}}'
    answer = httpx.post(f"{own.url}/api/generate", content=body, timeout=60)
    assert (answer.status_code, answer.json()["response"]) == (200, "Rome.")


def test_ten_thousand_options_are_answered_quickly(own: Any, ask: Ask) -> None:
    ask(FIXED)
    server = psutil.Process(own.process.pid)
    before_s = server.cpu_times().user
    answer = ask({**{f"top_{number}": [{"x": number}] for number in range(10_000)}, **FIXED})
    # A guess for each name would take minutes.
    assert server.cpu_times().user - before_s < 20
    assert answer.status_code == 200
    assert len(answer.json()["warnings"]) == 21
    assert answer.json()["warnings"][-1] == "9980 more options are unknown and ignored"


def test_an_error_leaves_no_traceback_in_the_log(own: Any, ask: Ask) -> None:
    ask({"samplers": [{"name": "top_k", "top_k": [[]]}], "num_ctx": 64})
    ask({"num_ctx": {}})
    assert not any("Traceback" in line for line in own.log)
