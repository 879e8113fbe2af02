import math
from typing import Any

import pytest
from corral_echo.options import EchoOptions

from corral_kernel.contracts import LoadOptions
from corral_kernel.errors import InvalidOptionError
from corral_kernel.options import RequestOptions, build, coerce

BIG = (1 << 63) - 1


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({"top_k": 5}, {"top_k": 5}),
        ({"top_k": 5.9}, {"top_k": 5}),
        ({"top_k": -5.9}, {"top_k": -5}),
        ({"top_k": 1e300}, {"top_k": BIG}),
        ({"seed": -(10**30)}, {"seed": -BIG - 1}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"temperature": 0.1}, {"temperature": 0.10000000149011612}),
        ({"temperature": 1e300}, {"temperature": math.inf}),
        ({"temperature": -1e300}, {"temperature": -math.inf}),
        ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
        ({"stop": []}, {"stop": ()}),
        ({"top_k": None, "stop": None}, {}),
    ],
    ids=str,
)
def test_values_are_converted_as_the_api_has_it(
    given: dict[str, Any], want: dict[str, Any]
) -> None:
    assert coerce(given) == (want, {}, ())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"top_k": "5"}, 'option "top_k" must be of type integer'),
        ({"top_k": True}, 'option "top_k" must be of type integer'),
        ({"top_k": math.nan}, 'option "top_k" must be of type integer'),
        ({"top_k": math.inf}, 'option "top_k" must be of type integer'),
        ({"temperature": "warm"}, 'option "temperature" must be of type float32'),
        ({"temperature": False}, 'option "temperature" must be of type float32'),
        ({"stop": "a"}, 'option "stop" must be of type array'),
        ({"stop": ["a", 1]}, 'option "stop" must be of an array of strings'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"main_gpu": "0"}, 'option "main_gpu" must be of type integer'),
        ({"echo_die_prompt": 7}, 'option "echo_die_prompt" must be of type string'),
        ({"backend": ["x"]}, 'option "backend" must be of type string'),
    ],
    ids=str,
)
def test_a_value_of_a_wrong_type_is_refused_in_the_api_s_words(
    given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        coerce(given, EchoOptions)
    assert str(caught.value) == words


def test_options_are_sorted_by_when_they_count_and_unknown_ones_are_named() -> None:
    request, load, unknown = coerce(
        {
            "num_ctx": 1024,
            "temperature": 0,
            "backend": "echo",
            "echo_step_ms": 3,
            "mirostat": 1,
            "use_mmap": False,
        },
        EchoOptions,
    )
    assert request == {"temperature": 0.0}
    assert load == {"num_ctx": 1024, "backend": "echo", "echo_step_ms": 3, "use_mmap": False}
    assert unknown == ("mirostat",)


def test_an_option_of_another_backend_is_unknown() -> None:
    assert coerce({"echo_step_ms": 3}, LoadOptions) == ({}, {}, ("echo_step_ms",))


def test_defaults_are_those_of_the_api() -> None:
    options = RequestOptions()
    assert (options.temperature, options.top_k, options.top_p, options.min_p) == (0.8, 40, 0.9, 0.0)
    assert (options.num_predict, options.num_keep, options.seed, options.stop) == (-1, 4, -1, ())
    assert (options.repeat_penalty, options.repeat_last_n) == (1.0, 64)


@pytest.mark.parametrize(
    "fields",
    [{"num_ctx": -1}, {"num_thread": -2}, {"echo_step_ms": -1}, {"unheard": 1}],
    ids=str,
)
def test_a_value_out_of_its_range_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError, match="option"):
        build(EchoOptions, fields)
