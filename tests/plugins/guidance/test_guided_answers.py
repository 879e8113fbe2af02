import datetime as dt
import gc
import json
import random
import subprocess
import sys
import threading
import uuid
import weakref
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from corral_guidance import corral_constraints, trying
from corral_guidance.kinds import JsonType, SchemaType
from corral_kernel.contracts import Constraint, ConstraintType, Tokenizer
from corral_kernel.errors import InvalidFormatError

STEPS = 600


def padded(tokenizer: Tokenizer) -> int:
    """A width of logits beyond the tokens, as models have it."""
    return len(tokenizer.pieces) + 37


def allowed(constraint: Constraint, tokenizer: Tokenizer) -> list[int]:
    out = np.full((padded(tokenizer) + 31) // 32, 0xFFFFFFFF, np.uint32)
    assert constraint.mask(out)
    bits = np.unpackbits(out.view(np.uint8), bitorder="little")
    return [int(i) for i in bits.nonzero()[0]]


def answer(constraint: Constraint, tokenizer: Tokenizer, draw: random.Random) -> tuple[str, bool]:
    """Draw tokens that the mask allows, structure rather than text. Gives the text, and whether it
    came to its end.
    """
    ids: list[int] = []
    for _ in range(STEPS):
        for token in constraint.forced():
            assert constraint.accept(token)
            ids.append(token)
        if constraint.finished():
            return tokenizer.decode(ids).decode(), True
        choices = allowed(constraint, tokenizer)
        ends = [i for i in choices if i in tokenizer.end_ids]
        closing = [i for i in choices if tokenizer.pieces[i][-1:] in b'"]}' and i not in ends]
        token = draw.choice((closing if draw.random() < 0.4 else ends) or choices)
        assert constraint.accept(token)
        if token in tokenizer.end_ids:
            assert constraint.finished()
            return tokenizer.decode(ids).decode(), True
        ids.append(token)
    return tokenizer.decode(ids).decode(errors="ignore"), False


class Pet(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    kind: Literal["cat", "dog"]
    age: int
    tags: list[str]
    born: dt.date
    key: uuid.UUID
    weight: float | None = None
    friend: "Pet | None" = None


PET = {
    "$ref": "#/$defs/Pet",
    "$defs": {
        "Pet": {
            "title": "Pet",
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 12},
                "kind": {"enum": ["cat", "dog"]},
                "age": {"type": "integer", "minimum": 0, "maximum": 30},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
                "born": {"type": "string", "format": "date"},
                "key": {"type": "string", "format": "uuid"},
                "weight": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
                "friend": {"anyOf": [{"$ref": "#/$defs/Pet"}, {"type": "null"}], "default": None},
            },
            "required": ["name", "kind", "age", "tags", "born", "key"],
        }
    },
}


@pytest.mark.parametrize("seed", range(8))
def test_every_answer_to_json_is_an_object(tokenizer: Tokenizer, seed: int) -> None:
    constraint = JsonType().compile("json", tokenizer, padded(tokenizer))
    text, whole = answer(constraint, tokenizer, random.Random(seed))
    assert text.startswith("{")
    if whole:
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("seed", range(8))
def test_every_answer_to_a_schema_is_an_instance_of_it(tokenizer: Tokenizer, seed: int) -> None:
    constraint = SchemaType().compile(PET, tokenizer, padded(tokenizer))
    text, whole = answer(constraint, tokenizer, random.Random(seed))
    assert text.startswith('{"name": "')
    if not whole:
        return
    pet = msgspec.json.decode(text, type=Pet)
    assert 0 <= pet.age <= 30
    assert len(pet.tags) <= 3
    order = list(Pet.__struct_fields__)
    assert list(json.loads(text)) == [key for key in order if f'"{key}": ' in text]


@pytest.mark.parametrize("kind", [JsonType(), SchemaType()], ids=lambda kind: str(kind.name))
def test_most_answers_come_to_an_end(kind: ConstraintType, tokenizer: Tokenizer) -> None:
    spec: Any = "json" if kind.name == "json" else PET
    ended = [
        answer(kind.compile(spec, tokenizer, padded(tokenizer)), tokenizer, random.Random(seed))[1]
        for seed in range(20)
    ]
    assert sum(ended) >= 12


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "multipleOf": 7}, "21", "22"),
        ({"type": "string", "pattern": "^[a-c]{2,3}$"}, '"abc"', '"abd"'),
        ({"oneOf": [{"const": 1}, {"type": "string", "minLength": 2}]}, '"ab"', '"a"'),
        ({"enum": ["é", None, {"a": [1]}]}, '{"a": [1]}', '{"a": [2]}'),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, "[true, false]", "[true]"),
        ({"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": False},
         '{"xa": 1}', '{"a": 1}'),
        ({"properties": {"a": {}, "b": {}}, "type": "object"}, '{"a": 1, "b": 2}', '{"c": 1}'),
        ({"properties": {"a": {}, "b": {}}, "type": "object"}, '{"b": 2}', '{"b": 2, "a": 1}'),
        ({"allOf": [{"properties": {"a": {"type": "null"}}}, {"required": ["a"]}],
          "type": "object"}, '{"a": null}', '{"b": null}'),
        ({"type": "string", "format": "date-time"}, '"2024-07-03T09:46:40Z"', '"yesterday"'),
        ({"type": ["null", "number"]}, "-1.5e3", "true"),
        ({"type": "object", "additionalProperties": False}, "{}", '{"a": 1}'),
        ({"type": "object", "properties": {}, "additionalProperties": False}, "{}", '{"a": 1}'),
        ({"type": "object", "properties": {}}, "{}", "[]"),
        ({"type": "object", "properties": {}}, '{"a": 1}', '{"a"}'),
        ({"type": "object"}, "{}", "null"),
        ({"type": "object", "properties": {"a": {}, "b": {}}}, "{}", '{"c": 1}'),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, '{"a": {}}', "{}"),
        ({"type": "object", "maxProperties": 0}, "{}", '{"a": 1}'),
        ({"type": "object", "minProperties": 1}, '{"a": {}}', "{}"),
        ({"const": {}}, "{}", '{"a": 1}'),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)  # fmt: skip
def test_keywords_are_enforced(
    tokenizer: Tokenizer, schema: dict[str, Any], good: str, bad: str
) -> None:
    assert takes(SchemaType().compile(schema, tokenizer, padded(tokenizer)), tokenizer, good)
    assert not takes(SchemaType().compile(schema, tokenizer, padded(tokenizer)), tokenizer, bad)


def takes(constraint: Constraint, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is allowed, and may end there."""
    ids = tokenizer.encode(text, special=False)
    end = min(tokenizer.end_ids)
    return all(constraint.accept(token) for token in ids) and constraint.accept(end)


def test_blanks_in_json_come_to_an_end(tokenizer: Tokenizer) -> None:
    constraint = JsonType().compile("json", tokenizer, padded(tokenizer))
    newline, blank = (tokenizer.encode(text, special=False)[0] for text in "\n ")
    for token in tokenizer.encode("{", special=False):
        assert constraint.accept(token)
    assert constraint.accept(newline)
    taken = 0
    while constraint.accept(blank):
        taken += 1
        assert taken < 100
    assert taken == 20
    assert not constraint.accept(newline)
    pretty = tokenizer.encode('"a" : [\n1, 2 ]\n}', special=False)
    assert all(constraint.accept(token) for token in pretty)
    assert constraint.finished()


def test_a_refused_token_changes_nothing(tokenizer: Tokenizer) -> None:
    constraint = SchemaType().compile(PET, tokenizer, padded(tokenizer))
    start = tokenizer.encode('{"name": "x", "kind": "c', special=False)
    for index, token in enumerate(start):
        before = allowed(constraint, tokenizer)
        for other in range(0, padded(tokenizer), 7):
            if other not in before:
                assert not constraint.accept(other)
        for end in tokenizer.end_ids:
            assert not constraint.accept(end)
        assert allowed(constraint, tokenizer) == before, f"at token {index}"
        assert constraint.accept(token)
    assert constraint.forced()


def test_control_tokens_and_columns_without_a_token_are_never_allowed(tokenizer: Tokenizer) -> None:
    constraint = JsonType().compile("json", tokenizer, padded(tokenizer))
    for token in tokenizer.encode('{"a": "', special=False):
        assert constraint.accept(token)
    choices = allowed(constraint, tokenizer)
    assert len(choices) > 50
    assert not tokenizer.control_ids & {*choices}
    assert max(choices) < len(tokenizer.pieces)
    for token in (*tokenizer.control_ids, len(tokenizer.pieces) + 1):
        assert not constraint.accept(token)


def test_every_end_is_allowed_where_the_answer_may_end_and_nowhere_else(
    tokenizer: Tokenizer,
) -> None:
    for end in tokenizer.end_ids:
        constraint = SchemaType().compile({"type": "integer"}, tokenizer, padded(tokenizer))
        assert not constraint.accept(end)
        assert constraint.allows([end]) == 0
        (one,) = tokenizer.encode("1", special=False)
        assert constraint.accept(one)
        assert tokenizer.end_ids <= {*allowed(constraint, tokenizer)}
        assert constraint.allows([end]) == 1
        assert not constraint.finished()
        assert constraint.accept(end)
        assert constraint.finished()
        assert not constraint.accept(one)
        assert constraint.forced() == ()
        assert constraint.allows([one]) == 0


def test_drafts_are_counted_and_change_nothing(tokenizer: Tokenizer) -> None:
    constraint = SchemaType().compile(PET, tokenizer, padded(tokenizer))
    right = tokenizer.encode('{"name": "', special=False)
    wrong = tokenizer.encode("nonsense", special=False)
    assert constraint.allows([]) == 0
    assert constraint.allows(right) == len(right)
    assert constraint.allows(right[:-1] + wrong) == len(right) - 1
    assert constraint.allows(right) == len(right)


def test_what_leaves_no_choice_is_forced(tokenizer: Tokenizer) -> None:
    names = ["first_name", "last_name", "street", "postal_code"]
    schema = {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in names},
        "required": names,
    }
    constraint = SchemaType().compile(schema, tokenizer, padded(tokenizer))
    forced = drawn = 0
    while not constraint.finished():
        tokens = constraint.forced()
        assert constraint.allows(tokens) == len(tokens)
        for token in tokens:
            assert constraint.accept(token)
        forced += len(tokens)
        if not constraint.finished():
            assert constraint.accept(allowed(constraint, tokenizer)[0])
            drawn += 1
    assert drawn <= 5
    assert forced > 8 * drawn


def test_jobs_of_one_grammar_do_not_disturb_each_other(tokenizer: Tokenizer) -> None:
    kind = SchemaType()
    first, second = (kind.compile(PET, tokenizer, padded(tokenizer)) for _ in range(2))
    for token in tokenizer.encode('{"name": "', special=False):
        assert first.accept(token)
    word, begin = (tokenizer.encode(text, special=False) for text in ("xyz", '{"'))
    assert (first.allows(word), second.allows(word)) == (len(word), 0)
    assert second.allows(begin) == len(begin)


def test_text_threads_compile_and_run_at_once(tokenizer: Tokenizer) -> None:
    kind = SchemaType()
    texts: list[str] = []

    def run(seed: int) -> None:
        schema = {**PET, "title": f"schema {seed % 3}"}
        constraint = kind.compile(schema, tokenizer, padded(tokenizer))
        texts.append(answer(constraint, tokenizer, random.Random(seed))[0])

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 9
    assert all(text.startswith('{"name": "') for text in texts)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum .5. is greater than maximum"),
        ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"type": "string", "pattern": r"(a)\1"}, "backreferences are not supported"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "#/oneOf: branches 0 and 1 may"),
        ({"type": "object", "required": ["a"], "properties": {"a": False}}, "format at #: "),
    ],
    ids=["unsatisfiable", "bad pattern", "backreference", "overlapping oneOf", "impossible"],
)
def test_what_does_not_compile_is_an_invalid_format(
    tokenizer: Tokenizer, schema: dict[str, Any], message: str
) -> None:
    kind = SchemaType()
    for _ in range(2):  # the second answer comes from the cache
        with pytest.raises(InvalidFormatError, match=message):
            kind.compile(schema, tokenizer, padded(tokenizer))


def chain(links: int) -> dict[str, Any]:
    names: dict[str, Any] = {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(links)}
    return {"$ref": "#/$defs/a0", "$defs": {**names, f"a{links}": {"type": "string"}}}


def test_a_grammar_that_crashes_the_compiler_does_so_elsewhere(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidFormatError, match=r"too complex \(compiling it crashed\)"):
        SchemaType().compile(chain(3000), tokenizer, padded(tokenizer))


def test_a_grammar_that_compiles_for_long_is_given_up(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "TRIAL_SECONDS", 1)
    monkeypatch.setattr(trying, "WAIT_S", 100.0)
    with pytest.raises(InvalidFormatError, match=r"too complex \(compiling it took over"):
        SchemaType().compile({"multipleOf": 1_000_003}, tokenizer, padded(tokenizer))


def test_a_grammar_that_fills_its_memory_is_given_up(
    pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "TRIAL_SECONDS", 12)  # it takes four
    monkeypatch.setattr(trying, "WAIT_S", 100.0)
    monkeypatch.setattr(trying, "TRIAL_BYTES", 128 << 20)  # it takes 300 MB
    with pytest.raises(InvalidFormatError, match=r"too complex \(compiling it crashed\)"):
        SchemaType().compile({"multipleOf": 1_000_003}, pieces, padded(pieces))
    assert SchemaType().compile({"multipleOf": 1_003}, pieces, padded(pieces))


def test_a_grammar_that_fails_after_a_few_bytes_is_refused_beforehand(
    tokenizer: Tokenizer,
) -> None:
    many = {"type": "object", "properties": {f"f{i}": {"type": "string"} for i in range(1000)}}
    with pytest.raises(InvalidFormatError, match="Current row has"):
        SchemaType().compile(many, tokenizer, padded(tokenizer))


def test_a_tokenizer_that_is_gone_takes_its_grammars_along(tokenizer: Tokenizer) -> None:
    kind = SchemaType()
    own = type(tokenizer)()
    gone = weakref.ref(own)
    assert kind.compile({"type": "null"}, own, padded(own)).forced()
    del own
    gc.collect()
    assert gone() is None


def test_there_are_no_kinds_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["json", "schema", "regex", "choice", "lark", "gbnf"]
    assert [kind.name for kind in corral_constraints()] == names
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert corral_constraints() == []


def test_checking_loads_no_native_library() -> None:
    code = (
        "import sys; from corral_guidance import corral_constraints\n"
        "for kind in corral_constraints(): kind.check(kind.examples[0])\n"
        "print('llguidance' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False\n"
