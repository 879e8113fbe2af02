"""What rendering a prompt costs beside Jinja itself: `python -m benchmarks.rendering`.

Each template of a family that the tests have renders one conversation by Corral's renderer and by a
bare Jinja environment, sandboxed as transformers has it, that is given the very same values. Go
templates have no peer here. Given are medians of single renderings, the template compiled, in time
of the processor, which a busy machine spoils least.
"""

import argparse
import json
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any, Final

import msgspec
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

from benchmarks import machine
from corral_chat.environment import GenerationTag
from corral_chat.jinja import Compiled, variables
from corral_chat.messages import shown_messages
from corral_chat.renderers import GoRenderer, JinjaRenderer
from corral_kernel.contracts import ChatRenderer, Conversation, Message, Part
from corral_kernel.errors import TemplateError

CASES: Final = Path(__file__).parents[1] / "tests" / "plugins" / "chat"
TURNS: Final = 20
"""Of the long conversation, besides those that the tests have."""
NOW: Final = 1_720_000_000.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one template takes for one conversation.

    Attributes:
        compile_ms: Until it is ready.
        ours_us: A rendering.
        jinja_us: One by Jinja alone; 0 for a Go template, which Jinja does not render.
        characters: Of the prompt.
    """

    template: str
    conversation: str
    compile_ms: float
    ours_us: float
    jinja_us: float
    characters: int


def main() -> int:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rendering", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.05, help="of each rendering's samples")
    parser.add_argument("--out", type=Path, help="write everything to this JSON file")
    arguments = parser.parse_args()
    found = list(costs(arguments.seconds))
    for line in summary(found):
        print(line)
    machine.record(arguments.out, costs=[asdict(cost) for cost in found])
    return 0


def costs(seconds: float) -> Iterator[Cost]:
    """Measure every template that renders the conversation.

    Args:
        seconds: Of a median's samples, about.
    """
    jinja = runpy.run_path(str(CASES / "jinjacases.py"))
    go = runpy.run_path(str(CASES / "gocases.py"))["TEMPLATES"]
    tools = jinja["CONVERSATIONS"]["answered"]
    for name, given in (("answered", _conversation(tools)), ("long", _long())):
        for template, source in jinja["TEMPLATES"].items():
            yield from _cost(JinjaRenderer(), _Case(template, source, name, given), seconds)
        for template, source in go.items():
            yield from _cost(GoRenderer(), _Case(f"go {template}", source, name, given), seconds)


@dataclass(frozen=True, slots=True)
class _Case:
    template: str
    source: str
    name: str
    given: Conversation


def _cost(renderer: ChatRenderer, case: _Case, seconds: float) -> Iterator[Cost]:
    def ours() -> Sequence[Part]:
        return renderer.render(case.source, case.given)

    began = thread_time()
    try:
        (part,) = ours()
    except TemplateError:
        return  # it refuses this conversation
    compile_ms = 1000 * (thread_time() - began)
    text = getattr(part, "text", "")
    ours_us = _median_us(ours, seconds)
    jinja_us = 0.0
    if isinstance(renderer, JinjaRenderer):
        bare = _bare(case.source, case.given)
        if bare() != text:
            sys.exit(f"Jinja renders {case.template} otherwise")
        jinja_us = _median_us(bare, seconds)
    yield Cost(case.template, case.name, compile_ms, ours_us, jinja_us, len(text))


def _bare(source: str, given: Conversation) -> Callable[[], str]:
    grows = ".append(" in source  # which the immutable one forbids
    kind = SandboxedEnvironment if grows else ImmutableSandboxedEnvironment
    environment = kind(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationTag]
    )
    environment.filters["tojson"] = _tojson
    template = environment.from_string(source)
    known = Compiled(source)
    values = {**variables(known, given), "add_generation_prompt": True}
    values["raise_exception"] = sys.exit
    values["messages"] = shown_messages(source, known.shape, given.messages)
    return lambda: template.render(values)


def _tojson(value: Any, ensure_ascii: bool = False, **how: Any) -> str:  # noqa: FBT001, FBT002 - as transformers has it
    plain = list(value) if isinstance(value, Iterator) else value
    return json.dumps(plain, ensure_ascii=ensure_ascii, **how)


def _median_us(run: Callable[[], object], seconds: float) -> float:
    times: list[float] = []
    end = thread_time() + seconds
    while len(times) < 3 or thread_time() < end:  # noqa: PLR2004 - a median's least
        times.append(machine.thread_us(run))
    return median(times)


def _conversation(given: dict[str, Any]) -> Conversation:
    return msgspec.convert({**given, "now": NOW, "bos": "<s>", "eos": "</s>"}, Conversation)


def _long() -> Conversation:
    turns = [
        Message(role=role, content=f"{place}: " + "word " * 40)
        for place in range(TURNS)
        for role in ("user", "assistant")
    ]
    question = Message(role="user", content="And now?")
    return Conversation(messages=(*turns, question), now=NOW, bos="<s>", eos="</s>")


def summary(found: Sequence[Cost]) -> Iterator[str]:
    """Give the lines of a table: medians over the templates, and the costliest."""
    for name in ("answered", "long"):
        beside = [cost for cost in found if cost.conversation == name and cost.jinja_us]
        alone = [cost for cost in found if cost.conversation == name and not cost.jinja_us]
        worst = max(beside, key=lambda cost: cost.ours_us)
        yield (
            f"{name}: {len(beside)} Jinja templates: ours {_middle(beside, 'ours_us'):.0f} us, "
            f"Jinja {_middle(beside, 'jinja_us'):.0f} us, at most {worst.ours_us:.0f} us "
            f"({worst.template}); first time {_middle(beside, 'compile_ms'):.0f} ms"
        )
        yield (
            f"{name}: {len(alone)} Go templates: {_middle(alone, 'ours_us'):.0f} us, at most "
            f"{max(cost.ours_us for cost in alone):.0f} us; first time "
            f"{_middle(alone, 'compile_ms'):.1f} ms"
        )


def _middle(found: Sequence[Cost], field: str) -> float:
    return float(median(getattr(cost, field) for cost in found))


if __name__ == "__main__":
    sys.exit(main())
