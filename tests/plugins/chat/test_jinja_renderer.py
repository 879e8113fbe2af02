import threading
from pathlib import Path

import pytest

from corral_chat.jinja import MAX_TEMPLATE_CHARS
from corral_chat.renderers import JinjaRenderer
from corral_kernel.contracts import Conversation, Message, TextPart
from corral_kernel.errors import TemplateError
from corral_kernel.gguf import read_header

HERE = Path(__file__).parent
TINY_CHAT = HERE.parents[1] / "models" / "tiny-chat-f32.gguf"
NOW = 1_720_000_000.0  # in July 2024

SYSTEM = Message(role="system", content="  Be brief. ")
CALL = {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Tromsø", "days": 3}}}

CONVERSATIONS = {
    "user": (Message(role="user", content="Hi & <bye>"),),
    "turns": (
        SYSTEM,
        Message(role="user", content="Zwei\nZeilen "),
        Message(role="assistant", content="<think>hm</think>\n Gut.", thinking="not shown"),
        Message(role="user", content="„Und?“ 🦙"),
    ),
    "calls": (
        Message(role="user", content="Weather?"),
        Message(role="assistant", tool_calls=(CALL, CALL)),
        Message(role="tool", content='{"t": -3}', tool_name="weather", tool_call_id="c1"),
    ),
    "begun": (Message(role="user", content="Count"), Message(role="assistant", content="1, 2, ")),
}


def conversation(*messages: Message) -> Conversation:
    return Conversation(messages=messages, bos="<s>", eos="</s>", now=NOW)


def render(template: str, *messages: Message) -> str:
    (part,) = JinjaRenderer().render(template, conversation(*messages))
    assert isinstance(part, TextPart)
    assert part.special
    return part.text


USER = CONVERSATIONS["user"]


@pytest.mark.parametrize(
    ("template", "messages"),
    [
        ("chatml", "user"),
        ("chatml", "turns"),
        ("chatml", "begun"),
        ("headers", "user"),
        ("headers", "turns"),
        ("calls", "calls"),
        ("calls", "turns"),
        ("strict", "turns"),
    ],
)
def test_a_conversation_is_rendered_as_the_golden_file_has_it(template: str, messages: str) -> None:
    source = (HERE / "templates" / f"{template}.jinja").read_text()
    golden = (HERE / "golden" / f"{template}-{messages}.txt").read_text()
    assert render(source, *CONVERSATIONS[messages]) == golden


def test_the_template_of_a_gguf_file_is_rendered() -> None:
    template = read_header(TINY_CHAT).chat_template
    assert template
    assert render(template, Message(role="user", content="who are you?")) == (
        "<|im_start|>user\nwho are you?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_begun_answer_with_calls_is_no_answer_to_go_on_with() -> None:
    source = "{{ messages | length }}"
    assert render(source, *USER, Message(role="assistant", content="x")) == "1x"
    assert render(source, *USER, Message(role="assistant", tool_calls=(CALL,))) == "2"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ tools }} {{ documents }} {{ add_generation_prompt }}", "None None True"),
        ("{{ bos_token }}{{ eos_token }}{{ unknown }}", "<s></s>"),
        ("{% if tools is none and system is not defined %}yes{% endif %}", "yes"),
        ("{{ ['ü', '<>&', 1.0, none]|tojson }}", '["ü", "<>&", 1.0, null]'),
        ("{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{{ {'a': [1]}|tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ [1, 'a', true, {'k': none}] }}", "[1, 'a', True, {'k': None}]"),
        ("{{ 'a' ~ 1 ~ none ~ [2] }}", "a1None[2]"),
        ("{{ ['b', 'a']|sort|join(', ') }} {{ ['a', 'a']|unique|list }}", "a, b ['a']"),
        ("{{ messages|map(attribute='role')|join('/') }}", "user"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}", "1"),
        ("{{ messages|rejectattr('role', 'in', ['user'])|first is defined }}", "False"),
        ("{{ 'a,b,c'.split(',', 1) }} {{ ' x '.strip() }}", "['a', 'b,c'] x"),
        ("{{ '%s=%03d' % ('a', 7) }} {{ '{:>4}|{x}'.format(1, x=2) }}", "a=007    1|2"),
        ("{{ 'aXbX'.replace('X', 'y', 1) }}{{ 'aa'|replace('a', 'b', 1) }}", "aybXba"),
        (
            "{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 5 }}{{ 'ab' * 2 }}{{ 1 - 3 }}{{ 1 / 2 }}",
            "3332abab-20.5",
        ),
        ("{{ [1, 2, 3][1:] }}{{ 'abc'[::-1] }}{{ [1] + [2] }}", "[2, 3]cba[1, 2]"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% else %}none{% endfor %}", "a1"),
        ("{% for x in [] %}{% else %}none{% endfor %}", "none"),
        (
            "{% for x in [1, [2]] recursive %}{{ x if x is number else loop(x) }}{% endfor %}",
            "12",
        ),
        (
            "{% for i in range(9) if i is odd %}{{ i }}{{ ',' if not loop.last }}{% endfor %}",
            "1,3,5,7",
        ),
        (
            "{% macro m(x, y=2) %}{{ x ~ y ~ caller() }}{% endmacro %}{% call m(1) %}{% endcall %}",
            "12",
        ),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x|upper }}{% filter lower %}B{% endfilter %}", "A1b"),
        ("{{ 'a\nb'|indent(2) }}|{{ 2.567|round(1) }}|{{ '3'|int + 1 }}", "a\n  b|2.6|4"),
        (
            "{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ ns }}",
            "2<Namespace>",
        ),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
    ],
)
def test_the_dialect_of_chat_templates_is_spoken(source: str, text: str) -> None:
    assert render(source, *USER) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{% if x %}", "line 2 of the chat template: Unexpected end of template"),
        (
            "a\n\n{{ messages[0].nothing.at_all }}",
            "line 3 of the chat template: 'dict object' has no",
        ),
        (
            "\n{{ raise_exception('only two turns') }}",
            "line 2 of the chat template: only two turns$",
        ),
        ("{% macro m() %}\n\n{{ 1 // 0 }}{% endmacro %}\n{{ m() }}", "line 3 of .*division"),
        ("{{ 'x'|nothing }}", "line 1 .*No filter named 'nothing'"),
        ("{{ namespace() | tojson }}", "line 1 .*Namespace is not JSON serializable"),
        ("x" * (MAX_TEMPLATE_CHARS + 1), "it has 65,537 characters: at most 65,536 are read"),
        ("{{ a.b }}" * 6000, "over 10,000 syntax nodes"),
        ("{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}", "nested too deeply"),
        ("{% for i in [1] %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
        ("{% include 'a' %}", "no loader"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_wrong_with_a_template_is_told_with_its_line(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        render(source, *USER)


def test_a_template_that_refuses_system_messages_gets_them_in_the_users_first() -> None:
    strict = (HERE / "templates" / "strict.jinja").read_text()
    rendered = render(strict, SYSTEM, Message(role="user", content="Hi"))
    assert rendered == "<s><turn>user\nBe brief. \nHi</turn>\n<turn>model"


def test_a_template_that_refuses_for_other_reasons_still_does() -> None:
    strict = (HERE / "templates" / "strict.jinja").read_text()
    with pytest.raises(TemplateError, match="Roles must alternate"):
        render(strict, SYSTEM, *USER, *USER)


@pytest.mark.parametrize("source", ["{% if %}", "x" * 70_000, "{{ a.b }}" * 6000, "{{" * 9000])
def test_what_does_not_parse_is_an_error(source: str) -> None:
    with pytest.raises(TemplateError):
        JinjaRenderer().render(source, Conversation(messages=()))


def test_threads_render_side_by_side() -> None:
    source = "{% for i in range(300) %}{{ messages[0].content }}{% endfor %}"
    found: dict[int, str] = {}

    def run(number: int) -> None:
        found[number] = render(source, Message(role="user", content=str(number)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number) * 300 for number in range(4)}


def test_a_long_conversation_is_within_the_bounds() -> None:
    source = (HERE / "templates" / "headers.jinja").read_text()
    turn = Message(role="user", content="word " * 400)
    rendered = render(source, *[turn] * 1000)
    assert len(rendered) > 1_990_000
