from collections.abc import Callable
from typing import Any

import pytest

from corral_kernel.errors import InvalidOptionError
from corral_kernel.sampling import HistoryView
from corral_kernel.sampling.chain import greedy_chain
from corral_kernel.testing.chains import chain_of, samplers_of

Views = Callable[..., HistoryView]

OFF: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "temperature": 1.0}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        pytest.param({}, "TopK TopP Temperature", id="defaults"),
        pytest.param(OFF, "", id="all off"),
        pytest.param({"top_k": -3, "top_p": 2.0}, "Temperature", id="off by other values"),
        pytest.param({**OFF, "min_p": 0.1}, "MinP", id="min_p"),
        pytest.param({**OFF, "typical_p": 0.5}, "TypicalP", id="typical_p"),
        pytest.param({**OFF, "repeat_penalty": 1.1}, "Penalties", id="repeat"),
        pytest.param({**OFF, "presence_penalty": 0.1}, "Penalties", id="presence"),
        pytest.param({**OFF, "frequency_penalty": -0.1}, "Penalties", id="frequency"),
        pytest.param({**OFF, "repeat_penalty": 2.0, "repeat_last_n": 0}, "", id="over nothing"),
        pytest.param({"temperature": 0.0}, "", id="greedy"),
        pytest.param({"temperature": -1.0, "min_p": 0.5}, "", id="greedy by a negative number"),
        pytest.param(
            {"temperature": 0.0, "repeat_penalty": 1.1}, "Penalties", id="greedy with penalties"
        ),
        pytest.param(
            {"temperature": 0.0, "typical_p": 0.2}, "TopK TypicalP", id="greedy and typical"
        ),
        pytest.param(
            {"repeat_penalty": 1.1, "min_p": 0.1, "typical_p": 0.5},
            "Penalties TopK TypicalP TopP MinP Temperature",
            id="all in order",
        ),
    ],
)
def test_the_chain_has_what_is_on_in_the_usual_order(
    fields: dict[str, Any], names: str, view: Views
) -> None:
    chain = samplers_of(fields, view())
    if chain_of(fields).greedy:
        chain = greedy_chain(chain)

    assert " ".join(type(sampler).__name__ for sampler in chain) == names


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": float("nan")}, '"temperature" is nan'),
        ({"top_p": float("inf")}, '"top_p" is inf'),
        ({"presence_penalty": float("-inf")}, '"presence_penalty" is -inf'),
        ({"repeat_penalty": 0.0}, '"repeat_penalty" is 0; it must be over 0'),
        ({"repeat_penalty": -1.5}, '"repeat_penalty" is -1.5'),
    ],
)
def test_options_that_no_chain_can_be_made_of_are_refused(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidOptionError, match=words):
        chain_of(fields)
