"""What the servers are asked. Fixed, so that runs can be compared; no two begin alike."""

from typing import Any, Final

_PLACES: Final = ("a lighthouse", "a mountain hut", "a railway town", "an old mill", "a harbour")
_PEOPLE: Final = ("the keeper", "a clockmaker", "two sisters", "a young doctor", "the ferryman")
_THINGS: Final = (
    "a map with one road missing",
    "a letter from another century",
    "a bell that nobody rang",
    "three black stones",
    "a book without an end",
    "a lamp that burned under water",
    "the key of a house that had fallen down",
)

FIELDS: Final = (
    "name",
    "city",
    "age",
    "married",
    "children",
    "job",
    "income",
    "likes_music",
    "colour",
    "rating",
)
"""The ten fields of the structured answer."""

PERSON: Final = (
    "Invent a person and describe them: name, city, age, whether married, number of children, job,"
    " income, whether they like music, favourite colour, and a rating from 1 to 5. Person number"
)


def endless(number: int) -> str:
    """Begin a text that goes on and on; different numbers begin with different tokens.

    Four kinds in turn. Where an answer ends differs from library to library, and a short one
    counts as a slow one: these are of a kind that a small model, too, does not end soon.
    """
    place = _PLACES[number % len(_PLACES)]
    who = _PEOPLE[number // 2 % len(_PEOPLE)]
    thing = _THINGS[number % len(_THINGS)]
    counted = ", ".join(str(number + 10 + step) for step in range(4))
    kinds = (
        f"Gulls seen by {who}. Day 1: 14 gulls. Day 2: 9 gulls. Day 3: 21 gulls. Day 4:",
        f"{who} in {place} counts aloud: {counted},",
        f"Pages about {thing}: page 1, page 2, page 3, page 4, page 5,",
        f"Clock of {place}: 01:00, all is well. 02:00, all is well. 03:00, all is well. 04:00,",
    )
    return f"{number + 1}. {kinds[number % len(kinds)]}"


def history(number: int, characters: int) -> str:
    """Write a long text, to be the beginning of a conversation."""
    lines = [f"Log {number + 1}."]
    size = 0
    while size < characters:
        day = len(lines)
        thing = _THINGS[(day * 3 + number) % len(_THINGS)]
        who = _PEOPLE[day % len(_PEOPLE)]
        lines.append(f"On day {day}, {who} wrote about {thing}, counting {day * 7 + number} gulls.")
        size += len(lines[-1]) + 1
    return " ".join(lines)[:characters]


def person_schema() -> dict[str, Any]:
    """The JSON Schema of an answer with the ten `FIELDS`, every one bounded."""
    word = {"type": "string", "maxLength": 12}
    kinds: tuple[dict[str, Any], ...] = (
        word,
        word,
        {"type": "integer", "minimum": 18, "maximum": 99},
        {"type": "boolean"},
        {"type": "integer", "minimum": 0, "maximum": 9},
        word,
        {"type": "integer", "minimum": 0, "maximum": 999999},
        {"type": "boolean"},
        {"enum": ["red", "green", "blue", "yellow"]},
        {"type": "integer", "minimum": 1, "maximum": 5},
    )
    return {
        "type": "object",
        "properties": dict(zip(FIELDS, kinds, strict=True)),
        "required": list(FIELDS),
        "additionalProperties": False,
    }
