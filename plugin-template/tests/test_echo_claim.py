"""What the plugin says before anything is loaded."""

from typing import Any

import pytest
from corral_kernel.fields import build
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.options import OptionTable

import corral_echo
from corral_echo.options import EchoOptions


def model(config: ModelConfig | None = None, **parameters: Any) -> Model:
    return Model(
        name=ModelName.parse("some"),
        digest="0" * 64,
        size_bytes=0,
        modified_ns=0,
        config=config or ModelConfig(),
        files=(),
        parameters=parameters,
    )


def test_it_bids_high_only_for_models_that_ask_for_it() -> None:
    asked, any_other = (
        corral_echo.corral_claim(model(backend="echo")),
        corral_echo.corral_claim(model()),
    )
    assert asked is not None
    assert any_other is not None
    assert asked.confidence == 1.0
    assert any_other.confidence < 0.1


def test_it_makes_no_bid_for_a_model_on_another_host() -> None:
    config = ModelConfig(remote_host="https://example.org", remote_model="big")
    assert corral_echo.corral_claim(model(config)) is None


@pytest.mark.parametrize(("value", "base_bytes"), [(1000, 1000), ("much", 0), (None, 0), (-5, 0)])
def test_the_memory_that_it_claims_is_a_parameter(value: object, base_bytes: int) -> None:
    claim = corral_echo.corral_claim(model(echo_memory_bytes=value))
    assert claim is not None
    assert claim.memory.base_bytes == base_bytes


def test_its_options_are_coerced_as_the_api_gives_them() -> None:
    (backend,) = corral_echo.corral_backends()
    given = {"echo_step_ms": 5.0, "num_ctx": 64, "echo_nothing": 1}
    found = OptionTable(EchoOptions, {}).sort(given)
    assert found.unknown == ["echo_nothing"]
    assert build(backend.options, found.load) == EchoOptions(echo_step_ms=5, num_ctx=64)
