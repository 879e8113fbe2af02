"""Go templates that would take memory or time, or are no templates; each ends soon, as an error."""

import ctypes
import runpy
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corral_chat import bounds
from corral_chat.renderers import GoRenderer
from corral_kernel.contracts import Conversation, Message
from corral_kernel.errors import TemplateBoundsError, TemplateError

TEMPLATES = runpy.run_path(str(Path(__file__).with_name("gocases.py")))["TEMPLATES"]
CONVERSATION = Conversation(messages=(Message(role="user", content="hi"),))


def doubling(step: str, start: str = '"aaaaaaaa"') -> str:
    return f"{{{{ $a := {start} }}}}{{{{ range 60 }}}}{{{{ $a = {step} }}}}{{{{ end }}}}"


LARGE = {
    "printf": (doubling('printf "%s%s" $a $a'), "16,777,216 fit"),
    "print": (doubling("print $a $a"), "16,777,216 fit"),
    "println": (doubling("println $a $a"), "16,777,216 fit"),
    "quoted": (doubling('printf "%q" $a', '"\\"\\""'), "16,777,216 fit"),
    "json": (doubling("json $a", '"\\""'), "16,777,216 fit"),
    "html": (doubling("html $a $a"), "16,777,216 fit"),
    "js": (doubling("js $a $a"), "16,777,216 fit"),
    "urlquery": (doubling("urlquery $a $a"), "16,777,216 fit"),
    "hexadecimal": (doubling('printf "%x" $a'), "16,777,216 fit"),
    "widths": ('{{ printf "' + "%1000000[1]d" * 99 + '" 1 }}', "16,777,216 fit"),
    "padding": ('{{ $a := printf "%1000000d" 1 }}{{ range 99 }}{{ $a }}{{ end }}', "16,777,216"),
    "kept": (
        '{{ range 9999 }}{{ $x := printf "%1000000s" "a" }}{{ end }}',
        "256 MiB of values",
    ),
    "slices": (
        '{{ $a := printf "%1000000d" 1 }}{{ range 99999 }}{{ $x := slice $a 1 }}{{ end }}',
        "256 MiB",
    ),
}


@pytest.mark.parametrize(("source", "message"), LARGE.values(), ids=LARGE.keys())
def test_what_would_grow_large_is_refused(source: str, message: str) -> None:
    begin = time.thread_time()
    with pytest.raises(TemplateBoundsError, match=message):
        GoRenderer().render(source, CONVERSATION)
    assert time.thread_time() - begin < 4


@pytest.mark.parametrize(
    "source",
    [
        "{{ range 999999999999 }}{{ end }}",
        "{{ range 99999 }}{{ range 99999 }}{{ range 9 }}{{ end }}{{ end }}{{ end }}",
        "{{ range 99999 }}{{ range 99999 }}{{ continue }}{{ end }}{{ end }}",
        '{{ define "f" }}{{ if . }}{{ template "f" (slice . 1) }}{{ template "f" (slice . 1) }}'
        '{{ end }}{{ end }}{{ template "f" "' + "a" * 60 + '" }}',
        "{{ range 99999 }}{{ if and "
        + "1 " * 500
        + "}}{{ end }}{{ range 99999 }}{{ end }}{{ end }}",
    ],
    ids=["loop", "loops", "no pass", "templates", "operands"],
)
def test_what_would_run_long_is_ended(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_SECONDS", 0.5)
    begin = time.thread_time()
    with pytest.raises(TemplateBoundsError, match="the template takes over"):
        GoRenderer().render(source, CONVERSATION)
    assert time.thread_time() - begin < 4


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x" * 70_000, "it has 70,000 characters: at most 65,536 are read"),
        ("{{ .a }}" * 6000, "over 10,000 syntax nodes"),
        ("{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}", "nested too deeply"),
        ("{{ if 1 }}" * 500 + "{{ end }}" * 500, "nested too deeply"),
        ("{{ if 1 }}" + "{{ else if 1 }}" * 500 + "{{ end }}", "nested too deeply"),
        ('{{ block "a" . }}' * 500 + "{{ end }}" * 500, "nested too deeply"),
        ("{{ 1 | " + "print | " * 20_000, "characters|tokens|nodes"),
        ("{{ " + "$" * 60_000, "nodes|tokens|bad character|undefined"),
        ('{{ "' + "\\u0041" * 10_000, "unterminated"),
        ("{{ " + "1" * 60_000 + " }}", "illegal number"),
    ],
    ids=lambda value: value[:20],
)
def test_a_source_over_the_bounds_is_refused_soon(source: str, message: str) -> None:
    begin = time.thread_time()
    with pytest.raises(TemplateError, match=message):
        GoRenderer().describe(source)
    assert time.thread_time() - begin < 2


def test_templates_that_invoke_themselves_for_ever_are_an_error() -> None:
    source = '{{ define "f" }}{{ template "f" . }}{{ end }}{{ template "f" . }}'
    with pytest.raises(TemplateError, match=r"exceeded maximum template depth|nested too deeply"):
        GoRenderer().render(source, CONVERSATION)


def test_deep_data_are_an_error() -> None:
    arguments: dict[str, Any] = {}
    for _ in range(5000):
        arguments = {"a": arguments}
    call = {"function": {"name": "f", "arguments": arguments}}
    message = Message(role="assistant", tool_calls=(call,))
    with pytest.raises(TemplateBoundsError, match="nested too deeply"):
        GoRenderer().render(TEMPLATES["dumps"], Conversation(messages=(message,)))


@pytest.mark.parametrize(
    "source",
    [
        "{{ .Messages.__class__ }}",
        "{{ .__class__ }}{{ .Tools.__init__ }}",
        "{{ (index .Messages 0).values }}",
        "{{ (index .Messages 0).kind }}",
        "{{ .System.encode }}",
        '{{ call "x".upper }}',
        "{{ $.items.nil.x }}",
        "{{ range .Messages }}{{ .Role.join }}{{ end }}",
    ],
)
def test_nothing_leads_to_python(source: str) -> None:
    with pytest.raises(TemplateError):
        GoRenderer().render(source, CONVERSATION)


_WORDS = (
    "{{ }} {{- -}} if else end range with define template block break continue . .Messages .Role "
    '.Content $ $x $i , := = | ( ) "a" "%s %d" `b` 1 -1 2.5 nil true eq and or not len index slice '
    "print printf json html js urlquery println call /* */ ' \\ \n x"
)
WORDS = st.sampled_from(_WORDS.split(" "))


def survives(source: str) -> None:
    begin = time.thread_time()
    try:
        GoRenderer().render(source, CONVERSATION)
    except TemplateError as error:
        assert str(error)  # noqa: PT017 - that it is one is the point
    assert time.thread_time() - begin < 10


@settings(deadline=None, max_examples=400)
@given(st.lists(WORDS, max_size=30).map(" ".join))
@example("{{ range $x, := . }}{{ end }}")
def test_any_words_give_text_or_an_error_of_the_template(source: str) -> None:
    survives(source)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_give_text_or_an_error_of_the_template(data: bytes) -> None:
    survives(data.decode("utf-8", "replace"))
    survives("{{" + data.decode("latin-1"))


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=30), st.lists(st.sampled_from(["1", '"é"', "2.5", "nil", "."]), max_size=3))
def test_any_format_gives_text_or_an_error_of_the_template(form: str, values: list[str]) -> None:
    survives("{{ printf `%" + form.replace("`", "") + "` " + " ".join(values) + " }}")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_cut_anywhere_gives_text_or_an_error(name: str) -> None:
    source = TEMPLATES[name]
    for end in range(0, len(source), 7):
        survives(source[:end])


class Interrupt(BaseException):
    pass


def test_a_rendering_can_be_interrupted_from_outside() -> None:
    raised: list[BaseException] = []
    running = threading.Event()

    def run() -> None:
        running.set()
        try:
            GoRenderer().render("{{ range 999999999 }}{{ end }}", CONVERSATION)
        except (Interrupt, TemplateError) as error:
            raised.append(error)

    GoRenderer().render("{{ 1 }}", CONVERSATION)
    thread = threading.Thread(target=run)
    thread.start()
    running.wait()
    while thread.is_alive() and not raised:
        thread.join(0.05)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupt)
        )
    assert [type(error) for error in raised] == [Interrupt]
