"""What is printed is read back the same, and no text does worse than being refused."""

import contextlib
import string

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral_kernel.gotext import nearest_float32
from corral_kernel.modelfile import (
    INSTRUCTIONS,
    KNOWN_PARAMETERS,
    ROLES,
    Instruction,
    ModelfileError,
    parse,
    parse_parameter,
    read_instructions,
)
from corral_kernel.store.govalues import plain

EXAMPLES = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=500,
    suppress_health_check=[HealthCheck.too_slow],
)
TEXTS = st.text(
    st.one_of(
        st.sampled_from('"""\'# \t\r\na\\{}'),
        st.characters(codec="utf-8"),
    )
)
NAMES = st.text(string.ascii_letters + string.digits + "_", max_size=8)

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False).map(nearest_float32)


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    keyword = draw(st.sampled_from(INSTRUCTIONS))
    names = {"parameter": NAMES, "message": st.sampled_from(ROLES)}
    name = draw(names[keyword]) if keyword in names else ""
    return Instruction(keyword, draw(TEXTS), name)


@EXAMPLES
@given(st.lists(instructions().filter(lambda item: item.is_sayable)))
def test_what_is_printed_is_read_back_the_same(items: list[Instruction]) -> None:
    items = [*items, Instruction("from", "a")]
    assert read_instructions("\n".join(map(str, items))) == tuple(items)


@EXAMPLES
@given(instructions().filter(lambda item: not item.is_sayable))
def test_what_is_said_not_to_be_sayable_is_not(item: Instruction) -> None:
    before, after = Instruction("from", "a"), Instruction("from", "b")
    with contextlib.suppress(ModelfileError):
        assert read_instructions(f"{before}\n{item}\n{after}") != (before, item, after)


@EXAMPLES
@given(st.one_of(TEXTS, st.binary()))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(ModelfileError):
        parse(text)


@EXAMPLES
@given(st.data())
def test_a_parameter_of_each_type_is_read_as_it_was_printed(data: st.DataObject) -> None:
    values = {
        "integer": st.integers(-(2**53), 2**53),
        "float32": FLOATS,
        "boolean": st.booleans(),
        "array": TEXTS,
        "string": TEXTS,
    }
    name = data.draw(st.sampled_from(sorted(KNOWN_PARAMETERS)))
    value = data.draw(values[KNOWN_PARAMETERS[name]])
    item = Instruction("parameter", plain(value), name)
    if not item.is_sayable:
        return
    (read, _) = read_instructions(f"{item}\nFROM a")
    assert parse_parameter(name, read.value) == value
