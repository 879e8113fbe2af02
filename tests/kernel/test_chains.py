import time
from typing import Annotated, Any

import pytest
from msgspec import Meta, field

from corral_kernel.chains import Chain, resolve
from corral_kernel.contracts import JobView, LoadOptions, Sampler, SamplerOptions, SamplerType
from corral_kernel.errors import InvalidOptionError, PluginError
from corral_kernel.options import OptionTable
from corral_kernel.samplers import standard_samplers


class TiltOptions(SamplerOptions, frozen=True, kw_only=True):
    tilt: Annotated[float, Meta(ge=0, description="how far; 0: off")] = 0.0
    top_k: str = "another type"
    min_keep: int = 1


class Tilt(SamplerType):
    name = "tilt"
    options = TiltOptions
    default_place = 45.0
    replaces = ("top_p", "min_p")

    def enabled(self, options: TiltOptions) -> bool:
        return options.tilt > 0

    def check(self, options: TiltOptions) -> None:
        if options.min_keep == 13:
            raise InvalidOptionError('option "min_keep" is 13, which brings no luck')

    def start(self, options: TiltOptions, job: JobView) -> Sampler:
        raise NotImplementedError


class NamedOptions(SamplerOptions, frozen=True, kw_only=True):
    level: int = 0
    extra: dict[int, float] = field(default_factory=dict)


class NamedOnly(SamplerType):
    name = "named"
    options = NamedOptions


class ShakyOptions(SamplerOptions, frozen=True, kw_only=True):
    shake: float = 0.0
    temperature: float = 0.8


class Shaky(SamplerType):
    """A stranger's, whose code raises."""

    name = "shaky"
    options = ShakyOptions
    default_place = 5.0

    def enabled(self, options: ShakyOptions) -> bool:
        return 1 / options.shake > 0


TABLE = OptionTable(
    LoadOptions,
    {**standard_samplers(), "tilt": Tilt(), "named": NamedOnly(), "shaky": Shaky()},
)


def resolved(options: dict[str, Any], *, lenient: bool = False) -> tuple[Chain, list[str]]:
    return resolve(TABLE, TABLE.sort(options), lenient=lenient)


def names(options: dict[str, Any]) -> str:
    return " ".join(spec.name for spec in resolved(options)[0].samplers)


def test_without_a_chain_of_its_own_a_request_gets_what_is_on_in_order() -> None:
    assert names({}) == "top_k top_p temperature"
    assert names({"min_p": 0.1, "typical_p": 0.5, "repeat_penalty": 1.1}) == (
        "penalties top_k typical_p top_p min_p temperature"
    )
    assert names({"top_k": 0, "top_p": 1, "temperature": 1}) == ""


def test_a_plugin_s_sampler_takes_its_place_and_that_of_others() -> None:
    assert names({"tilt": 0.5, "min_p": 0.1}) == "top_k tilt temperature"


def test_a_chain_that_is_asked_for_is_the_whole_chain() -> None:
    assert names({"samplers": ["temperature", "top_k"]}) == "temperature top_k"
    assert names({"samplers": []}) == ""
    assert names({"samplers": ["top_k", "min_p", {"name": "min_p", "min_p": 0.2}]}) == "top_k min_p"


def test_fields_come_from_the_entry_then_from_the_name_then_from_the_flat_options() -> None:
    chain, told = resolved(
        {
            "samplers": [{"name": "top_k", "top_k": 3}, "top_k", "min_p", "top_p"],
            "top_k": {"top_k": 7.9},
            "min_p": 0.5,
            "min_keep": 2,
            "top_p": {"min_keep": 4},
        }
    )
    assert [spec.options for spec in chain.samplers] == [
        {"top_k": 3},
        {"top_k": 7},
        {"min_p": 0.5, "min_keep": 2},
        {"top_p": 0.9, "min_keep": 4},
    ]
    assert told == []


def test_a_name_of_another_type_is_reached_through_its_sampler_alone() -> None:
    (spec,) = resolved({"samplers": [{"name": "tilt", "tilt": 1, "top_k": "x"}]})[0].samplers
    assert spec.options["top_k"] == "x"
    assert resolved({"top_k": 5, "tilt": 1})[0].samplers[1].options["top_k"] == "another type"


@pytest.mark.parametrize(
    ("options", "greedy"),
    [
        ({}, False),
        ({"temperature": 0}, True),
        ({"samplers": ["top_k"]}, False),
        ({"samplers": ["top_k"], "temperature": 0}, True),
        ({"samplers": [{"name": "temperature", "temperature": 0}]}, True),
        ({"samplers": [{"name": "temperature", "temperature": 2}], "temperature": 0}, False),
    ],
    ids=str,
)
def test_at_temperature_0_the_best_token_is_taken(
    options: dict[str, Any],
    greedy: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    assert resolved(options)[0].greedy is greedy


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samplers": [5]}, 'each entry is a name, or an object with a "name"'),
        ({"samplers": [{"top_k": 5}]}, 'each entry is a name, or an object with a "name"'),
        ({"samplers": ["top_j"]}, 'no sampler "top_j"; there are: min_p, named, penalties, '),
        ({"samplers": ["top_k"] * 65}, "has 65 entries; at most 64"),
        ({"samplers": [{"name": "top_k", "k": 5}]}, '"top_k" has no field "k"; it has: top_k'),
        ({"tilt": {"slope": 5}}, 'sampler "tilt" has no field "slope"'),
        ({"tilt": {"tilt": -1}}, 'option "tilt" is -1; it must be at least 0'),
        ({"tilt": -1}, 'option "tilt" is -1; it must be at least 0'),
        ({"tilt": {"min_keep": 13}}, "brings no luck"),
        ({"samplers": [{"name": "min_p", "min_p": "x"}]}, '"min_p" must be of type float32'),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        resolved(options)
    assert words in str(caught.value)


def test_leniently_unknown_samplers_and_fields_are_told_of() -> None:
    chain, told = resolved(
        {"samplers": ["top_j", {"name": "top_k", "k": 5, "top_k": 2}]}, lenient=True
    )
    assert [(spec.name, spec.options) for spec in chain.samplers] == [("top_k", {"top_k": 2})]
    assert told[0].startswith('option "samplers": no sampler "top_j"; there are: ')
    assert told[1] == 'sampler "top_k" has no field "k"; it has: top_k: ignored'
    assert told[0].endswith(": ignored")


def test_what_is_set_for_a_sampler_that_the_chain_lacks_is_told_of() -> None:
    _, told = resolved({"samplers": ["top_k"], "min_p": 0.1, "tilt": {"tilt": 1}, "top_k": 3})
    assert told == [
        'option "min_p" is ignored: its sampler is not among "samplers"',
        'option "tilt" is ignored: its sampler is not among "samplers"',
    ]


def test_the_temperature_is_told_of_where_no_sampler_reads_it() -> None:
    assert resolved({"samplers": ["top_k"], "temperature": 0})[1] == []
    assert resolved({"samplers": ["top_k"], "temperature": 0.5})[1] == [
        'option "temperature" is ignored: its sampler is not among "samplers"'
    ]


def test_what_is_set_for_a_sampler_that_must_be_named_is_told_of() -> None:
    told = 'option "{}" is ignored: its sampler serves where "samplers" names it'
    assert resolved({"level": 2, "named": {"level": 1}})[1] == [
        told.format("level"),
        told.format("named"),
    ]
    assert resolved({"level": 2, "samplers": ["named"]})[1] == []


def test_what_is_set_for_a_sampler_that_another_one_replaces_is_told_of() -> None:
    told = 'option "{}" is ignored: "tilt" takes its sampler\'s place'
    assert resolved({"tilt": 1, "top_p": 0.5, "min_p": {"min_p": 0.1}})[1] == [
        told.format("top_p"),
        told.format("min_p"),
    ]
    assert resolved({"tilt": 1})[1] == []  # nobody set top_p, though it has a default
    assert resolved({"tilt": 1, "min_keep": 2, "typical_p": 0.5})[1] == []  # still read


def test_a_sampler_that_is_named_and_off_is_told_of() -> None:
    chain, told = resolved({"samplers": ["min_p", "typical_p", "temperature"]})
    assert [spec.name for spec in chain.samplers] == ["temperature"]
    assert told == ['option "samplers": "min_p", "typical_p" do nothing with these options']
    assert resolved({"samplers": ["top_k", "temperature"], "temperature": 0})[1] == []


def test_a_field_of_a_sampler_that_is_off_is_told_of() -> None:
    told = 'option "{}" is ignored: its sampler is off with these options'
    assert resolved({"repeat_last_n": 32})[1] == [told.format("repeat_last_n")]
    assert resolved({"penalties": {"repeat_last_n": 32}})[1] == [told.format("repeat_last_n")]
    assert resolved({"repeat_last_n": 64})[1] == []  # no more than the default
    assert resolved({"repeat_last_n": 32, "repeat_penalty": 1.5})[1] == []
    for switching_off in (
        {"top_k": 0},
        {"top_p": 1.0},
        {"min_p": 0.0},
        {"typical_p": 1.0},
        {"repeat_penalty": 1.5, "repeat_last_n": 0},
    ):
        assert resolved(switching_off)[1] == []


def test_a_sampler_that_raises_is_left_out_unless_it_is_asked_for() -> None:
    assert names({}) == "top_k top_p temperature"
    assert names({"temperature": 0.5}) == "top_k top_p temperature"
    for options in ({"samplers": ["shaky"]}, {"shake": 0}, {"shaky": {"shake": 0}}):
        with pytest.raises(PluginError) as caught:
            resolved(options)
        words = 'sampler "shaky" cannot be used: its enabled raised ZeroDivisionError: '
        assert str(caught.value).startswith(words)
    assert names({"shake": 0.5}).startswith("shaky ")


@pytest.mark.parametrize(
    "options",
    [
        {"samplers": [{"name": "named", "extra": {"1" * 40: 1.0}}]},
        {"samplers": [{"name": "named", "extra": {"x": 1.0}}]},
        {"samplers": [{"name": "named", "extra": [[[[]]]]}]},
        {"samplers": [[["top_k"]]]},
        {"samplers": [None]},
        {"samplers": [{"name": {"name": "top_k"}}]},
    ],
    ids=str,
)
def test_garbage_inside_entries_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError):
        resolved(options)


def test_a_wrong_type_inside_an_entry_is_the_sampler_s_affair() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        resolved({"samplers": [{"name": "top_k", "top_k": True}]})
    assert str(caught.value) == 'sampler "top_k": option "top_k" must be of type integer'
    assert caught.value.wrong_type == ""


def test_ten_thousand_unknown_fields_are_told_of_in_few_words() -> None:
    fields = {f"field {number}\n": number for number in range(10_000)}
    start = time.thread_time()
    _, told = resolved({"samplers": [{"name": "top_k", **fields}] * 3}, lenient=True)
    assert len(told) <= 32
    assert not any("\n" in words for words in told)
    assert time.thread_time() - start < 20  # quadratic work would take minutes


def test_an_endless_name_is_cut() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        resolved({"samplers": ["x" * 1_000_000]})
    assert len(str(caught.value)) < 500
