"""What all suites share: demands that say what is wrong, and a runner that needs no pytest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from corral_kernel.fields import fields_of

EVERYTHING = (Exception, SystemExit)
"""What a plugin's code may raise without ending whoever examines it."""


class ContractBrokenError(AssertionError):
    """A plugin does otherwise than its contract says; the message is for its author."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test of a suite ended.

    Attributes:
        test: Its name as a sentence.
        error: What is wrong; empty: it passed.
    """

    test: str
    error: str = ""


def demand(condition: object, words: str) -> None:
    """Raise unless a condition holds.

    Raises:
        ContractBrokenError: With the words.
    """
    if not condition:
        raise ContractBrokenError(words)


def attempt(what: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a plugin; an exception is a breach of its contract.

    Args:
        what: Was attempted, for the message.
        call: Does it.
        arguments: Of the call.

    Raises:
        ContractBrokenError: If the call raised.
    """
    try:
        return call(*arguments)
    except ContractBrokenError:
        raise
    except EVERYTHING as error:
        raise ContractBrokenError(f"{what} raised {type(error).__name__}: {error}") from error


def demand_documented(options: type[Struct], whose: str, *, inherited: type[Struct]) -> None:
    """Demand of every field of an options struct a default, and a description for people.

    Args:
        options: The struct.
        whose: It is, for the message.
        inherited: Struct whose fields are not the plugin's own.

    Raises:
        ContractBrokenError: Which field lacks what.
    """
    config = options.__struct_config__
    demand(config.frozen, f"the options of {whose} can be changed: give their class frozen=True")
    demand(
        config.forbid_unknown_fields,
        f"the options of {whose} take unknown fields: give their class forbid_unknown_fields=True",
    )
    attempt(f"{options.__name__}() (every field needs a default)", options)
    for name, field in fields_of(options).items():
        demand(
            field.description or name in inherited.__struct_fields__,
            f"field {name!r} of {whose} has no Meta(description=…), which people are shown",
        )


def run_suite(suite: type[Any]) -> Iterator[Outcome]:
    """Run the tests of a suite, each on an object of its own.

    Args:
        suite: A subclass of one of the suites, with what it needs set.
    """
    getattr(suite, "setup_class", _nothing)()
    try:
        for name in sorted(name for name in dir(suite) if name.startswith("test_")):
            yield _outcome(suite, name)
    finally:
        getattr(suite, "teardown_class", _nothing)()


def _outcome(suite: type[Any], name: str) -> Outcome:
    sentence = name.removeprefix("test_").replace("_", " ")
    try:
        getattr(suite(), name)()
    except EVERYTHING as error:
        broken = isinstance(error, ContractBrokenError)
        return Outcome(sentence, str(error) if broken else f"{type(error).__name__}: {error}")
    return Outcome(sentence)


def _nothing() -> None:
    pass
