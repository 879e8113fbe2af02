"""What an engine is given, checked before native code sees it: many libraries read past tables.

For backends; each raises in words that reach the client.
"""

from collections.abc import Sequence

from corral_kernel.contracts import Encodable, EngineInfo, Part, Prompt, TextPart, TokenSegment
from corral_kernel.errors import InvalidRequestError, PromptTooLongError, UnsupportedError


def prompt_ids(prompt: Prompt, info: EngineInfo) -> list[int]:
    """Token ids of a prompt of text.

    Raises:
        UnsupportedError: If it holds media.
        InvalidRequestError: If it is empty, or an id is no token.
        PromptTooLongError: If it is over the context.
    """
    ids: list[int] = []
    for segment in prompt.segments:
        if not isinstance(segment, TokenSegment):
            raise UnsupportedError("this engine takes no images or sounds")
        ids.extend(segment.token_ids)
    check_ids(ids, info.vocab_size)
    if not ids:
        raise InvalidRequestError("the prompt is empty, and the model adds no token to it")
    if len(ids) > info.context_tokens:
        raise PromptTooLongError(
            f"the prompt has {len(ids)} tokens; the context holds {info.context_tokens}"
        )
    return ids


def check_ids(token_ids: Sequence[int], vocab_size: int) -> None:
    """Make sure that ids are tokens.

    Raises:
        InvalidRequestError: If one is not.
    """
    if token_ids and (min(token_ids) < 0 or max(token_ids) >= vocab_size):
        raise InvalidRequestError(f"a token id out of range: they go from 0 to {vocab_size - 1}")


def check_encodable(item: Encodable, most_tokens: int, vocab_size: int) -> None:
    """Make sure that an encoder can take an item.

    Raises:
        PromptTooLongError: If it is over `most_tokens`.
        InvalidRequestError: If it is empty, or an id is no token.
    """
    if item.length > most_tokens:
        raise PromptTooLongError(
            f"the input has {item.length} tokens; the model takes {most_tokens}"
        )
    ids = item.token_ids
    if not ids:
        raise InvalidRequestError("the input is empty, and the model adds no token to it")
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise InvalidRequestError("the input holds token ids that are not this model's")


def joined_texts(parts: Sequence[Part]) -> list[tuple[str, bool]]:
    """Texts of a prompt, neighbours of one kind as one, and whether each may name control tokens.

    Raises:
        UnsupportedError: If a part is no text.
    """
    texts: list[tuple[str, bool]] = []
    for part in parts:
        if not isinstance(part, TextPart):
            raise UnsupportedError(f"this model takes no {part.kind}")
        if texts and texts[-1][1] == part.special:
            texts[-1] = (texts[-1][0] + part.text, part.special)
        else:
            texts.append((part.text, part.special))
    return texts


def sound_text(text: str) -> str:
    """A text that has bytes: pairs of surrogates as what they mean, lone ones as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
