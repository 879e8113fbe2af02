"""Strangers' parsers: one that fails or hangs ends its own request; each sees what it wants."""

import asyncio
from typing import Any

import pytest

from corral_kernel.errors import RemoteJobError

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def troubled(plugin_kernel: Any) -> Any:
    """The kernel, with a model whose parser is troubled."""
    plugin_kernel.create("troubled", base="endless-tiny", parser="troubled")
    return plugin_kernel


@pytest.mark.parametrize("where", ["start", "plan", "feed", "finish"])
async def test_a_parser_that_raises_ends_its_request(troubled: Any, where: str) -> None:
    with pytest.raises(RemoteJobError) as caught:
        await troubled.chat("troubled", "hi", think=where)
    assert caught.value.remote_code == "parser_failed"
    assert str(caught.value) == "parser 'troubled' failed: ValueError: no luck"


async def test_what_the_model_wrote_may_be_an_error(troubled: Any) -> None:
    with pytest.raises(RemoteJobError, match="empty function name") as caught:
        await troubled.chat("troubled", "hi", think="output")
    assert caught.value.remote_code == "output"


async def test_a_parser_over_its_time_is_interrupted_and_others_go_on(troubled: Any) -> None:
    late, answer = await asyncio.gather(
        troubled.chat("troubled", "hi", think="loops"),
        troubled.chat("troubled", "hi", think=True),
        return_exceptions=True,
    )
    assert str(late) == "parser 'troubled' failed: it took over 0.4 s (CORRAL_SAMPLER_TIMEOUT)"
    assert answer.text


async def test_control_tokens_are_shown_to_a_parser_that_wants_them(troubled: Any) -> None:
    assert (await troubled.chat("troubled", "hi", think="keeps")).text == "a<|im_start|>b"
    assert (await troubled.chat("troubled", "hi", think="drops")).text == "ab"
