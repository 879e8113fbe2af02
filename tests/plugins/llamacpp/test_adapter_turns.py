"""Whose turn it is when jobs have different adapters."""

from corral_llamacpp.adapters import Turns


def test_one_set_alone_is_always_served() -> None:
    turns = Turns()
    assert [turns.choose([("a",), ("a",)]) for _ in range(20)] == [("a",)] * 20


def test_sets_take_turns_and_none_starves() -> None:
    turns = Turns()
    waiting = [("a",), ("b",), (), ("a",)]
    served = [turns.choose(waiting) for _ in range(48)]
    assert served == [("a",)] * 8 + [("b",)] * 8 + [()] * 8 + served[:24]


def test_a_set_with_nothing_to_feed_gives_up_its_turn() -> None:
    turns = Turns()
    assert turns.choose([("a",), ("b",)]) == ("a",)
    assert turns.choose([("b",)]) == ("b",)
    assert turns.choose([("a",), ("b",)]) == ("b",)  # it had just begun its own
    assert [turns.choose([("a",), ("b",)]) for _ in range(7)][-1] == ("a",)


def test_a_newcomer_is_served_before_those_who_were() -> None:
    turns = Turns()
    for _ in range(8):
        turns.choose([("a",), ("b",)])
    assert turns.choose([("a",), ("b",), ("c",)]) == ("b",)
    for _ in range(7):
        turns.choose([("a",), ("b",), ("c",)])
    assert turns.choose([("a",), ("b",), ("c",)]) == ("c",)
