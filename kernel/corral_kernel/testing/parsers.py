"""What every parser of a chat format has to hold to, whatever its family writes."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import msgspec
from msgspec import Struct

from corral_kernel.contracts import (
    AnswerSpec,
    CallPart,
    ChatParser,
    Content,
    EndReason,
    OutputEvent,
    Thought,
)
from corral_kernel.errors import OutputError

_TOKENS = re.compile(r"<[^<>\s]*>|\s?\w+|\s+|.", re.DOTALL)


class Read(Struct, frozen=True):
    """What a parser makes of an answer: `calls` are names with their arguments, decoded."""

    content: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


def read(
    parser: ChatParser, spec: AnswerSpec, pieces: Iterable[str], reason: EndReason = "stop"
) -> Read:
    """Have an answer read that comes in pieces.

    Raises:
        AssertionError: If the parts of its calls do not fit together.
    """
    return joined(events_of(parser, spec, pieces, reason))


def events_of(
    parser: ChatParser, spec: AnswerSpec, pieces: Iterable[str], reason: EndReason = "stop"
) -> list[OutputEvent]:
    """Give all that is told of an answer that comes in pieces."""
    output = parser.start(spec)
    events: list[OutputEvent] = []
    for piece in pieces:
        events += output.feed(piece)
        if output.ended:
            break
    events += output.finish(reason)
    return events


def joined(events: Sequence[OutputEvent]) -> Read:
    """Put the events of an answer together."""
    content = thinking = ""
    names: list[str] = []
    arguments: list[str] = []
    last = True
    for event in events:
        match event:
            case Content(text):
                content += text
            case Thought(text):
                thinking += text
            case _:
                if last:
                    assert event.index == len(names), f"call {event.index} follows {len(names)}"
                    assert event.name, "the first part of a call has its name"
                    names.append(event.name)
                    arguments.append("")
                assert event.index == len(names) - 1, "a part of a call that is over"
                arguments[-1] += event.arguments
                last = event.last
    if not last:  # it breaks off: its text is told as such
        content += f"{names.pop()}{arguments.pop()}"
    decoded = (msgspec.json.decode(text, type=dict[str, Any]) for text in arguments)
    return Read(content, thinking, tuple(zip(names, decoded, strict=True)))


class Unsaid(Struct, frozen=True):
    """What of an answer need not be shown: texts that carry nothing of what a model has to say.

    Args:
        marks: Wherever they stand.
        closers: Right behind a call, or behind its arguments.
    """

    marks: frozenset[str] = frozenset()
    closers: frozenset[str] = frozenset({"}", "]", "```"})


def tokens_of(text: str) -> list[str]:
    """Cut a text about as tokenizers do: marks are whole, words have the blank before them."""
    return _TOKENS.findall(text)


def ways_to_cut(text: str) -> Iterator[list[str]]:
    """Give a text whole, by characters, by tokens, and in two at each place."""
    yield [text]
    yield list(text)
    yield tokens_of(text)
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]


def check_reading(
    parser: ChatParser, spec: AnswerSpec, text: str, reason: EndReason = "stop"
) -> Read:
    """Give what is read of an answer, which must not depend on how it is cut.

    Raises:
        AssertionError: If it does.
    """
    whole = read(parser, spec, [text], reason)
    _check_ways(parser, spec, ways_to_cut(text), reason, whole)
    return whole


def _check_ways(
    parser: ChatParser,
    spec: AnswerSpec,
    ways: Iterable[list[str]],
    reason: EndReason,
    expected: Read,
) -> None:
    for pieces in ways:
        found = read(parser, spec, pieces, reason)
        assert found == expected, f"{pieces!r} is read as {found}, otherwise as {expected}"


def check_truncation(
    parser: ChatParser,
    spec: AnswerSpec,
    text: str,
    unsaid: Unsaid | None = None,
    reason: EndReason = "length",
) -> None:
    """Have an answer read that ends at each place: nothing raises, and no letter is lost.

    Each letter is of a call of the whole answer, or shown, in order, or of what need not be; white
    space does not count. What is read must not depend on how the text comes: whole or letter by
    letter, and where a limit ends it behind a token, by tokens and in two at each place, too.

    Args:
        parser: Of the family.
        spec: Of the answer.
        text: All of the answer.
        unsaid: What need not be shown; None: the marks that the parser has to see.
        reason: Why it ends. One that stops by itself may be an `OutputError`, and what is there of
            a call may count as one.

    Raises:
        AssertionError: If it is not so.
    """
    unsaid = Unsaid(parser.start(spec).kept) if unsaid is None else unsaid
    whole = _calls(_told(parser, spec, text, "length")[1])
    token_ends = {0, *accumulate(map(len, tokens_of(text)))}
    for end in range(len(text) + 1):
        cut = text[:end]
        try:
            written, told = _told(parser, spec, cut, reason)
        except OutputError:
            assert reason == "stop", f"{cut!r} is an error"
            continue
        calls = _calls(told)
        if reason != "stop":
            assert calls == whole[: len(calls)], f"of {cut!r} is read {calls}, of all {whole}"
        lost = _lost(written, told, unsaid)
        assert not lost, f"of {cut!r} is lost {lost!r}, told is {[event for _, event in told]}"
        all_ways = reason != "stop" and end in token_ends
        ways = ways_to_cut(cut) if all_ways else [[cut]]
        _check_ways(parser, spec, ways, reason, joined([event for _, event in told]))


def _told(
    parser: ChatParser, spec: AnswerSpec, text: str, reason: EndReason
) -> tuple[str, list[tuple[int, OutputEvent]]]:
    """What is told of an answer letter by letter, after how many; and the answer up to its end."""
    output = parser.start(spec)
    told: list[tuple[int, OutputEvent]] = []
    fed = 0
    while fed < len(text) and not output.ended:
        fed += 1
        told += [(fed, event) for event in output.feed(text[fed - 1])]
    told += [(fed, event) for event in output.finish(reason)]
    return text[:fed], told


def _calls(told: Sequence[tuple[int, OutputEvent]]) -> list[tuple[str, str, str]]:
    """Of each whole call what is shown before it, its name, its arguments."""
    calls: list[tuple[str, str, str]] = []
    shown = name = arguments = ""
    for _, event in told:
        if not isinstance(event, CallPart):
            shown += event.text
            continue
        name, arguments = name + event.name, arguments + event.arguments
        if event.last:
            calls.append((shown, name, arguments))
            name = arguments = ""
    return calls


def _lost(written: str, told: Sequence[tuple[int, OutputEvent]], unsaid: Unsaid) -> str:
    """What is not shown of what is written behind the last call, or behind the last call's name.

    Up to there it is told as it is of the whole answer.
    """
    at, shown = 0, ""
    for fed, event in told:
        if isinstance(event, CallPart) and (event.name or event.last):
            at, shown = fed, ""
        else:
            shown += event.arguments if isinstance(event, CallPart) else event.text
    left = _squeezed(written[at:])
    if at:
        left = re.sub(rf"\A(?:{_any_of(unsaid.closers)})*", "", left)
    return _missing(re.sub(_any_of(unsaid.marks), "", left), _squeezed(shown))


def _any_of(texts: Iterable[str]) -> str:
    """A pattern of any of some texts, white space left out."""
    squeezed = {re.escape(_squeezed(text)) for text in texts}
    return "|".join(sorted(squeezed, key=len, reverse=True))


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _missing(written: str, shown: str) -> str:
    """The characters of one text that another lacks, in order; the other may have more."""
    rest = iter(shown)
    return "".join(character for character in written if character not in rest)
