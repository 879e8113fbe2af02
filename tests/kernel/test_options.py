import math
from typing import Annotated, Any, Literal

import pytest
from corral_echo.options import EchoOptions
from msgspec import Meta, Struct, field

from corral_kernel.contracts import LoadOptions, SamplerOptions, SamplerType
from corral_kernel.errors import InvalidOptionError
from corral_kernel.fields import fields_of
from corral_kernel.options import Given, OptionTable
from corral_kernel.samplers import standard_samplers

ECHO = OptionTable(EchoOptions, standard_samplers())
PLAIN = OptionTable(LoadOptions, standard_samplers())
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
        ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
        ({"stop": []}, {"stop": ()}),
        ({"top_k": None, "stop": None}, {}),
    ],
    ids=str,
)
def test_values_are_converted_as_the_api_has_it(
    given: dict[str, Any], want: dict[str, Any]
) -> None:
    sorted_ = PLAIN.sort(given)
    assert sorted_.request | sorted_.flat == want
    assert not sorted_.load
    assert not sorted_.unknown


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
        ({"temperature": 1e300}, 'option "temperature" is inf; it must be a finite number'),
        ({"temperature": math.nan}, 'option "temperature" is nan; it must be a finite number'),
        ({"samplers": "top_k"}, 'option "samplers" must be of type array'),
        ({"samplers": {"name": "top_k"}}, 'option "samplers" must be of type array'),
        ({"temperature": -1e300}, 'option "temperature" is -inf; it must be a finite number'),
        ({"num_thread": -3}, 'option "num_thread" is -3; it must be at least 0 and at most 512'),
        ({"echo_step_ms": -1}, 'option "echo_step_ms" is -1; it must be at least 0'),
        ({"penalties": 1}, 'option "penalties" must be an object of its fields'),
    ],
    ids=str,
)
def test_a_value_of_a_wrong_type_is_refused_in_the_api_s_words(
    given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        ECHO.sort(given)
    assert str(caught.value) == words


def test_options_are_sorted_by_when_they_count_and_unknown_ones_are_named() -> None:
    found = ECHO.sort(
        {
            "num_ctx": 1024,
            "temperature": 0,
            "backend": "echo",
            "echo_step_ms": 3,
            "numa": True,
            "top_z": 1,
            "use_mmap": False,
            "seed": 7,
            "top_k": {"top_k": 3},
            "samplers": ["top_k"],
        },
    )
    assert found == Given(
        request={"seed": 7},
        load={"num_ctx": 1024, "echo_step_ms": 3, "use_mmap": False},
        backend="echo",
        flat={"temperature": 0.0},
        nested={"top_k": {"top_k": 3}},
        samplers=("top_k",),
        unknown=["top_z"],
        retired=["numa"],
    )
    assert ECHO.guess("top_z") == '; did you mean "top_p"?'
    assert ECHO.guess("mirrors") == ""


def test_an_option_of_another_backend_is_unknown() -> None:
    assert PLAIN.sort({"echo_step_ms": 3}) == Given(unknown=["echo_step_ms"])


def test_defaults_are_those_of_the_api() -> None:
    known = {**PLAIN.request, **PLAIN.flat}
    wanted = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "num_predict": -1}
    wanted |= {"num_keep": 4, "seed": -1, "stop": (), "repeat_penalty": 1.0, "repeat_last_n": 64}
    assert {name: known[name].default for name in wanted} == wanted


def test_a_field_tells_its_type_range_and_what_it_is_for() -> None:
    field = fields_of(LoadOptions)["num_thread"]
    assert (field.kind, field.range, field.default) == ("integer", "at least 0 and at most 512", 0)
    assert field.description == "CPU threads; 0: automatic"


def test_of_a_wrong_type_the_error_names_the_option() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        ECHO.sort({"num_ctx": [1]})
    assert caught.value.wrong_type == "num_ctx"
    with pytest.raises(InvalidOptionError) as caught:
        ECHO.sort({"num_batch": -1})
    assert caught.value.wrong_type == ""


class Odd(Struct, frozen=True, kw_only=True):
    dial: Literal[0, 1, 2] = 0
    mood: Literal["calm", "wild"] | None = None
    mixed: Literal["off", 1] = "off"
    share: Annotated[float, Meta(gt=0, lt=0.5)] | None = None
    tokens: Annotated[int, Meta(le=1 << 20)] = 0


ODD = fields_of(Odd)


@pytest.mark.parametrize(
    ("name", "value", "converted"),
    [
        ("dial", 2, 2),
        ("dial", 1.0, 1),
        ("mood", "wild", "wild"),
        ("mixed", 1, 1),
        ("share", 0.25, 0.25),
    ],
)
def test_choices_are_converted_as_their_type_is(name: str, value: Any, converted: Any) -> None:
    assert ODD[name].convert(value) == converted
    assert type(ODD[name].convert(value)) is type(converted)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dial", 3, 'option "dial" must be one of 0, 1, 2'),
        ("dial", True, 'option "dial" must be of type integer'),
        ("dial", "1", 'option "dial" must be of type integer'),
        ("mood", "grim", "option \"mood\" must be one of 'calm', 'wild'"),
        ("mood", ["calm"], 'option "mood" must be of type string'),
        ("mixed", {"a": 1}, 'option "mixed" must be one of '),
        ("share", 0, 'option "share" is 0; it must be over 0 and under 0.5'),
        ("tokens", 2**20 + 1, 'option "tokens" is 1048577; it must be at most 1048576'),
    ],
)
def test_what_is_no_choice_or_out_of_range_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        ODD[name].convert(value)
    assert words in str(caught.value)


class BiasOptions(SamplerOptions, frozen=True, kw_only=True):
    bias: dict[str, float] = field(default_factory=dict)
    bias_scale: float = 1.0


class Bias(SamplerType):
    name = "bias"
    options = BiasOptions


def test_an_object_is_a_sampler_s_fields_or_the_value_of_its_own_object_field() -> None:
    table = OptionTable(LoadOptions, {"bias": Bias()})
    assert table.sort({"bias": {"17": -5}}).flat == {"bias": {"17": -5}}
    assert table.sort({"bias": {}}).flat == {"bias": {}}
    nested = {"bias": {"17": -5}, "bias_scale": 2}
    assert table.sort({"bias": nested}).nested == {"bias": nested}


def test_options_of_mirostat_are_no_mistake_where_no_sampler_knows_them() -> None:
    given = {"mirostat": 2, "mirostat_tau": 5.0, "mirostat_eta": 0.1, "num_gqa": 8, "tfs_z": 1}
    found = PLAIN.sort(given)
    assert (found.retired, found.unknown) == (list(given), [])


def test_an_integer_that_no_float_holds_is_as_large_as_can_be() -> None:
    huge = 10**400
    assert PLAIN.sort({"seed": huge, "num_keep": -huge}).request == {
        "seed": BIG,
        "num_keep": -BIG - 1,
    }
    for name, value, words in (
        ("temperature", huge, "is inf; it must be a finite number"),
        ("temperature", -huge, "is -inf; it must be a finite number"),
        ("num_thread", huge, f"is {BIG}; it must be at least 0 and at most 512"),
    ):
        with pytest.raises(InvalidOptionError, match=words):
            PLAIN.sort({name: value})
