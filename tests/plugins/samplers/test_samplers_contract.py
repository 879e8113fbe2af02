"""The contract's own suite over each sampler, and what their fields may be."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import InvalidOptionError
from corral_kernel.fields import fields_of
from corral_kernel.testing.chains import chain_of
from corral_kernel.testing.samplers import SamplerSuite
from corral_samplers import corral_samplers
from corral_samplers.biasing import LogitBiasType
from corral_samplers.kinds import DryType, DynatempType, TopNSigmaType, XtcType
from corral_samplers.steering import AdaptivePType, MirostatType


class TestLogitBias(SamplerSuite):
    kind = LogitBiasType()
    cases = (
        {"logit_bias": {"3": 2.5, "70": False, "the": -1}},
        {"logit_bias": [[5, 100], ["cat", False], [5, -3]]},
    )


class TestDry(SamplerSuite):
    kind = DryType()
    cases = (
        {"dry_multiplier": 0.8},
        {"dry_multiplier": 2, "dry_allowed_length": 0, "dry_sequence_breakers": ["the", " d"]},
        {"dry_multiplier": 1, "dry_penalty_last_n": 5, "dry_sequence_breakers": []},
    )


class TestTopNSigma(SamplerSuite):
    kind = TopNSigmaType()


class TestXtc(SamplerSuite):
    kind = XtcType()
    cases = ({"xtc_probability": 1}, {"xtc_probability": 0.5, "xtc_threshold": 0, "min_keep": 3})


class TestDynatemp(SamplerSuite):
    kind = DynatempType()
    cases = ({"dynatemp_range": 0.5}, {"dynatemp_range": 3, "dynatemp_exponent": 0.3})


class TestMirostat(SamplerSuite):
    kind = MirostatType()
    cases = ({"mirostat": 1, "mirostat_tau": 3}, {"mirostat": 2, "mirostat_eta": 0.9})


class TestAdaptiveP(SamplerSuite):
    kind = AdaptivePType()
    cases = ({"adaptive_target": 0.4}, {"adaptive_target": 0, "adaptive_decay": 0.5})


# ------------------------------------------------------------------------------------- the chain

TYPES = tuple(corral_samplers())
PLAIN: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
FILTERS = "top_k typical_p top_p min_p"


def names(options: dict[str, Any]) -> str:
    return " ".join(spec.name for spec in chain_of(options, TYPES).samplers)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "top_k top_p temperature"),
        ({**PLAIN, "logit_bias": {}}, ""),
        ({**PLAIN, "logit_bias": []}, ""),
        ({**PLAIN, "logit_bias": {"5": 0}}, "logit_bias"),
        ({**PLAIN, "dry_multiplier": 0.8}, "dry"),
        ({**PLAIN, "dry_multiplier": 0.8, "dry_penalty_last_n": 0}, ""),
        ({**PLAIN, "top_n_sigma": 1.0}, "top_n_sigma"),
        ({**PLAIN, "top_n_sigma": 0}, ""),
        ({**PLAIN, "xtc_probability": 0.5}, "xtc"),
        ({**PLAIN, "xtc_probability": 0.5, "xtc_threshold": 0.6}, ""),
        ({**PLAIN, "dynatemp_range": 0.5}, "dynatemp"),
        ({"dynatemp_range": 0.5}, "top_k top_p dynatemp"),
        ({"dynatemp_range": 0.5, "temperature": 0}, "top_k top_p"),
        ({**PLAIN, "mirostat": 1}, "mirostat"),
        ({**PLAIN, "mirostat": 0}, ""),
        ({**PLAIN, "adaptive_target": 0.0}, "adaptive_p"),
        ({**PLAIN, "adaptive_target": -1}, ""),
        (
            {
                "logit_bias": {"5": 1},
                "repeat_penalty": 1.1,
                "dry_multiplier": 1,
                "top_n_sigma": 1,
                "typical_p": 0.9,
                "min_p": 0.1,
                "xtc_probability": 0.5,
                "dynatemp_range": 0.5,
                "adaptive_target": 0.5,
            },
            f"logit_bias penalties dry top_n_sigma {FILTERS} xtc dynatemp adaptive_p",
        ),
        (
            {
                "mirostat": 2,
                "logit_bias": {"5": 1},
                "repeat_penalty": 1.1,
                "dry_multiplier": 1,
                "top_n_sigma": 1,
                "typical_p": 0.9,
                "min_p": 0.1,
                "xtc_probability": 0.5,
                "adaptive_target": 0.5,
            },
            "logit_bias penalties dry temperature mirostat",
        ),
        ({"samplers": ["xtc", "mirostat"], "mirostat": 1, "xtc_probability": 1}, "xtc mirostat"),
        ({"samplers": [{"name": "dry", "dry_multiplier": 1}, "top_k"]}, "dry top_k"),
        ({"samplers": [{"name": "logit_bias", "logit_bias": {"5": 1}}]}, "logit_bias"),
        ({"mirostat": {"mirostat": 2, "mirostat_tau": 3}}, "temperature mirostat"),
        ({**PLAIN, "logit_bias": {"logit_bias": {"5": 1}}}, "logit_bias"),
    ],
    ids=str,
)
def test_a_chain_has_what_its_fields_switch_on_in_llama_cpp_s_order(
    options: dict[str, Any], wanted: str
) -> None:
    assert names(options) == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mirostat": 3}, '"mirostat" must be one of 0, 1, 2'),
        ({"mirostat": -1}, '"mirostat" must be one of 0, 1, 2'),
        ({"mirostat_tau": -0.5}, '"mirostat_tau" is -0.5; it must be at least 0'),
        ({"mirostat_eta": -0.5}, '"mirostat_eta" is -0.5; it must be at least 0'),
        ({"dry_multiplier": -1}, '"dry_multiplier" is -1; it must be at least 0'),
        ({"dry_base": 0.5}, '"dry_base" is 0.5; it must be at least 1'),
        ({"dry_allowed_length": -1}, '"dry_allowed_length" is -1; it must be at least 0'),
        ({"dry_penalty_last_n": -2}, '"dry_penalty_last_n" is -2; it must be at least -1'),
        ({"dry_sequence_breakers": "x"}, '"dry_sequence_breakers" must be of type array'),
        ({"dry_sequence_breakers": [1]}, '"dry_sequence_breakers" must be of an array of strings'),
        ({"dry_sequence_breakers": [""]}, "expected str of length >= 1"),
        ({"dry_sequence_breakers": ["x" * 41]}, "expected str of length <= 40"),
        ({"dry_sequence_breakers": ["x"] * 65}, "expected array of length <= 64"),
        ({"xtc_probability": 1.5}, '"xtc_probability" is 1.5'),
        ({"xtc_threshold": -0.5}, '"xtc_threshold" is -0.5'),
        ({"dynatemp_range": -1}, '"dynatemp_range" is -1; it must be at least 0'),
        ({"dynatemp_exponent": -1}, '"dynatemp_exponent" is -1; it must be at least 0'),
        ({"adaptive_target": 1.5}, '"adaptive_target" is 1.5; it must be at most 1'),
        ({"adaptive_decay": 1.5}, '"adaptive_decay" is 1.5; it must be at least 0 and at most 1'),
        ({"top_n_sigma": float("nan")}, '"top_n_sigma" is nan; it must be a finite number'),
        ({"top_n_sigma": "1"}, '"top_n_sigma" must be of type float32'),
        ({"dry": {"multiplier": 1}}, 'has no field "multiplier"; it has: dry_multiplier'),
        ({"logit_bias": 5}, '"logit_bias": expected object | array, got int'),
        ({"logit_bias": {"5": "x"}}, '"logit_bias[...]": expected bool | float, got str'),
        ({"logit_bias": {"5": None}}, '"logit_bias[...]": expected bool | float, got null'),
        ({"logit_bias": {"5": True}}, "has true for 5: a number is wanted, or false for never"),
        ({"logit_bias": {"5": float("inf")}}, "has inf for 5: a number is wanted"),
        ({"logit_bias": {"5": float("nan")}}, "has nan for 5: a number is wanted"),
        ({"logit_bias": {"5": 10**400}}, "number out of range"),
        ({"logit_bias": {"-5": 1}}, "names token -5, which no model has"),
        ({"logit_bias": {"9" * 30: 1}}, "names token 1e+30, which no model has"),
        ({"logit_bias": {"9" * 300: 1}}, "has a text of 300 characters: 1 to 256 are allowed"),
        ({"logit_bias": {"": 1}}, "has a text of 0 characters: 1 to 256 are allowed"),
        ({"logit_bias": [["x" * 257, 1]]}, "has a text of 257 characters"),
        ({"logit_bias": [[1, 2, 3]]}, '"logit_bias[0]": expected array of length 2, got 3'),
        ({"logit_bias": [[1.5, 3]]}, '"logit_bias[0][0]": expected int | str, got float'),
        ({"logit_bias": [[2**31, 3]]}, "names token 2147483648, which no model has"),
        ({"logit_bias": [[1, 1]] * 16_385}, "has 16385 entries; at most 16384"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        chain_of(options, TYPES)
    assert words in str(caught.value)


def test_each_field_is_described() -> None:
    for kind in TYPES:
        assert kind.docs
        for field in fields_of(kind.options).values():
            assert field.description, field.name


# ------------------------------------------------------------------------------------ logit_bias


def test_texts_are_tokenized_and_biases_of_one_token_add_up(lab: Any) -> None:
    row = lab.row(256, 1)
    bias = lab.one({"logit_bias": [["ab", -2], [ord("b"), 0.5], ["99", -1], ["\n", False]]})
    wanted = row.copy()
    for token, number in (("a", -2), ("b", -1.5), ("9", -2), ("\n", float("-inf"))):
        wanted[ord(token)] += number
    assert lab.apply(bias, row).logits.tolist() == wanted.tolist()


def test_in_an_object_digits_are_an_id_and_other_keys_a_text(lab: Any) -> None:
    row = lab.row(256, 1)
    bias = lab.one({"logit_bias": {"97": 2, "b": 3}})
    wanted = row.copy()
    wanted[97] += 2
    wanted[98] += 3
    assert lab.apply(bias, row).logits.tolist() == wanted.tolist()


def test_an_id_that_the_model_does_not_have_is_refused(lab: Any) -> None:
    with pytest.raises(
        InvalidOptionError, match="names token 256: this model has those from 0 to 255"
    ):
        lab.one({"logit_bias": {"256": 1}})


def test_what_is_never_wins_over_any_bias_and_no_bias_makes_certain(lab: Any) -> None:
    row = lab.row(256, 1)
    row[3] = -float("inf")
    logits = lab.apply(
        lab.one({"logit_bias": [[1, False], [1, 3e38], [2, 3e38], [2, 3e38], [3, 3e38]]}), row
    ).logits
    assert logits[1] == logits[3] == -float("inf")
    assert logits[2] == pytest.approx(3.4028235e38)


def test_a_bias_finds_its_token_in_a_shortlist(lab: Any) -> None:
    row = lab.row(256, 1)
    best, second = (int(i) for i in (-row).argsort()[:2])
    bias = lab.one({"logit_bias": {str(second): 50, "0": 3, "255": 3}})
    found = lab.apply([lab.one({"top_k": 4}), bias], row)
    assert found.logits[second] == row[second] + 50
    assert found.logits[best] == row[best]
    assert found.count == 4


# -------------------------------------------------------------------------------- what is written


PAGE = (Path(__file__).parents[3] / "docs" / "plugins" / "samplers.md").read_text()


def test_the_page_has_each_field_with_its_default_and_place() -> None:
    wanted = [
        (
            f"`{kind.name}`" if first else "",
            f"{kind.default_place:g}" if first else "",
            f"`{field.name}`",
            shown(field.default),
            field.description,
        )
        for kind in TYPES
        for first, field in zip(
            (True, *[False] * 9), fields_of(kind.options).values(), strict=False
        )
    ]
    rows = [
        tuple(map(str.strip, line[1:-1].split("|"))) for line in PAGE.splitlines() if "|" in line
    ]
    assert [row for row in rows if len(row) == 5][2:] == wanted


def shown(default: Any) -> str:
    return f"`{json.dumps(default)}`" if isinstance(default, dict | tuple) else str(default)


def test_the_page_s_requests_have_chains() -> None:
    bodies = re.findall(r"-d '(.*?)'\n```", PAGE, re.DOTALL)
    found = [names(json.loads(body)["options"]) for body in bodies]
    assert found == [
        "dry top_k min_p xtc temperature",
        "logit_bias top_k top_p temperature",
        "dry min_p xtc temperature",
    ]
