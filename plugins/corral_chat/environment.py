"""Jinja as chat templates expect it: that of Hugging Face's transformers, in a bounded sandbox."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls  # noqa: N812 - a class that Jinja names so
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context

from corral_chat.bounds import Growing, Namespace, built, charged, check_items, join, step, text
from corral_chat.filters import CHAT_FILTERS, INNER_FILTERS
from corral_chat.operators import (
    BINARY,
    GROWING_METHODS,
    OTHER_METHODS,
    TEXT_METHODS,
    bounded_format,
)
from corral_chat.rewrite import rewrite


class GenerationTag(Extension):
    """`{% generation %}` marks what an assistant said, for training; here it shows its content."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Parser) -> nodes.Node:
        """Give the nodes inside the tag; what they set is unknown outside."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


@pass_context  # so that nothing is computed while compiling
def _finalize(context: Context, value: Any) -> str:
    del context
    step()
    return text(value)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Compiles templates; all that they do is counted, see `bounds`."""

    intercepted_binops = frozenset(BINARY)
    concat = staticmethod(join)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # what is computed at compile time is not counted
            extensions=[LoopControls, GenerationTag],
            finalize=_finalize,
        )
        self.filters = {**CHAT_FILTERS, **INNER_FILTERS}
        self.globals = {
            "dict": lambda *args, **kwargs: built(dict(*args, **kwargs)),
            "namespace": Namespace,
            "raise_exception": _raise_exception,
            "range": self.globals["range"],
        }

    def load(self, source: str) -> Template:
        """Compile a template.

        Raises:
            jinja2.TemplateError: If it does not parse, or is over a bound.
        """
        return self.from_string(rewrite(self.parse(source)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute with bounds."""
        del context
        step()
        return BINARY[operator](left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Keep to methods that are known to be harmless."""
        if isinstance(obj, str):
            return attr in TEXT_METHODS
        if isinstance(obj, Growing) and attr in GROWING_METHODS:
            return True
        for kind, names in OTHER_METHODS.items():
            if isinstance(obj, kind):
                return attr in names
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Bound `str.format` besides keeping it from attributes."""
        fill = super().wrap_str_format(value)
        return None if fill is None else bounded_format(value.__self__, fill)

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, macro or method; those of texts with bounds."""
        step()
        if isinstance(called, types.BuiltinMethodType) and isinstance(called.__self__, str):
            for inner in ("_loop_vars", "_block_vars"):  # what Jinja adds for macros
                kwargs.pop(inner, None)
            return TEXT_METHODS[called.__name__](called.__self__, *args, **kwargs)
        given = charged(super().call(context, called, *args, **kwargs))
        if isinstance(called, types.BuiltinMethodType) and isinstance(called.__self__, Growing):
            check_items(len(called.__self__))
        return given


class RefusedError(TemplateError):
    """What a template says of messages that it does not render."""


def _raise_exception(message: Any = "") -> NoReturn:
    raise RefusedError(text(message))
