"""Which converter or quantizer works: by offers, and by what is installed."""

from typing import Any

import pytest

from corral_kernel.contracts import (
    Converter,
    Maker,
    Offer,
    QuantizationType,
    Quantizer,
    Source,
    SourceFile,
)
from corral_kernel.errors import CorralError, TaskError, UnsupportedError
from corral_kernel.makers import NO_MAKERS, Makers
from corral_kernel.plugins import Plugin, Plugins

FILES = (SourceFile(name="model.safetensors", size_bytes=1),)
LLAMA = Source(
    kind="model",
    format="safetensors",
    files=FILES,
    documents={"config.json": {"architectures": ["LlamaForCausalLM"]}},
)


class Offering(Converter, Quantizer):
    """Answers as it is told."""

    docs = "for tests"
    types = (QuantizationType(name="Q4_0", bits=4), QuantizationType(name="INT4", bits=4))

    def __init__(self, name: str, answer: Any, **more: str) -> None:
        self.name = name
        self._answer = answer
        for key, value in more.items():
            setattr(self, key, value)

    def offer(self, source: Source, type_name: str = "") -> Offer | None:
        del source, type_name
        if isinstance(self._answer, BaseException):
            raise self._answer
        if isinstance(self._answer, float):
            return Offer(confidence=self._answer, why="")
        answer: Offer | None = self._answer
        return answer


def makers(*offering: Maker) -> tuple[Makers, Plugin]:
    """What serves, and the plugin that gives it all."""
    plugin = Plugin("giver", "giver-dist", "1")
    plugins = Plugins(only=())
    given = {maker.name: (plugin, maker) for maker in offering}
    plugins.__dict__["converters"] = given
    plugins.__dict__["quantizers"] = given
    return Makers(plugins), plugin


def test_the_most_confident_works_and_of_equal_ones_the_first_by_name() -> None:
    found, _ = makers(Offering("b", 0.5), Offering("c", 0.9), Offering("a", 0.9))
    chosen = found.converter(LLAMA)
    assert (chosen.maker, chosen.plugin, chosen.offer.confidence) == ("a", "giver", 0.9)
    assert found.quantizer(LLAMA, "Q4_0") == chosen


def test_a_refusal_is_the_answer_unless_somebody_else_offers() -> None:
    no = Offering("no", UnsupportedError("only odd layers"))
    with pytest.raises(TaskError, match=r"^only odd layers$"):
        makers(no)[0].converter(LLAMA)
    with pytest.raises(UnsupportedError, match=r"^only odd layers$"):
        makers(no)[0].quantizer(LLAMA, "Q4_0")
    assert makers(no, Offering("yes", 0.1))[0].converter(LLAMA).maker == "yes"


def test_one_whose_library_is_missing_does_not_work_and_is_told_of() -> None:
    lacking = Offering("lacking", 0.9, library="no_such_library", extra="corral[thing]")
    assert makers(lacking, Offering("here", 0.1))[0].converter(LLAMA).maker == "here"
    found, _ = makers(lacking)
    words = "lacking, which needs no_such_library: pip install 'corral\\[thing\\]'"
    with pytest.raises(TaskError, match=words):
        found.converter(LLAMA)
    with pytest.raises(UnsupportedError, match=words):
        found.quantizer(LLAMA, "INT4")
    assert {entry.install for entry in found.types()} == {"corral[thing]"}


WRONG: dict[str, Any] = {
    "an error": ValueError("bug"),
    "an exit": SystemExit("bye"),
    "something else": "an offer",
    "too confident": Offer(confidence=2.0, why=""),
    "of another type": Offer(confidence=0.5, why="", size_bytes="many"),  # type: ignore[arg-type] # on purpose
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_a_wrong_offer_counts_as_none_and_is_reported(answer: Any) -> None:
    found, plugin = makers(Offering("wrong", answer), Offering("right", 0.1))
    assert found.converter(LLAMA).maker == "right"
    assert plugin.error.startswith("offer of wrong raised ")


def test_without_an_offer_the_architecture_is_told_in_the_contract_s_words() -> None:
    found, _ = makers(Offering("none", None))
    for documents, words in (
        (LLAMA.documents, 'unsupported architecture "LlamaForCausalLM"'),
        ({}, "unknown architecture"),
        ({"config.json": {"architectures": [5]}}, "unknown architecture"),
        ({"config.json": ["x"]}, "unknown architecture"),
    ):
        source = Source(kind="model", format="safetensors", files=FILES, documents=documents)
        with pytest.raises(TaskError) as caught:
            found.converter(source)
        assert str(caught.value) == words


def test_a_type_that_nobody_makes_of_a_format_is_told_with_those_that_are() -> None:
    class Picky(Offering):
        def offer(self, source: Source, type_name: str = "") -> Offer | None:
            del source
            return Offer(confidence=0.5, why="") if type_name == "INT4" else None

    found, _ = makers(Picky("picky", None))
    with pytest.raises(UnsupportedError) as caught:
        found.quantizer(LLAMA, "Q4_0")
    assert str(caught.value) == (
        "a model of format safetensors cannot be made into Q4_0; possible are: INT4"
    )


def test_a_server_without_plugins_says_what_to_install() -> None:
    with pytest.raises(TaskError, match=r"none here: pip install 'corral\[llamacpp\]'"):
        NO_MAKERS.check_type("Q4_0")
    with pytest.raises(TaskError, match="unsupported architecture"):
        NO_MAKERS.converter(LLAMA)
    assert NO_MAKERS.types() == []


@pytest.mark.parametrize("name", ["q4_0", ""])
def test_a_quantizer_whose_types_are_not_in_capitals_is_left_out(name: str) -> None:
    from corral_kernel.given import name_of

    quantizer = Offering("bad", None)
    quantizer.types = (QuantizationType(name=name, bits=4),)  # type: ignore[assignment] # of another length
    with pytest.raises(CorralError, match="use capitals"):
        name_of(quantizer)
