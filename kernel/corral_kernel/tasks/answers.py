"""Two answers to one prompt, beside each other."""

from msgspec import Struct

CHARACTERS = 24
"""So much of each text is shown where two texts part that have no tokens in common."""


class Answer(Struct, frozen=True, kw_only=True):
    """What one model said to one prompt.

    Args:
        text: The answer's.
        tokens: Of it; 0: the engine does not tell.
        decode_ns: For all but the first.
        token_ids: And what follows from them only where the engine gives logits.
        best_ids: The likeliest tokens as it reads the first model's answer.
        pieces: The bytes of each token.
        offsets: Bytes of `text` there are after each.
        vocabulary: Equal for equal vocabularies; empty: the engine tells of none.
        prompt_ids: Of the prompt.
        divergences: From the other model's distributions, along its answer.
    """

    text: str
    tokens: int
    decode_ns: int
    token_ids: tuple[int, ...] = ()
    best_ids: tuple[int, ...] = ()
    pieces: tuple[bytes, ...] = ()
    offsets: tuple[int, ...] = ()
    vocabulary: bytes = b""
    prompt_ids: tuple[int, ...] = ()
    divergences: tuple[float, ...] = ()


class Difference(Struct, frozen=True, kw_only=True):
    """Where two answers part.

    Args:
        token: Of the first model's answer, from 0; null: its engine tells of no tokens.
        character: Of the text, from 0.
        a: The first model's token there, or some text; empty: its answer is over.
        b: The second one's.
    """

    token: int | None
    character: int
    a: str
    b: str


class PromptResult(Struct, frozen=True, kw_only=True):
    """Both answers to one prompt.

    Args:
        prompt: As it was given.
        a: The first model's answer; `b`: the second one's.
        tokens: Of the first; 0: its engine does not tell.
        first_difference: Null: the answers are equal.
        same_prompt: Whether both were fed the same token ids; null: unknown, or two vocabularies.
        kl: Divergence of the second model from the first after each part of the first's answer, in
            nats; empty: see `kl_reason`.
        kl_mean: Of these.
        kl_max: The largest.
    """

    prompt: str
    a: str
    b: str
    tokens: int
    first_difference: Difference | None
    same_prompt: bool | None
    kl: tuple[float, ...]
    kl_mean: float | None
    kl_max: float | None


def different_vocabularies(a: Answer, b: Answer) -> str:
    """Why the second model cannot read the first one's tokens; empty: it can."""
    if not a.vocabulary or not b.vocabulary:
        which = "first" if not a.vocabulary else "second"
        return f"the {which} model's engine gives no logits"
    if a.vocabulary != b.vocabulary:
        return "the models have different vocabularies"
    return ""


def result_of(prompt: str, a: Answer, b: Answer) -> PromptResult:
    """Compare two answers."""
    shared = not different_vocabularies(a, b)
    kl = b.divergences
    return PromptResult(
        prompt=prompt,
        a=a.text,
        b=b.text,
        tokens=a.tokens,
        first_difference=_by_tokens(a, b) if shared else _by_text(a, b),
        same_prompt=a.prompt_ids == b.prompt_ids if shared else None,
        kl=kl,
        kl_mean=sum(kl) / len(kl) if kl else None,
        kl_max=max(kl, default=None),
    )


def _by_tokens(a: Answer, b: Answer) -> Difference | None:
    pairs = zip(a.token_ids, b.token_ids, strict=False)
    shorter = min(len(a.token_ids), len(b.token_ids))
    place = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), shorter)
    if place == len(a.token_ids) == len(b.token_ids):
        return None
    return Difference(token=place, character=_common(a, b), a=_piece(a, place), b=_piece(b, place))


def _by_text(a: Answer, b: Answer) -> Difference | None:
    if a.text == b.text:
        return None
    start = _common(a, b)
    byte = len(a.text[:start].encode())
    token = next((i for i, offset in enumerate(a.offsets) if offset > byte), None)
    if token is None and a.offsets:
        token = len(a.offsets)
    shown = slice(start, start + CHARACTERS)
    return Difference(token=token, character=start, a=a.text[shown], b=b.text[shown])


def _common(a: Answer, b: Answer) -> int:
    """Characters that both texts begin with."""
    pairs = enumerate(zip(a.text, b.text, strict=False))
    shorter = min(len(a.text), len(b.text))
    return next((i for i, (ours, theirs) in pairs if ours != theirs), shorter)


def _piece(answer: Answer, place: int) -> str:
    return answer.pieces[place].decode("utf-8", "replace") if place < len(answer.pieces) else ""
