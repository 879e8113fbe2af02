"""From a `PromptSpec` to a prompt that fits: render, tokenize, truncate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from corral_kernel.contracts import (
    ChatRenderer,
    Conversation,
    Message,
    Part,
    Prompt,
    TextPart,
    TokenEngine,
    Tokenizer,
    TokenSegment,
)
from corral_kernel.errors import (
    PluginError,
    PromptTooLongError,
    TemplateError,
    UnsupportedError,
)
from corral_kernel.frames import PromptSpec
from corral_kernel.worker.literals import Marks, Spellings

CHARACTERS_PER_TOKEN = 128
"""No tokenizer's tokens are longer on the average: text beyond so many is not worth tokenizing."""


@dataclass(frozen=True, slots=True)
class Built:
    """A prompt and what was left out of it."""

    prompt: Prompt
    parts: Sequence[Part]
    dropped_messages: int = 0
    dropped_tokens: int = 0

    @property
    def text(self) -> str:
        """The rendered text."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class PromptBuilder:
    """Builds prompts for one engine; used by several text threads at once.

    Args:
        engine: Whose tokenizer and context length count.
        renderers: By name.
    """

    def __init__(self, engine: TokenEngine, renderers: dict[str, ChatRenderer]) -> None:
        self._engine = engine
        self._renderers = renderers
        self._spellings = Spellings(engine.tokenizer)

    def build(self, spec: PromptSpec, *, now: float, num_keep: int, shift: bool) -> Built:
        """Render and tokenize, and shorten what is over the context length as the spec allows.

        Raises:
            PromptTooLongError: If it stays over the context length.
            TemplateError: If the template fails.
        """
        context_tokens = self._engine.info.context_tokens
        built = self._whole(spec, now, drop=0)
        if spec.drop_messages and not self._fits(built) and len(spec.messages) > 1:
            built = self._drop(spec, now)
        if spec.cut_middle and built is not None and built.prompt.length > context_tokens - 1:
            built = self._cut(built, num_keep, shift=shift)
        if built is None or not self._fits(built):
            length = f"over {context_tokens}" if built is None else built.prompt.length
            raise PromptTooLongError(f"it has {length} tokens, and {context_tokens} fit (num_ctx)")
        if built.prompt.length == 0:
            raise UnsupportedError(
                "the prompt comes to no tokens at all, and the model adds none of its own"
            )
        return built

    def _fits(self, built: Built | None) -> bool:
        return built is not None and built.prompt.length <= self._engine.info.context_tokens

    def _whole(self, spec: PromptSpec, now: float, drop: int) -> Built | None:
        """Render and tokenize; None: so long that it cannot fit, and is not tokenized."""
        parts = self._render(spec, now, drop)
        if spec.context_ids:
            before = decode(self._engine.tokenizer, spec.context_ids)
            parts = [TextPart(before), *parts]
        dropped = len(spec.messages) - len(without(spec.messages, drop))
        merged = _merged(parts)
        limit = CHARACTERS_PER_TOKEN * self._engine.info.context_tokens
        if sum(len(part.text) for part in merged if isinstance(part, TextPart)) > limit:
            if not spec.cut_middle:
                return None
            merged = [_ends(part, limit) for part in merged]
        return Built(self._engine.prepare(merged), parts, dropped)

    def _render(self, spec: PromptSpec, now: float, drop: int) -> Sequence[Part]:
        tokenizer = self._engine.tokenizer
        conversation = conversation_of(spec, now, drop)
        marks = Marks(self._spellings) if spec.literal else None
        conversation = msgspec.structs.replace(
            conversation,
            messages=tuple(map(marks.hide, conversation.messages))
            if marks
            else conversation.messages,
            bos=_literal(tokenizer, tokenizer.bos_id),
            eos=_literal(tokenizer, tokenizer.eos_id),
        )
        parts = render(spec, conversation, self._renderers)
        return marks.show(parts) if marks else parts

    def _drop(self, spec: PromptSpec, now: float) -> Built | None:
        """Leave out the fewest old messages; the last one stays even if it is too long."""
        most = len(spec.messages) - 1
        tried: dict[int, Built | None] = {}

        def fits(drop: int) -> bool:
            tried[drop] = self._whole_from(spec, now, drop, most)
            return self._fits(tried[drop])

        drop = first_true(fits, 1, most)
        return tried[drop] if drop in tried else self._whole_from(spec, now, drop, most)

    def _whole_from(self, spec: PromptSpec, now: float, drop: int, most: int) -> Built | None:
        """Leave out so many messages, or one more where the template refuses what is left.

        Some templates want the first turn to be the user's.
        """
        try:
            return self._whole(spec, now, drop)
        except TemplateError:
            if drop == most:
                raise
        return self._whole(spec, now, drop + 1)

    def _cut(self, built: Built, num_keep: int, *, shift: bool) -> Built:
        """Keep the first few tokens and the tail that leaves half of the rest free."""
        if not shift:
            raise PromptTooLongError("the prompt is too long, and the context may not shift")
        segments = built.prompt.segments
        if not all(isinstance(segment, TokenSegment) for segment in segments):
            return built  # media stay whole
        ids = built.prompt.history()
        context_tokens = self._engine.info.context_tokens
        keep = kept_tokens(self._engine.tokenizer, num_keep, len(ids), context_tokens - 1)
        length = context_tokens - max((context_tokens - keep) // 2, 1)
        cut = (*ids[:keep], *ids[len(ids) - (length - keep) :])
        return Built(
            Prompt((TokenSegment(cut),)),
            built.parts,
            built.dropped_messages,
            dropped_tokens=len(ids) - len(cut),
        )


def conversation_of(spec: PromptSpec, now: float, drop: int = 0) -> Conversation:
    """Make the conversation that a renderer is given, less the first `drop` messages."""
    messages, tools = without(spec.messages, drop), spec.tools
    if spec.shown_names:
        messages = tuple(_renamed(message, spec.shown_names) for message in messages)
        tools = tuple(_shown(tool, spec.shown_names) for tool in tools)
    return Conversation(
        messages=messages, now=now, think=spec.think, suffix=spec.suffix, tools=tools
    )


def _renamed(message: Message, names: Mapping[str, str]) -> Message:
    return msgspec.structs.replace(
        message,
        tool_calls=tuple(_shown(call, names) for call in message.tool_calls),
        tool_name=names.get(message.tool_name, message.tool_name),
    )


def _shown(given: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A tool, or a call of one, by the name that templates show."""
    function = given.get("function") or {}
    name = function.get("name", "")
    return {**given, "function": {**function, "name": names.get(name, name)}}


def render(
    spec: PromptSpec, conversation: Conversation, renderers: Mapping[str, ChatRenderer]
) -> Sequence[Part]:
    """Render a conversation by the template of a spec; a text is taken as it is.

    Raises:
        PluginError: If no plugin of this process renders such templates.
        TemplateError: If the template fails.
    """
    if spec.text is not None:
        return [TextPart(spec.text, special=not spec.literal)]
    renderer = renderers.get(spec.renderer)
    if renderer is None:
        raise PluginError(f"no plugin gives the chat format {spec.renderer!r} here")
    return renderer.render(spec.template, conversation)


def kept_tokens(tokenizer: Tokenizer, num_keep: int, length: int, limit: int) -> int:
    """How many leading tokens survive a cut: `num_keep`, all for a negative one, BOS besides."""
    keep = length if num_keep < 0 else num_keep + (1 if tokenizer.adds_bos else 0)
    return max(0, min(keep, length, limit))


def without(messages: tuple[Message, ...], drop: int) -> tuple[Message, ...]:
    """The messages less the first `drop`, of which those of the system stay."""
    return (*(m for m in messages[:drop] if m.role == "system"), *messages[drop:])


def first_true(test: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest value in [low, high] that passes, of a test that once true stays so; or high."""
    while low < high:
        middle = (low + high) // 2
        if test(middle):
            high = middle
        else:
            low = middle + 1
    return low


def decode(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    """The text of token ids that a client sent.

    Raises:
        UnsupportedError: If an id is none of this model's.
    """
    count = len(tokenizer.pieces)
    wrong = next((i for i in token_ids if not 0 <= i < count), None)
    if wrong is not None:
        raise UnsupportedError(f"context holds token id {wrong}; this model has {count} tokens")
    return tokenizer.decode(token_ids).decode("utf-8", "replace")


def _literal(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.pieces[token_id].decode("utf-8", "replace")


def _ends(part: Part, limit: int) -> Part:
    """Beginning and end of a text that is to be cut in the middle anyway."""
    if not isinstance(part, TextPart) or len(part.text) <= 2 * limit:
        return part
    return TextPart(part.text[:limit] + part.text[-limit:], part.special)


def _merged(parts: Sequence[Part]) -> list[Part]:
    """Neighbouring texts of one kind as one: they are tokenized together, as they are read."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if (
            isinstance(part, TextPart)
            and isinstance(last, TextPart)
            and part.special == last.special
        ):
            merged[-1] = TextPart(last.text + part.text, part.special)
        else:
            merged.append(part)
    return merged
