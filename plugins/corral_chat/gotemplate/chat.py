"""Renders conversations by Go templates, in each of the ways in which they may be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from corral_chat.bounds import OverBoundsError
from corral_chat.gotemplate import nodes
from corral_chat.gotemplate.cutting import cut_after_response
from corral_chat.gotemplate.data import (
    functions_at,
    merged,
    messages_value,
    thinking_values,
    tools_value,
)
from corral_chat.gotemplate.evaluate import ExecutionProblem
from corral_chat.gotemplate.execute import Execution, execute
from corral_chat.gotemplate.functions import BUILTINS, Function
from corral_chat.gotemplate.parser import parse
from corral_chat.gotemplate.strings import clean
from corral_chat.gotemplate.tokens import SyntaxProblem
from corral_chat.gotemplate.values import GoMap
from corral_chat.gotemplate.vocabulary import words_of
from corral_kernel.contracts import Conversation
from corral_kernel.errors import TemplateBoundsError, TemplateError

COMPILED_TEMPLATES = 16
"""So many are kept parsed."""
NAMES = frozenset(BUILTINS) | frozenset(functions_at(0.0))
"""Of all functions."""


class Compiled:
    """A parsed template, and what it speaks of.

    Attributes:
        tree: With `{{ .Response }}` at its end if it speaks of neither messages nor response.
        words: Names of all fields and variables, in lower case.
    """

    def __init__(self, source: str) -> None:
        self.tree = parse(source, NAMES)
        self.words = words_of(self.tree)
        if not self.words & {"messages", "response"}:
            response = nodes.Field(len(source), ("Response",))
            command = nodes.Command(len(source), [response])
            pipe = nodes.Pipe(len(source), [command])
            self.tree.root.nodes.append(nodes.Action(len(source), pipe))


def compiled(template: str) -> Compiled:
    """Parse a template, or give it as it was parsed before.

    Raises:
        TemplateError: If it does not parse, or is over the bounds.
    """
    with _told():
        return _compiled(template)


_compiled = lru_cache(COMPILED_TEMPLATES)(Compiled)


def render(template: str, conversation: Conversation) -> str:
    """Render a conversation.

    Raises:
        TemplateError: If the template does not parse, fails, or is over the bounds.
    """
    with _told():
        known = _compiled(template)
        given = thinking_values(conversation)
        functions = functions_at(conversation.now)
        prompt = conversation.messages[-1].content if conversation.messages else ""
        if conversation.suffix and prompt:
            given |= {"Prompt": clean(prompt), "Suffix": clean(conversation.suffix)}
            return execute(known.tree, GoMap({**given, "Response": ""}), functions)
        if "messages" in known.words:
            given |= _whole(conversation)
            return execute(known.tree, GoMap(given), functions)
        return _turn_by_turn(known.tree, conversation, given, functions)


def _whole(conversation: Conversation) -> dict[str, Any]:
    systems = (m.content for m in conversation.messages if m.role == "system")
    return {
        "System": clean("\n\n".join(systems)),
        "Messages": messages_value(conversation.messages),
        "Tools": tools_value(conversation.tools),
        "Response": "",
    }


def _turn_by_turn(
    tree: nodes.Tree,
    conversation: Conversation,
    given: dict[str, Any],
    functions: dict[str, Function],
) -> str:
    """Execute a template that knows no messages once for each turn.

    The last time it ends behind the response, which is where the model goes on.
    """
    execution = Execution(tree, functions)
    turn = {"System": "", "Prompt": "", "Response": ""}
    for message, content in merged(conversation.messages):
        key = {"system": "System", "user": "Prompt", "assistant": "Response"}.get(message.role)
        if key is None:
            continue
        begun = turn["Response"] or (key == "System" and turn["Prompt"])
        if begun and key != "Response":
            execution.run(GoMap({**given, **turn}))
            turn = dict.fromkeys(turn, "")
        turn[key] = content
    return execution.run(GoMap({**given, **turn}), cut_after_response(tree.root))


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a template raises into the kernel's error."""
    try:
        yield
    except (SyntaxProblem, ExecutionProblem) as problem:
        raise TemplateError(str(problem)) from None
    except OverBoundsError as error:
        raise TemplateBoundsError(f"the chat template: {error.message}") from None
    except RecursionError:
        raise TemplateBoundsError("the chat template: it is nested too deeply") from None
