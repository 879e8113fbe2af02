"""What every parser of a chat format has to hold to, whatever its family writes."""

from collections.abc import Iterable, Iterator, Sequence
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


def ways_to_cut(text: str) -> Iterator[list[str]]:
    """Give a text whole, by characters, and in two at each place."""
    yield [text]
    yield list(text)
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
    for pieces in ways_to_cut(text):
        found = read(parser, spec, pieces, reason)
        assert found == whole, f"{pieces!r} is read as {found}, the whole as {whole}"
    return whole


def check_truncation(parser: ChatParser, spec: AnswerSpec, text: str) -> None:
    """Have an answer read that ends at each place: nothing raises, and no letter is lost.

    A letter may be part of a mark; what is neither content, thought nor call must be of one.

    Raises:
        AssertionError: If an answer without whole calls is shorter than what was written, less
            marks.
    """
    for end in range(len(text)):
        cut = text[:end]
        events = events_of(parser, spec, list(cut), "length")
        found = joined(events)
        shown = found.thinking + found.content
        if not any(isinstance(event, CallPart) for event in events):
            left = "".join(cut.split())
            for mark in sorted(parser.start(spec).kept, key=len, reverse=True):
                left = left.replace("".join(mark.split()), "")
            missing = _missing(left, "".join(shown.split()))
            assert not missing, f"of {cut!r} is lost: {missing!r}"


def _missing(written: str, shown: str) -> str:
    """The characters of one text that another lacks, in order; the other may have more."""
    rest = iter(shown)
    lost = [character for character in written if character not in rest]
    return "".join(lost)
