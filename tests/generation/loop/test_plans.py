"""Plans: free text up to a mark, forced text, constraints in the midst of an answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.contracts import Constrained, Free, Literal, Plan, Step, Trigger
from corral_kernel.errors import RemoteJobError
from corral_kernel.worker import course, marks

HOT = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}
Open = Callable[..., Any]


def plan(*steps: Step) -> Plan:
    return Plan(steps=steps)


def letters(count: int, letters: str = "xyz", **more: Any) -> Constrained:
    spec = {"type": "letters", "count": count, "letters": letters, **more}
    return Constrained(kind="letters", format=json.dumps(spec).encode())


def schema(value: Any) -> Constrained:
    return Constrained(kind="schema", format=json.dumps(value).encode())


NUMBER = schema({"type": "integer", "minimum": 100, "maximum": 99999})
WORD = schema({"enum": ["sun", "moon", "stars"]})


@pytest.fixture
def tiny(local: Open, models: Path) -> Any:
    return local(models / "tiny-chat-f32.gguf")


# ------------------------------------------------------------------------- marks and what follows


def test_a_constraint_begins_after_a_mark_and_the_answer_ends_with_it(local: Open) -> None:
    answer = local(None).answer("say this. and more", plan(Free(until="is."), letters(3)), **HOT)
    assert answer.text.startswith("say this.")
    assert len(answer.text) == len("say this.") + 3
    assert set(answer.text[-3:]) <= set("xyz")
    assert answer.done.reason == "stop"
    assert answer.done.forced_tokens == 0


def test_literal_text_is_forced_between_steps(local: Open) -> None:
    steps = plan(Free(until="b"), Literal(text="<one>"), letters(2), Literal(text="<two>"))
    answer = local(None).answer("abc", steps)
    assert answer.text[:7] + "," + answer.text[9:] == "ab<one>,<two>"
    assert answer.done.forced_tokens == len("<one><two>")
    assert answer.done.steps == 2 + 2
    assert answer.done.reason == "stop"


def test_what_is_forced_at_once_needs_no_step(tiny: Any) -> None:
    answer = tiny.answer("one two", plan(Literal(text=" three four"), Free()))
    assert answer.text.startswith(" three four five six")
    assert answer.done.prompt_tokens == len("one two")
    assert answer.done.steps == answer.done.output_tokens - len(" three four")
    free = tiny.answer("one two")
    assert free.text.startswith(answer.text[:30])


def test_a_plan_of_literal_text_alone_takes_one_step(tiny: Any) -> None:
    answer = tiny.answer("x", plan(Literal(text="just this")))
    assert (answer.text, answer.done.reason, answer.done.steps) == ("just this", "stop", 1)


def test_a_plan_of_one_constraint_is_a_plain_format(tiny: Any) -> None:
    for options in ({}, {**HOT, "seed": 4}):
        planned = tiny.answer("give me json", plan(WORD), **options)
        plain = tiny.answer("give me json", constraint="schema", format=WORD.format, **options)
        assert planned.text == plain.text
        assert json.loads(planned.text) in ("sun", "moon", "stars")


def test_the_last_mark_ends_the_answer_and_is_part_of_it(local: Open) -> None:
    answer = local(None).answer("one two three", plan(Free(until="wo")))
    assert (answer.text, answer.done.reason) == ("one two", "stop")


@pytest.mark.parametrize("most", [0, 1, 4, 7])
def test_a_budget_forces_the_mark(local: Open, most: int) -> None:
    steps = plan(Free(until="</think>", most_tokens=most), letters(2))
    answer = local(None).answer("a very long thought", steps)
    begun = "" if most == 0 else "a very long thought"[:most]
    assert answer.text[:-2] == begun + "</think>"
    assert answer.done.forced_tokens == len("</think>")
    assert answer.done.reason == "stop"


def test_a_mark_that_was_begun_when_the_budget_ends_is_completed(local: Open) -> None:
    steps = plan(Free(until="thought!", most_tokens=6), Literal(text="."))
    answer = local(None).answer("a thoughtless word", steps)
    assert answer.text == "a thought!."
    assert answer.done.forced_tokens == len("ght!.")


def test_a_mark_within_the_budget_is_not_forced(local: Open) -> None:
    answer = local(None).answer("ab.cd", plan(Free(until=".", most_tokens=50), Literal(text="!")))
    assert (answer.text, answer.done.forced_tokens) == ("ab.!", 1)


def test_where_the_model_would_end_before_the_mark_the_mark_is_forced(local: Open) -> None:
    answer = local(None).answer("abc", plan(Free(until="</t>"), letters(1, "z")))
    assert (answer.text, answer.done.reason) == ("abc</t>z", "stop")


def test_free_text_without_a_mark_ends_as_any_answer(local: Open) -> None:
    answer = local(None).answer("abc", plan(Free()))
    assert (answer.text, answer.done.reason) == ("abc", "stop")


# ---------------------------------------------------------------------------------- triggers


def test_a_trigger_begins_a_constraint_and_free_text_goes_on_after_it(local: Open) -> None:
    trigger = Trigger(mark="<call>", steps=(letters(2), Literal(text="</call>")))
    text = "I say <call>.........later <call>.........end"
    answer = local(None).answer(text, plan(Free(triggers=(trigger,))), num_predict=80)
    first = answer.text.index("<call>") + 6
    assert set(answer.text[first : first + 2]) <= set("xyz")
    assert answer.text[first + 2 : first + 9] == "</call>"
    assert answer.text[first + 9 :].startswith("later <call>")  # echo goes on by position
    assert answer.text.count("</call>") == 2
    assert answer.text.endswith("end")
    assert answer.done.reason == "stop"


def test_of_several_triggers_the_first_to_be_complete_counts(local: Open) -> None:
    triggers = (
        Trigger(mark="cde", steps=(Literal(text="[1]"),)),
        Trigger(mark="bc", steps=(Literal(text="[2]"),)),
        Trigger(mark="abc", steps=(Literal(text="[3]"),)),
    )
    answer = local(None).answer("xabcdefg", plan(Free(triggers=triggers)))
    assert answer.text == "xabc[3]g"  # `bc` ends there too, and is shorter


def test_triggers_and_budgets_go_together(local: Open) -> None:
    trigger = Trigger(mark="b", steps=(Literal(text="(!)"),))
    steps = plan(Free(until="</t>", most_tokens=5, triggers=(trigger,)), Literal(text="."))
    answer = local(None).answer("abcdefghijklmnop", steps)
    assert answer.text == "ab(!)fgh</t>."  # what a trigger brings does not count


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("  ab...ab", "  ab[!]ab[!]"),  # behind what it began a text of its own begins
        ("x ab", "x ab"),
        ("ab...", "ab[!]"),
    ],
    ids=["blanks before it", "text before it", "nothing before it"],
)
def test_a_mark_may_count_only_at_the_start_of_its_text(
    local: Open, prompt: str, expected: str
) -> None:
    trigger = Trigger(mark="ab", steps=(Literal(text="[!]"),), at_start=True)
    answer = local(None).answer(prompt, plan(Free(triggers=(trigger,))))
    assert answer.text == expected


def test_an_end_that_a_constraint_allows_ends_its_part_alone(tiny: Any) -> None:
    steps = plan(Literal(text="size "), NUMBER, Literal(text=" cm, "), WORD, Literal(text="."))
    for seed in range(8):
        answer = tiny.answer("x", steps, seed=seed, num_predict=60, **HOT)
        number, _, rest = answer.text.removeprefix("size ").partition(" cm, ")
        assert 100 <= int(number) <= 99999
        assert rest in ('"sun".', '"moon".', '"stars".')
        assert answer.done.reason == "stop"


def test_after_an_open_constraint_the_next_token_is_drawn_anew(tiny: Any) -> None:
    for seed in range(8):
        answer = tiny.answer("x", plan(NUMBER, WORD), seed=seed, num_predict=60, **HOT)
        number, _, word = answer.text.partition('"')
        assert 100 <= int(number) <= 99999
        assert '"' + word in ('"sun"', '"moon"', '"stars"')


def test_a_constraint_that_does_not_compile_is_refused_at_once(tiny: Any) -> None:
    trigger = Trigger(mark="x", steps=(schema({"not": {}}),))
    with pytest.raises(Exception, match="not"):
        tiny.job("x", plan(Free(triggers=(trigger,))))


# ------------------------------------------------------------------------------ limits and stops


@pytest.mark.parametrize("count", range(13))
def test_num_predict_ends_a_plan_anywhere(local: Open, count: int) -> None:
    steps = plan(Free(until="b"), Literal(text="<one>"), letters(2, "z"), Literal(text="<2>"))
    whole = local(None).answer("abc", steps)
    cut = local(None).answer("abc", steps, num_predict=count)
    assert whole.text == "ab<one>zz<2>"
    assert cut.text == whole.text[:count]
    assert cut.done.reason == ("length" if count < len(whole.text) else "stop")
    assert cut.done.output_tokens == count


@pytest.mark.parametrize("stop", ["b", "b<o", "ne>", "zz", "<2>"])
def test_a_stop_string_ends_a_plan_anywhere(local: Open, stop: str) -> None:
    steps = plan(Free(until="b"), Literal(text="<one>"), letters(2, "z"), Literal(text="<2>"))
    answer = local(None).answer("abc", steps, stop=(stop,))
    assert (answer.text, answer.done.reason) == ("ab<one>zz<2>".split(stop, maxsplit=1)[0], "stop")


def test_a_literal_text_is_fed_through_a_full_window(local: Open, models: Path) -> None:
    small = local(models / "tiny-chat-f32.gguf", context_tokens=48)
    long = "0123456789" * 12
    steps = plan(Free(until=" ", most_tokens=3), Literal(text=long), WORD)
    answer = small.answer("one two three", steps, num_predict=200)
    head, _, tail = answer.text.partition(long)
    assert head.endswith(" ")
    assert json.loads(tail) in ("sun", "moon", "stars")
    without = small.answer("one two three", steps, num_predict=200, shift=False)
    assert without.done.reason == "length"
    assert answer.text.startswith(without.text)


def test_log_probabilities_go_with_each_token_of_a_plan(tiny: Any) -> None:
    steps = plan(Free(until=" "), Literal(text="ab"), WORD)
    answer = tiny.answer("one two", steps, logprobs=2)
    assert len(answer.logprobs) == answer.done.output_tokens
    assert b"".join(logprob.bytes for logprob in answer.logprobs) == answer.text.encode()
    certain = [logprob for logprob in answer.logprobs if not logprob.top]
    assert len(certain) == answer.done.forced_tokens >= 2
    assert all(logprob.logprob == 0 for logprob in certain)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 3}], ids=str)
def test_drafts_change_nothing_about_a_plan(
    local: Open, models: Path, options: dict[str, Any]
) -> None:
    path = models / "tiny-chat-f32.gguf"
    prompt = "one two three four. one two three four. one two three"
    values = {"type": "array", "items": {"const": "one two three four"}, "minItems": 2}
    trigger = Trigger(mark="four.", steps=(schema({**values, "maxItems": 2}),))
    steps = plan(Free(until="nine", most_tokens=60, triggers=(trigger,)), WORD)
    given = {"num_predict": 140, **options}
    plain = local(path).answer(prompt, steps, **given)
    drafted = local(path, drafts=6).answer(prompt, steps, **given)
    assert drafted.text == plain.text
    assert drafted.done.forced_tokens == plain.done.forced_tokens
    assert drafted.done.steps <= plain.done.steps


# ------------------------------------------------------------------- tokens that run past a mark


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is left of each token that is cut."""
    left: list[bytes] = []

    def noting(tokenizer: Any, data: bytes) -> list[int]:
        left.append(data)
        return marks.ids_of(tokenizer, data)

    monkeypatch.setattr(course, "ids_of", noting)
    return left


@pytest.mark.real
@pytest.mark.parametrize("mark", [". ", ", ", "s "])
def test_a_token_is_cut_at_a_mark_within_it(
    local: Open, smollm2: Path, mark: str, cuts: list[bytes]
) -> None:
    engine = local(smollm2)
    pieces = engine.engine.tokenizer.pieces
    for seed in range(5):
        options = {"temperature": 0.8, "seed": seed, "num_predict": 80, "want_ids": True}
        steps = plan(Free(until=mark, most_tokens=40), NUMBER)
        answer = engine.answer("Here is a list of things. The first", steps, logprobs=1, **options)
        _, found, tail = answer.text.partition(mark)
        assert found
        assert 100 <= int(tail) <= 99999
        assert answer.done.reason == "stop"
        ids = answer.done.token_ids[answer.done.prompt_tokens :]
        assert b"".join(pieces[token_id] for token_id in ids).decode() == answer.text
        assert [logprob.bytes for logprob in answer.logprobs] == [pieces[i] for i in ids]
    # A word's blank is the beginning of its token: what is left of one is the blank.
    assert set(cuts) == {b" "}


@pytest.mark.real
def test_a_token_is_cut_in_the_same_way_under_drafts(
    local: Open, smollm2: Path, cuts: list[bytes]
) -> None:
    prompt = "Sing with me: " + "one two three four five six seven. " * 4 + "one"
    steps = plan(Free(until="five si", most_tokens=30), WORD)
    plain = local(smollm2).answer(prompt, steps)
    drafted = local(smollm2, drafts=5).answer(prompt, steps)
    assert drafted.text == plain.text
    assert plain.text.startswith(' two three four five si"')
    assert cuts == [b" si"] * 2
    assert drafted.done.steps < plain.done.steps


@pytest.mark.real
def test_a_trigger_within_a_token_returns_to_free_text(local: Open, smollm2: Path) -> None:
    trigger = Trigger(mark=", ", steps=(Literal(text="["), NUMBER, Literal(text="]")))
    prompt = "Some fruits are apples, pears,"
    answer = local(smollm2).answer(prompt, plan(Free(triggers=(trigger,))), num_predict=60)
    assert answer.text.count(", [") >= 2
    for part in answer.text.split(", [")[1:]:
        number, found, _ = part.partition("]")
        assert not found or 100 <= int(number) <= 99999


def test_a_failing_constraint_in_a_plan_names_itself(local: Open) -> None:
    steps = plan(Free(until="b"), letters(3, trouble="raises", **{"in": "mask"}))
    with pytest.raises(RemoteJobError, match="format 'letters' failed: ValueError: no luck"):
        local(None).answer("abc", steps)
