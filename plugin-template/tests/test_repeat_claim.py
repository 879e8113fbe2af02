"""What the plugin says before anything is loaded."""

from typing import Any

from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName

import corral_repeat


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
    asked = corral_repeat.corral_claim(model(backend="repeat"))
    other = corral_repeat.corral_claim(model())
    assert asked is not None
    assert other is not None
    assert asked.confidence == 1.0
    assert other.confidence < 0.1


def test_it_makes_no_bid_for_a_model_on_another_host() -> None:
    remote = ModelConfig(remote_host="https://example.org", remote_model="big")
    assert corral_repeat.corral_claim(model(remote)) is None


def test_its_options_are_its_own() -> None:
    (backend,) = corral_repeat.corral_backends()
    assert backend.name == "repeat"
    assert "repeat_times" in backend.options.__struct_fields__
