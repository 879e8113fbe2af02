"""Go templates render as Go renders them, which made the golden files: `golden/make_go.py`."""

import json
import runpy
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_chat.renderers import GoRenderer
from corral_kernel.contracts import Conversation, Message, TextPart
from corral_kernel.errors import TemplateError

CASES = runpy.run_path(str(Path(__file__).with_name("gocases.py")))
CONVERSATIONS, EXPRESSIONS = CASES["CONVERSATIONS"], CASES["EXPRESSIONS"]
TEMPLATES: dict[str, str] = CASES["TEMPLATES"]
GOLDEN = Path(__file__).parent / "golden"
NOW = 1_720_000_000.0  # in July 2024


def golden(name: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((GOLDEN / name).read_text("utf-8"))
    return found


def told(template: str, conversation: dict[str, Any]) -> dict[str, str]:
    given = msgspec.convert({**conversation, "now": NOW}, Conversation)
    try:
        (part,) = GoRenderer().render(template, given)
    except TemplateError as error:
        return {"text": "", "error": str(error)}
    assert isinstance(part, TextPart)
    assert part.special
    return {"text": part.text}


def rendered(template: str, *messages: Message, **more: Any) -> str:
    conversation = Conversation(messages=messages, now=NOW, **more)
    (part,) = GoRenderer().render(template, conversation)
    assert isinstance(part, TextPart)
    return part.text


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_conversation_is_rendered_as_by_go(template: str) -> None:
    found = golden("go-conversations.json")
    for name, conversation in CONVERSATIONS.items():
        expected = found.pop(f"{template} {name}")
        assert told(TEMPLATES[template], conversation) == expected, name
    assert not [key for key in found if key.startswith(f"{template} ")]


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_an_expression_gives_what_go_gives_or_its_error(source: str) -> None:
    expected = golden("go-expressions.json")[source]
    assert told(source, CONVERSATIONS["turns"]) == expected


def test_the_golden_files_have_errors_of_both_kinds_and_texts() -> None:
    found = golden("go-expressions.json").values()
    errors = [one["error"] for one in found if "error" in one]
    assert sum("executing" in error for error in errors) > 40
    assert sum("executing" not in error for error in errors) > 80
    assert sum("error" not in one for one in found) > 70


def messages(*pairs: str) -> tuple[Message, ...]:
    return tuple(Message(role=role, content=text) for role, text in (p.split(":") for p in pairs))


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        (["user:Hi"], "Hi"),
        (["system:S", "user:Hi"], "Hi"),
        (["user:A", "assistant:B", "user:C"], "ABC"),
        (["user:A", "assistant:B"], "AB"),
        (["user:A", "user:B"], "A\n\nB"),
        (["user:A", "assistant:B", "assistant:C", "user:D"], "AB\n\nCD"),
        (["user:A", "system:S", "user:B"], "AB"),
        (["user:A", "tool:T", "user:B"], "B"),
        (["system:S"], ""),
        ([], ""),
    ],
    ids=lambda value: "+".join(turn[0] for turn in value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("template", ["", "{{ .Prompt }}"], ids=["none", "plain"])
def test_a_model_without_a_template_is_asked_turn_by_turn(
    template: str, turns: list[str], text: str
) -> None:
    assert rendered(template, *messages(*turns)) == text


def test_functions_of_models_are_there_in_the_last_turn_too() -> None:
    """In Ollama they are not, and such a template fails; nobody can want that."""
    assert rendered("{{ json .Prompt }}", *messages("user:a")) == '"a"'


def test_a_branch_behind_the_response_is_gone_in_the_last_turn() -> None:
    """Ollama crashes at an `else` of the branch that holds the response."""
    source = "{{ if .Prompt }}{{ .Prompt }}>{{ .Response }}.{{ else }}no{{ end }}!"
    assert rendered(source, *messages("user:a", "assistant:b", "user:c")) == "a>b.!c>"


def test_a_byte_that_is_cut_from_its_character_is_replaced_and_joined_again() -> None:
    assert rendered('{{ slice "ä" 0 1 }}') == "\ufffd"
    assert rendered('{{ $a := slice "ä" 0 1 }}{{ $b := slice "ä" 1 }}{{ print $a $b }}') == "ä"
    assert rendered('{{ slice "ä" 0 1 }}{{ slice "ä" 1 }}') == "ä"


def test_the_date_is_that_of_the_request() -> None:
    assert rendered("{{ currentDate }} {{ yesterdayDate }}") == "2024-07-03 2024-07-02"


def test_complex_numbers_are_refused_by_name() -> None:
    with pytest.raises(TemplateError, match=r'template: :1: complex numbers .*: "1i"'):
        rendered("{{ 1i }}")


@pytest.mark.parametrize(
    ("template", "capabilities", "round_trip"),
    [
        ("plain-legacy", set(), False),
        ("chatml-messages", set(), False),
        ("headers-last", {"tools"}, True),
        ("tags-tools", {"tools", "thinking"}, True),
        ("brackets-tools", {"tools"}, True),
        ("insert", {"insert"}, False),
        ("dumps", {"tools"}, False),
    ],
)
def test_a_template_is_described_by_the_fields_that_it_uses(
    template: str, capabilities: set[str], *, round_trip: bool
) -> None:
    traits = GoRenderer().describe(TEMPLATES[template])
    assert (traits.capabilities, traits.tool_round_trip) == (capabilities, round_trip)


def test_threads_render_side_by_side() -> None:
    found: dict[int, str] = {}

    def run(number: int) -> None:
        source = "{{ range 300 }}{{ range $.Messages }}{{ .Content }}{{ end }}{{ end }}"
        found[number] = rendered(source, Message(role="user", content=str(number)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number) * 300 for number in range(4)}


def test_a_long_conversation_is_within_the_bounds() -> None:
    turn = [Message(role=role, content="word " * 400) for role in ("user", "assistant")]
    text = rendered(TEMPLATES["chatml-messages"], *turn * 500)
    assert len(text) > 1_990_000
