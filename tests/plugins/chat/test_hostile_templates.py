"""Templates that would take memory or time; each must end soon, as an error of its own."""

import ctypes
import resource
import subprocess
import sys
import threading
import time

import pytest

from corral_chat import bounds, jinja
from corral_chat.renderers import JinjaRenderer
from corral_kernel.contracts import Conversation, Message, TextPart
from corral_kernel.errors import TemplateBoundsError, TemplateError

CONVERSATION = Conversation(messages=(Message(role="user", content="hi"),))


def doubling(step: str, start: str = "'aaaaaaaa'", end: str = "") -> str:
    return (
        f"{{% set ns = namespace(a={start}) %}}{{% for i in range(60) %}}"
        f"{{% set ns.a = {step} %}}{{% endfor %}}{end}"
    )


BLOCK = (
    "{% set ns = namespace(a='aaaaaaaa') %}{% for i in range(60) %}"
    "{% set b %}{{ ns.a }}{{ ns.a }}{% endset %}{% set ns.a = b %}{% endfor %}"
)
CHAINED = (
    "{% set big = 'x' * 1000000 %}{% set ns = namespace(a=1) %}"
    "{% for i in range(100000) %}{% set ns.a = namespace(a=ns.a, b=STEP) %}{% endfor %}"
)
APPENDING = (
    "{% set a = [] %}{% for i in range(99999) %}{% for j in range(9) %}"
    "{% set _ = a.append(i) %}{% endfor %}{% endfor %}"
)
TEXT, ITEMS, BITS, WIDTH = "16,777,216 fit", "200,000 items", "1024 bits", "width over 999"
UNSAFE, MISSING = "is unsafe", "No filter named"

LARGE = {
    "repeated text": ("{{ 'a' * 2000000000 }}", TEXT),
    "text repeated": ("{{ 2000000000 * 'a' }}", TEXT),
    "repeated list": ("{{ [1] * 2000000000 }}", ITEMS),
    "power": ("{{ 9 ** 99999999 }}", BITS),
    "squares": (doubling("ns.a * ns.a", "3"), BITS),
    "long number": ("{{ ('f' * 16000000)|int(0, 16) }}", BITS),
    "percent width": ("{{ '%1000000000d' % 1 }}", WIDTH),
    "percent star": ("{{ '%*d' % (1000000000, 1) }}", WIDTH),
    "percent name": ("{{ '%(a)99999999s' % {'a': 1} }}", WIDTH),
    "percent many": ("{% set a = 'x' * 9999999 %}{{ ('%s' * 9) % (a,a,a,a,a,a,a,a,a) }}", TEXT),
    "format filter": ("{{ '%999999999d'|format(1) }}", WIDTH),
    "format": ("{{ '{:1000000000}'.format(1) }}", WIDTH),
    "format nested": ("{{ '{:{}}'.format(1, 1000000000) }}", WIDTH),
    "format many": ("{{ ('{0}' * 100000).format('x' * 100000) }}", TEXT),
    "range": ("{{ range(1000000000)|list }}", "Range too big"),
    "plus": (doubling("ns.a + ns.a"), TEXT),
    "sum": (doubling("[ns.a, ns.a]|sum(start='')"), TEXT),
    "sum of lists": (doubling("[ns.a, ns.a]|sum(start=[])", "[1]"), ITEMS),
    "tilde": (doubling("ns.a ~ ns.a"), TEXT),
    "block": (BLOCK, TEXT),
    "join filter": (doubling("[ns.a, ns.a]|join(ns.a)"), TEXT),
    "join method": (doubling("ns.a.join([ns.a, ns.a])"), TEXT),
    "replace method": (doubling("ns.a.replace('a', ns.a)"), TEXT),
    "replace filter": (doubling("ns.a|replace('a', ns.a)"), TEXT),
    "printed list": (doubling("[ns.a, ns.a]", end="{{ ns.a }}"), ITEMS),
    "dumped list": (doubling("(ns.a, ns.a)", end="{{ ns.a|tojson }}"), ITEMS),
    "dict literal": (doubling("{'a': ns.a, 'b': ns.a}"), ITEMS),
    "dict call": (doubling("dict(a=ns.a, b=ns.a)"), ITEMS),
    "added lists": (doubling("ns.a + ns.a", "[1]"), ITEMS),
    "long texts in a list": (doubling("[ns.a, ns.a]", "'x' * 1000000"), TEXT),
    "chain of texts": (CHAINED.replace("STEP", "big ~ i"), "256 MiB"),
    "chain of slices": (CHAINED.replace("STEP", "big[1:]"), "256 MiB"),
    "output": ("{% set a = 'x' * 1000000 %}{% for i in range(99) %}{{ a }}{% endfor %}", TEXT),
    "indented json": ("{{ [[1]]|tojson(indent=1000000000) }}", "an indent of"),
    "indent": ("{{ 'a\nb'|indent(1000000000) }}", "an indent of"),
    "round": ("{{ 1.5|round(1000000000, 'ceil') }}", "a precision of"),
    "split": ("{{ ('a' * 16000000).split('a') }}", ITEMS),
    "split at blanks": ("{{ ('a ' * 8000000).rsplit() }}", ITEMS),
    "lines": ("{{ ('\n' * 16000000).splitlines() }}", ITEMS),
    "list of letters": ("{{ ('a' * 16000000)|list }}", ITEMS),
    "sorted letters": ("{{ ('a' * 16000000)|sort }}", ITEMS),
    "mapped letters": ("{{ ('a' * 16000000)|map('upper')|list }}", ITEMS),
    "ljust": ("{{ 'a'.ljust(1000000000) }}", UNSAFE),
    "expandtabs": ("{{ '\t'.expandtabs(1000000000) }}", UNSAFE),
    "to_bytes": ("{{ (1).to_bytes(1000000000) }}", UNSAFE),
    "center": ("{{ 'a'|center(1000000000) }}", MISSING),
    "batch": ("{{ [1]|batch(1000000000, 1)|list }}", MISSING),
    "lipsum": ("{{ lipsum(1000000) }}", "undefined"),
    "appended": (APPENDING, r"over (200,000 items|1,000,000 steps)"),
    "appended to itself": ("{% set a = [] %}{% set _ = a.append(a) %}{{ a }}", ITEMS),
    "appended to itself, dumped": (
        "{% set a = [] %}{% set _ = a.append(a) %}{{ a|tojson }}",
        ITEMS,
    ),
    "date": ("{{ strftime_now('%Y' * 100000) }}", "date format"),
}


@pytest.mark.parametrize(("source", "message"), LARGE.values(), ids=LARGE.keys())
def test_what_would_grow_large_is_refused(source: str, message: str) -> None:
    begin = time.thread_time()
    with pytest.raises(TemplateError, match=message):
        JinjaRenderer().render(source, CONVERSATION)
    assert time.thread_time() - begin < 4


def test_what_would_grow_large_takes_little_memory() -> None:
    """In a process of its own, begun by a small one: a peak counts what the parent had."""
    own = (
        "import resource, runpy\n"
        f"tests = runpy.run_path({__file__!r})\n"
        "tests['run_large'](); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    small = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    command = [sys.executable, "-c", small, own]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    scale = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * scale < 700 << 20


def run_large() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    for source, _ in LARGE.values():
        with pytest.raises(TemplateError):
            JinjaRenderer().render(source, CONVERSATION)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for i in range(9) recursive %}{{ loop(range(9)) if loop.depth < 100 }}{% endfor %}",
        "{% set a = range(99999)|list %}{% for i in a %}{% if -1 in a %}{% endif %}{% endfor %}",
        "{% set a = [[0]*400]*400 %}{% for i in range(9999) %}{{ a == [[0]*400]*400 }}{% endfor %}",
        "{% macro m() %}{% for i in range(99999) %}{% for j in range(99999) %}"
        + "a{% if 1 %}b{% endif %}" * 500
        + "{% endfor %}{% endfor %}{% endmacro %}{{ m() }}",
    ],
    ids=["loops", "no pass", "macros", "recursive loop", "search", "comparison", "constants"],
)
def test_what_would_run_long_is_ended(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_SECONDS", 0.5)
    begin = time.thread_time()
    with pytest.raises(TemplateError, match="the template takes over"):
        JinjaRenderer().render(source, CONVERSATION)
    assert time.thread_time() - begin < 4


@pytest.mark.parametrize(
    "source",
    [
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    ],
    ids=["macro", "loop"],
)
def test_endless_recursion_is_an_error(source: str) -> None:
    with pytest.raises(TemplateError, match="nested too deeply"):
        JinjaRenderer().render(source, CONVERSATION)


REFUSED = {
    "class": "{{ ''.__class__.__mro__ }}",
    "append to what is given": "{{ messages.append(1) }}",
    "pop from what is given": "{{ messages[0].pop('role') }}",
    "update of what is given": "{{ messages[0].update({}) }}",
    "setdefault": "{% set _ = messages[0].setdefault('x', 1) %}",
    "globals of a function": "{{ raise_exception.__globals__['x'] }}",
    "globals of a class": "{{ namespace.__init__.__globals__ }}",
    "globals of a global": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "itself": "{{ self.__init__.__globals__ }}",
    "namespace": "{{ namespace(__class__=1).__class__ }}",
    "set in a namespace": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "lipsum": "{{ lipsum.__globals__['os'] }}",
    "subclasses": "{{ [].__class__.__base__.__subclasses__() }}",
    "CVE-2016-10745: format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "CVE-2019-10906: format_map": "{{ '{a.__class__.__mro__}'.format_map({'a': 1}) }}",
    "CVE-2024-56326: format kept": (
        "{% set f = '{0.__class__.__init__}'.format %}{{ f(messages).x }}"
        "{% set f = {'f': '{0.__class__.__mro__}'.format}['f'] %}{{ f('').x }}"
    ),
    "CVE-2024-56326: format to a filter": (
        "{{ ['{0.__class__.__mro__}'.format]|map('join', '')|list }}{{ ''.x.y }}"
    ),
    "CVE-2025-27516: attr": "{{ ''|attr('__class__') }}",
    "CVE-2025-27516: attr format": "{{ ('{0.__class__.__mro__}'|attr('format'))('') }}",
    "CVE-2025-27516: mapped attr": "{{ (['{0}']|map('attr', 'format')|list)[0]('') }}",
    "import": "{% import 'os' as os %}{{ os }}",
    "from": "{% from 'os' import popen %}",
    "extends": "{% extends '/etc/passwd' %}",
    "include of a message": "{% include messages[0].content %}",
    "dunder method": "{{ messages.__len__() }}",
    "item by its name": "{{ messages[0].__getitem__('role') }}",
    "environment": "{{ environment.overlay() }}",
    "context": "{{ _context.parent }}{{ context.parent }}",
    "closure": "{{ strftime_now.__closure__[0] }}",
    "caller": "{% macro f() %}{{ caller.__globals__.x }}{% endmacro %}{{ f() }}",
    "xmlattr": "{{ {'a b': 1}|xmlattr }}",
}


@pytest.mark.parametrize("source", REFUSED.values(), ids=REFUSED.keys())
def test_nothing_leads_out_of_the_sandbox(source: str) -> None:
    with pytest.raises(TemplateError):
        JinjaRenderer().render(source, CONVERSATION)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ raise_exception.__code__ }}",
        "{{ messages|selectattr('__class__')|list|length or '' }}",
        "{% for x in [1] %}{{ loop._iterable }}{{ loop.__init__ }}{% endfor %}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ '{a.__class__}'.format_map({'a': 1}) }}",
        "{{ self._TemplateReference__context }}",
        "{{ varargs }}{{ caller }}{{ environment }}{{ _context }}",
    ],
)
def test_what_is_out_of_the_sandbox_is_nothing_to_print(source: str) -> None:
    (part,) = JinjaRenderer().render(source, CONVERSATION)
    assert isinstance(part, TextPart)
    assert part.text == ""


def test_a_template_name_cannot_be_code() -> None:
    """CVE-2024-56201: there, the name of a template's file was part of what was compiled."""
    source = "{% macro f() %}x{% endmacro %}{{ f() }}"
    (part,) = JinjaRenderer().render(source, CONVERSATION)
    assert isinstance(part, TextPart)
    assert part.text == "x"
    for name in ("{% block a\nimport os %}x{% endblock %}", "{% macro a;b() %}{% endmacro %}"):
        with pytest.raises(TemplateError):
            JinjaRenderer().render(name, CONVERSATION)


def test_probing_a_template_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja, "MAX_PROBE_STEPS", 1000)
    source = "{% for i in range(2000) %}{% endfor %}{# probed #}{{ messages[0].content }}"
    with pytest.raises(TemplateBoundsError, match="over 1,000 steps"):
        JinjaRenderer().render(source, CONVERSATION)


class Interrupt(BaseException):
    pass


def test_a_rendering_can_be_interrupted_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja, "MAX_PROBE_STEPS", bounds.MAX_STEPS)
    source = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    raised: list[BaseException] = []
    running = threading.Event()

    def run() -> None:
        running.set()
        try:
            JinjaRenderer().render(source, CONVERSATION)
        except (Interrupt, TemplateError) as error:
            raised.append(error)

    JinjaRenderer().render("{{ 1 }}", CONVERSATION)  # imports Jinja
    thread = threading.Thread(target=run)
    thread.start()
    running.wait()
    while thread.is_alive() and not raised:
        thread.join(0.05)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupt)
        )
    assert [type(error) for error in raised] == [Interrupt]
