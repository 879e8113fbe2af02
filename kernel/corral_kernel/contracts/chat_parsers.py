"""How a chat format reads what a model writes: answer, thoughts and calls of tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from corral_kernel.contracts.chat import Message
from corral_kernel.contracts.plan import Constrained, Plan

EndReason = Literal["stop", "length", "repeat"]
"""Why an answer ends: by itself, by a limit, or because it goes round in circles."""


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Text of the thought before it."""

    text: str


@dataclass(frozen=True, slots=True)
class CallPart:
    """A part of a call.

    Attributes:
        index: Of the call in the answer, from 0. The parts of one call follow each other.
        name: Of the tool, whole, in the first part; empty in others.
        arguments: The next piece of the JSON object of its arguments. All pieces together are one
            that is valid.
        last: Nothing of this call follows. A call that the answer's end cuts has no last part.
    """

    index: int
    name: str = ""
    arguments: str = ""
    last: bool = True


OutputEvent = Content | Thought | CallPart


class AnswerSpec(Struct, frozen=True, kw_only=True):
    """What is known of an answer before its first token.

    Args:
        renderer: Of the prompt: `go`, `jinja`, …
        template: Its template.
        prompt_end: The last characters of the rendered prompt.
        last: The last message of the conversation; None: a bare prompt.
        think: Whether to think, or how much; None: the model has no say in it.
        calls: Whether calls count. Where not, they are text as any other.
        tools: That may be called, as OpenAI writes them: `{"type": "function", "function": {"name":
            …, "description": …, "parameters": {…}}}`, with the whole schema of the parameters.
        force_call: The answer has to be a call.
        constrain_tools: Arguments are held to their tool's schema, where they can be. Calls that
            are so held may be given in parts, since they cannot turn out to be none.
        think_budget: Tokens of the thought, after which it is closed; None: no limit.
        answer: What the text of the answer is held to; None: nothing.
    """

    renderer: str = ""
    template: str = ""
    prompt_end: str = ""
    last: Message | None = None
    think: bool | str | None = None
    calls: bool = False
    tools: tuple[dict[str, Any], ...] = ()
    force_call: bool = False
    constrain_tools: bool = True
    think_budget: int | None = None
    answer: Constrained | None = None


class OutputParser:
    """Reads one answer as it grows.

    Attributes:
        kept: Texts in which control tokens occur that it has to see. Others are never shown.
        ended: Nothing that may follow belongs to the answer, which ends here.
    """

    kept: frozenset[str] = frozenset()
    ended: bool = False

    def feed(self, text: str) -> Sequence[OutputEvent]:
        """Take the next piece of text, of any length; give what is decided by now.

        Hold back only what may be the beginning of a mark, or of a call that is not whole.

        Raises:
            OutputError: If what the model wrote is an error to the client.
        """
        raise NotImplementedError

    def finish(self, reason: EndReason) -> Sequence[OutputEvent]:
        """Take the end; give what was held back. Text is never lost.

        Raises:
            OutputError: As `feed` does.
        """
        raise NotImplementedError


class ChatParser:
    """A family of models that write thoughts and calls in one way.

    Attributes:
        name: What a model's config calls it as its `parser`.
        capabilities: Of `tools` and `thinking`: what a model has that this reads.
        levels: How its templates spell a level of thinking that they do not know.
    """

    name: str
    capabilities: frozenset[str] = frozenset()
    levels: Mapping[str, str] = {}

    def recognises(self, template: str) -> float:
        """Tell how surely a model with this Jinja template writes so, from 0 to 1.

        Called in the server for models whose config names no parser; the surest reads its answers.
        """
        del template
        return 0.0

    def thinks(self, template: str) -> bool:
        """Tell whether models with this Jinja template, which it recognises, write thoughts.

        Called in the server. `<think>` and `</think>` in a template tell so without it.
        """
        del template
        return False

    def shown_names(self, names: Sequence[str]) -> Mapping[str, str]:
        """Tell how templates have to show the names of tools; those left out are shown as they are.

        Called in the server. What it reads has its own names back: see `AnswerSpec.tools`.
        """
        del names
        return {}

    def start(self, spec: AnswerSpec) -> OutputParser:
        """Make what reads one answer; called in a worker."""
        raise NotImplementedError

    def plan(self, spec: AnswerSpec) -> Plan | None:
        """Tell the loop what the answer consists of; None: nothing rules it.

        Called in a worker, on a text thread, after the prompt is rendered. A spec with an `answer`,
        a `think_budget` or `force_call` needs one.

        Raises:
            UnsupportedError: If this family cannot be held to that.
        """
        del spec
        return None
