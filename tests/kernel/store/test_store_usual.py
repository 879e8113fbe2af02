"""Renderer, parser and stop words of models whose architecture is known to want them."""

import struct
from typing import Any

import pytest

from corral_kernel.models import Model
from corral_kernel.names import ModelName
from corral_kernel.prompts import RENDERERS
from corral_kernel.store import Store


def weights(architecture: str) -> bytes:
    key, value = b"general.architecture", architecture.encode()
    raw = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key
    return raw + struct.pack("<IQ", 8, len(value)) + value


@pytest.fixture
def made(store: Store, upload: Any, create: Any) -> Any:
    """Create a model of weights of an architecture, or of another model; give it."""

    def made(model: str, architecture: str = "", **fields: Any) -> Model:
        if architecture:
            fields["files"] = {"m.gguf": upload(weights(architecture))}
        create(model, **fields)
        return store.open(ModelName.parse(model))

    return made


@pytest.mark.parametrize(
    ("architecture", "name", "parameters"),
    [
        ("gemma4", "gemma4", {"stop": ["<turn|>"]}),
        ("laguna", "laguna", {}),
        ("nemotron_h", "nemotron-3-nano", {}),
        ("nemotron_h_moe", "nemotron-3-nano", {}),
        ("nemotron_h_omni", "nemotron-3-nano", {}),
        ("llama", "", {}),
    ],
)
def test_an_architecture_has_its_usual_renderer_parser_and_stop_words(
    made: Any, architecture: str, name: str, parameters: dict[str, Any]
) -> None:
    model = made("m", architecture)
    assert (model.config.renderer, model.config.parser) == (name, name)
    assert model.parameters == parameters
    assert not name or name in RENDERERS


def test_what_is_given_goes_before_what_is_usual(made: Any) -> None:
    model = made(
        "m", "gemma4", renderer="gemma4-large", parameters={"stop": ["END"], "temperature": 1}
    )
    assert (model.config.renderer, model.config.parser) == ("gemma4-large", "gemma4")
    assert model.parameters == {"stop": ["END"], "temperature": 1}
    heir = made("heir", base="m", parser="passthrough")
    assert (heir.config.renderer, heir.config.parser) == ("gemma4-large", "passthrough")
    assert heir.parameters == model.parameters


def test_a_template_of_its_own_stays_in_charge(made: Any) -> None:
    model = made("m", "gemma4", template="{{ .Prompt }}")
    assert (model.config.renderer, model.config.parser, model.parameters) == ("", "", {})
    heir = made("heir", base="m", system="Be brief.")
    assert (heir.template, heir.config.renderer) == ("{{ .Prompt }}", "")
