import datetime as dt
import decimal
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest

from corral_kernel.contracts import Constraint, ConstraintType, Tokenizer
from corral_kernel.errors import InvalidFormatError
from corral_kernel.gguf import read_header, read_value
from corral_kernel.sampling import Chooser, HistoryView

TINY_CHAT = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
LONG_PIECES = (
    '{"', '": ', '": "', '", "', ', "', '"}', "}", "{}", "[]", "[1", "true", "false", "null",
    "name", "size", "na", "me", "12", "34", "0.", "  ", "\n", "\n  ", "é", "🦙", "\\u00", '\\"',
)  # fmt: skip
BOS_ID, END_ID, STOP_ID = 256, 257, 258


class PieceTokenizer(Tokenizer):
    """Bytes, three control tokens and some longer pieces; the longest piece that fits is taken."""

    pieces = (
        [bytes([i]) for i in range(256)]
        + [b"<s>", b"</s>", b"<|stop|>"]
        + [piece.encode() for piece in LONG_PIECES]
    )
    control_ids = frozenset({BOS_ID, END_ID, STOP_ID})
    end_ids = frozenset({END_ID, STOP_ID})
    bos_id = BOS_ID

    def __init__(self) -> None:
        longest_first = sorted(self.pieces[259:], key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)) + b"|(?s:.)")
        self._ids = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: str, *, special: bool) -> list[int]:
        assert not special
        return [self._ids[piece] for piece in self._pattern.findall(text.encode())]


class TinyChatTokenizer(Tokenizer):
    """The vocabulary of tiny-chat, in which each token is a byte, written as GPT-2 writes bytes."""

    def __init__(self) -> None:
        header = read_header(TINY_CHAT)
        texts = read_value(TINY_CHAT, header.metadata["tokenizer.ggml.tokens"])
        types = read_value(TINY_CHAT, header.metadata["tokenizer.ggml.token_type"])
        assert isinstance(texts, tuple | list)
        assert isinstance(types, tuple | list)
        letters = bytes_of_letters()
        control = 3
        self.control_ids = frozenset(i for i, kind in enumerate(types) if kind == control)
        self.pieces = [
            str(text).encode()
            if i in self.control_ids
            else bytes(letters[letter] for letter in str(text))
            for i, text in enumerate(texts)
        ]
        self._ids = {p: i for i, p in enumerate(self.pieces) if i not in self.control_ids}
        end = header.special_token("eos")
        assert end is not None
        self.end_ids = frozenset({end})

    def encode(self, text: str, *, special: bool) -> list[int]:
        assert not special
        return [self._ids[bytes([byte])] for byte in text.encode()]


def bytes_of_letters() -> dict[str, int]:
    """GPT-2's table: printable bytes stand for themselves, others for letters from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in plain}
    others = (byte for byte in range(256) if byte not in plain)
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


@pytest.fixture(scope="session", params=["pieces", "tiny-chat"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return PieceTokenizer() if request.param == "pieces" else TinyChatTokenizer()


@pytest.fixture(scope="session")
def pieces() -> Tokenizer:
    return PieceTokenizer()


@pytest.fixture
def padded(tokenizer: Tokenizer) -> int:
    """A width of logits beyond the tokens, as models have it."""
    return len(tokenizer.pieces) + 37


def accepts(constraint: Constraint, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is allowed, and may end there."""
    ids = tokenizer.encode(text, special=False)
    end = min(tokenizer.end_ids)
    return all(constraint.accept(token) for token in ids) and constraint.accept(end)


@pytest.fixture
def takes(tokenizer: Tokenizer, padded: int) -> Callable[[ConstraintType, Any, str], bool]:
    def taken(kind: ConstraintType, spec: Any, text: str) -> bool:
        return accepts(kind.compile(spec, tokenizer, padded), tokenizer, text)

    return taken


@pytest.fixture
def takes_texts(pieces: Tokenizer) -> Callable[[str, Sequence[str]], list[bool]]:
    """Tell of each text whether a Lark grammar allows it, without a trial."""
    from llguidance import LLMatcher

    from corral_guidance.compiler import Failed, compiled
    from corral_guidance.matcher import GuidedConstraint
    from corral_guidance.vocabulary import guided_tokenizer

    native = guided_tokenizer(pieces, len(pieces.pieces))

    def taken(lark: str, texts: Sequence[str]) -> list[bool]:
        made = compiled(LLMatcher.grammar_from_lark(lark), native)
        assert not isinstance(made, Failed), made.why
        return [
            accepts(GuidedConstraint(made.matcher.deep_copy(), pieces.end_ids, made), pieces, text)
            for text in texts
        ]

    return taken


@pytest.fixture
def takes_schema(pieces: Tokenizer) -> Callable[[Any, Sequence[str]], list[bool]]:
    """Tell of each text whether a schema allows it as JSON, without a trial."""
    from corral_guidance.compiler import Failed, compiled
    from corral_guidance.kinds import SchemaType
    from corral_guidance.matcher import GuidedConstraint
    from corral_guidance.vocabulary import guided_tokenizer

    native = guided_tokenizer(pieces, len(pieces.pieces))

    def taken(schema: Any, texts: Sequence[str]) -> list[bool]:
        made = compiled(SchemaType().write(schema)[0], native)
        if isinstance(made, Failed):
            raise InvalidFormatError(made.why)
        return [
            accepts(
                GuidedConstraint(made.matcher.deep_copy(), pieces.end_ids, made),
                pieces,
                json.dumps(text, ensure_ascii=False),
            )
            for text in texts
        ]

    return taken


# ---------------------------------------------------------------------------- drawn answers


def drawn(
    constraint: Constraint, tokenizer: Tokenizer, seed: int, *, steps: int = 300
) -> tuple[bytes, bool]:
    """Draw an answer from random logits, through the kernel's own choice of tokens.

    Whatever closes something, and the end, becomes likelier by and by: else texts never end.

    Returns:
        The answer, and whether it came to its end.
    """
    width = len(tokenizer.pieces) + 37
    view = HistoryView(tokenizer, [0], 4096, seed)
    chooser = Chooser(
        [],
        view,
        constraint,
        vocab_size=width,
        piece_count=len(tokenizer.pieces),
        end_ids=sorted(tokenizer.end_ids),
    )
    random = np.random.default_rng(seed)
    closing = np.zeros(width, np.float32)
    for token_id, piece in enumerate(tokenizer.pieces):
        closing[token_id] = token_id in tokenizer.end_ids or piece[-1:] in (b'"', b"}", b"]")
    ids: list[int] = []
    for step in range(steps):
        for token_id in chooser.forced():
            chooser.accept(token_id)
            view.append([token_id])
            ids.append(token_id)
        if chooser.finished():
            return tokenizer.decode(ids), True
        row = random.normal(0, 2, width).astype(np.float32) + closing * (2 + step / 20)
        token_id = chooser.choose(row)
        if token_id in tokenizer.end_ids:
            return tokenizer.decode(ids), True
        view.append([token_id])
        ids.append(token_id)
    return tokenizer.decode(ids), False


# ------------------------------------------------------------------------------- validation

CHECKED = jsonschema.FormatChecker(formats=())
CHECKED.checks("date", ValueError)(lambda v: not isinstance(v, str) or dt.date.fromisoformat(v))
CHECKED.checks("time", ValueError)(lambda v: not isinstance(v, str) or dt.time.fromisoformat(v))
CHECKED.checks("date-time", ValueError)(
    lambda v: not isinstance(v, str) or dt.datetime.fromisoformat(v)
)
CHECKED.checks("ipv4", ValueError)(lambda v: not isinstance(v, str) or ipaddress.IPv4Address(v))
CHECKED.checks("ipv6", ValueError)(lambda v: not isinstance(v, str) or ipaddress.IPv6Address(v))
CHECKED.checks("uuid", ValueError)(
    lambda v: not isinstance(v, str) or str(uuid.UUID(v)) == v.lower()
)
MATCHED = {
    "duration": r"P(?!$)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)",
    "email": r"[^@\s]{1,64}@[a-zA-Z0-9-]{1,63}(\.[a-zA-Z0-9-]{1,63})*",
    "hostname": r"(?!.{254})(?!-)[a-zA-Z0-9-]{1,63}(?<!-)(\.(?!-)[a-zA-Z0-9-]{1,63}(?<!-))*",
    "json-pointer": r"(/([^~/]|~[01])*)*",
    "uri": r"[a-zA-Z][a-zA-Z0-9+.-]*:[^\s\"<>\\^`{|}]*",
    "uri-reference": r"[^\s\"<>\\^`{|}]*",
}
for name, pattern in MATCHED.items():
    CHECKED.checks(name)(
        lambda v, pattern=pattern: not isinstance(v, str) or bool(re.fullmatch(pattern, v))
    )


def number(digits: str) -> decimal.Decimal:
    try:
        return decimal.Decimal(digits)
    except decimal.InvalidOperation:  # an exponent of twenty digits is JSON
        return decimal.Decimal("-1e999999" if digits.startswith("-") else "1e999999")


def complaint(schema: Any, text: bytes) -> str:
    """What `jsonschema` says against an answer; numbers are compared as they are written."""
    with decimal.localcontext(prec=2000, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN):
        exact = json.loads(json.dumps(schema), parse_float=decimal.Decimal)
        value = json.loads(text, parse_float=number)
        kind = jsonschema.validators.validator_for(exact, jsonschema.Draft202012Validator)
        wrong = jsonschema.exceptions.best_match(
            kind(exact, format_checker=CHECKED).iter_errors(value)
        )
    return "" if wrong is None else f"{wrong.message} at {wrong.json_path}"


@pytest.fixture(scope="session")
def drawn_and_checked() -> Callable[[Any, Constraint, Tokenizer, int], bool]:
    """Draw an answer; one that came to its end satisfies the schema. Tells whether it did."""

    def work(schema: Any, constraint: Constraint, tokenizer: Tokenizer, seed: int) -> bool:
        text, ended = drawn(constraint, tokenizer, seed)
        if ended:
            assert not (why := complaint(schema, text)), f"{why}: {text!r} for {schema}"
        return ended

    return work


@pytest.fixture(scope="session")
def corpus() -> dict[str, Any]:
    """Schemas by name: those written by hand, and those put together by `generate.py`."""
    folder = Path(__file__).parent / "corpus"
    return {
        **json.loads((folder / "written.json").read_text()),
        **json.loads((folder / "generated.json").read_text()),
    }


@pytest.fixture(name="accepts", scope="session")
def accepts_fixture() -> Callable[..., bool]:
    return accepts


@pytest.fixture(scope="session")
def large(smollm2: Path) -> Iterator[Tokenizer]:
    """The vocabulary of a real model: 49,152 tokens."""
    import llama_cpp.llama_cpp as lib

    from corral_llamacpp.tokenizer import LlamaTokenizer

    silent = lib.llama_log_callback(lambda _level, _text, _data: None)
    lib.llama_log_set(silent, None)
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(str(smollm2).encode(), params)
    native = SimpleNamespace(vocab=lib.llama_model_get_vocab(model), model=model)
    tokenizer = LlamaTokenizer(native)
    yield tokenizer
    lib.llama_model_free(model)
