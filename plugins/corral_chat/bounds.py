"""What a template may use up.

Time is looked at between two steps, as by whoever interrupts a rendering. Therefore each value
is bounded, which makes every single step short, and so is all that a template builds.
"""

from __future__ import annotations

import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from contextvars import ContextVar
from typing import Any, Final

from jinja2 import TemplateError, TemplateRuntimeError
from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace as JinjaNamespace

MAX_STEPS = 20_000_000
"""Of one rendering: about the number of syntax nodes run."""
MAX_SECONDS = 5.0
"""Of one rendering."""
MAX_BUILT_BYTES = 256 << 20
"""Of all texts and lists that one rendering builds, kept or not."""
MAX_TEXT_CHARS = 16 << 20
"""Of one text, and of what is rendered."""
MAX_ITEMS = 200_000
"""Of one list or object, all that is nested in it counted."""
MAX_INTEGER_BITS = 1024

_NESTING: tuple[type[Any], ...] = (list, tuple, ItemsView, KeysView, ValuesView)


FAILURES: Final = (
    TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a template can raise of which another rendering of it may be free."""


class OverBoundsError(TemplateRuntimeError):
    """A template that uses more than it may."""


class Namespace(JinjaNamespace):
    """Jinja's, but for names that begin with an underscore, and for printing its content.

    The latter is not bounded as that of a list is; the former transformers refuses too.
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _check_name(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no names that begin with an underscore: {name!r}")


class Growing(list[Any]):
    """A list that a template writes itself, which are the only ones that it may change."""


class Budget:
    """What is left to one rendering."""

    def __init__(self, steps: int) -> None:
        self._most = self._steps = steps
        self._bytes = MAX_BUILT_BYTES
        self._end = time.monotonic() + MAX_SECONDS

    def step(self, count: int = 1) -> None:
        """Count work.

        Raises:
            OverBoundsError: If it is over the bound; likewise all below.
        """
        self._steps -= count
        if self._steps < 0:
            raise OverBoundsError(f"the template takes over {self._most:,} steps")
        if time.monotonic() > self._end:
            raise OverBoundsError(f"the template takes over {MAX_SECONDS:g} seconds")

    def allocate(self, size_bytes: int) -> None:
        """Count memory."""
        self._bytes -= size_bytes
        if self._bytes < 0:
            raise OverBoundsError(f"the template builds over {MAX_BUILT_BYTES >> 20} MiB of values")


_current: ContextVar[Budget] = ContextVar("budget")


def start(steps: int = MAX_STEPS) -> Budget:
    """Begin a rendering in this thread, of at most so many steps."""
    budget = Budget(steps)
    _current.set(budget)
    return budget


def step(count: int = 1) -> str:
    """Count work; the empty text is for where a template calls it."""
    _current.get().step(count)
    return ""


def check_chars(count: int) -> None:
    """Refuse a text of `count` characters before it is built, if that is too many."""
    if count > MAX_TEXT_CHARS:
        raise OverBoundsError(f"a text of {count:,} characters: at most {MAX_TEXT_CHARS:,} fit")


def check_items(count: int) -> None:
    """Refuse a list of `count` items before it is built, if that is too many."""
    if count > MAX_ITEMS:
        raise OverBoundsError(f"a list of over {MAX_ITEMS:,} items")


def charged(value: Any) -> Any:
    """Count the memory of a new value whose items are not new; gives the value."""
    budget = _current.get()
    budget.step()
    if isinstance(value, str):
        check_chars(len(value))
        budget.allocate(50 + len(value) * (1 if value.isascii() else 4))
    elif isinstance(value, list | tuple):
        check_items(len(value))
        budget.allocate(56 + 8 * len(value))
    elif isinstance(value, dict | Namespace):
        budget.allocate(300 + (100 * len(value) if isinstance(value, dict) else 0))
    elif isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise OverBoundsError(f"a number of over {MAX_INTEGER_BITS} bits")
    return value


def built(value: Any) -> Any:
    """Count a new value and look at all that is in it; gives the value."""
    charged(value)
    if not isinstance(value, str) and isinstance(value, (dict, *_NESTING)):
        _weigh(value)
    return value


def _weigh(value: Any) -> None:
    """Bound a value as the tree that it prints as: what it holds twice counts twice."""
    stack: list[Any] = [value]
    items = chars = 0
    while stack:
        item = stack.pop()
        items += 1
        if isinstance(item, str):
            chars += len(item)
        elif isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, _NESTING):
            stack.extend(item)
        check_items(items)
        check_chars(chars)
    _current.get().step(items)


def text(value: Any) -> str:
    """Print a value as Jinja does."""
    if isinstance(value, str):
        return value
    built(value)
    return str(charged(str(value)))


def join(parts: Iterable[Any], separator: str = "") -> str:
    """Join values to a text."""
    texts: list[str] = []
    chars = 0
    for part in parts:
        step()
        texts.append(text(part))
        chars += len(texts[-1]) + len(separator)
        check_chars(chars)
    return str(charged(separator.join(texts)))


def counted(values: Iterable[Any], steps: int) -> Iterator[Any]:
    """Iterate, at that many steps an item."""
    for value in values:
        step(steps)
        yield value


def listed(values: Iterable[Any]) -> list[Any]:
    """Make a list of anything that can be iterated."""
    items: list[Any] = []
    for value in counted(values, 1):
        items.append(value)
        check_items(len(items))
    built(items)
    return items
