"""Tools and specs for tests of parsers."""

from typing import Any

import pytest

from corral_kernel.contracts import AnswerSpec


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": sorted(properties)[:1]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.fixture
def spec() -> AnswerSpec:
    """A request with two tools, and a model that may think."""
    return AnswerSpec(
        renderer="jinja",
        think=True,
        calls=True,
        tools=(
            tool("get_weather", city={"type": "string"}, days={"type": "integer"}),
            tool("search", q={"type": "string"}),
        ),
    )
