"""What tokenizer.json and tokenizer_config.json say, checked as far as it is used."""

from collections.abc import Iterator
from typing import Any, Final

from corral_kernel.errors import InvalidModelError
from corral_safetensors.settings import Settings
from corral_safetensors.source import ModelFiles
from corral_safetensors.vocabulary.vocabulary import Added

TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_MOST_STEPS: Final = 64
_MOST_NUMBER: Final = 2**31


class Document:
    """A tokenizer's description.

    Args:
        source: The model.
    """

    def __init__(self, source: ModelFiles) -> None:
        self._said = source.mapping(TOKENIZER)
        self.config = Settings(source.mapping(TOKENIZER_CONFIG), TOKENIZER_CONFIG)
        self._listed = source.mapping("added_tokens.json")
        self._decoder = source.mapping(TOKENIZER_CONFIG).get("added_tokens_decoder")

    @property
    def model(self) -> Settings:
        """How texts become tokens."""
        return Settings(self._said, TOKENIZER).part("model")

    def vocabulary(self) -> dict[str, int]:
        """Tokens and their numbers.

        Raises:
            InvalidModelError: If there are none, or they are no such thing.
        """
        found = self._raw_model().get("vocab")
        if not isinstance(found, dict) or not all(
            isinstance(number, int) and not isinstance(number, bool) for number in found.values()
        ):
            raise InvalidModelError(f"vocab of {TOKENIZER} is to map tokens to numbers")
        return found

    def scored(self) -> list[tuple[str, float]]:
        """Tokens and their scores, by number.

        Raises:
            InvalidModelError: If there are none, or they are no such thing.
        """
        found = self._raw_model().get("vocab")
        if not isinstance(found, list) or not all(map(_is_scored, found)):
            raise InvalidModelError(f"vocab of {TOKENIZER} is to list tokens with their scores")
        return [(text, float(score)) for text, score in found]

    def unknown_number(self) -> int:
        """The number of the token for what has no other, in a vocabulary with scores."""
        found = self._raw_model().get("unk_id")
        return found if isinstance(found, int) and found >= 0 else 0

    def merges(self) -> list[tuple[str, str]]:
        """Pairs that are joined, the first of them first.

        Raises:
            InvalidModelError: If they are no such thing.
        """
        found = self._raw_model().get("merges") or []
        pairs = [tuple(one.split(" ")) if isinstance(one, str) else one for one in found]
        if not all(_is_pair(pair) for pair in pairs):
            raise InvalidModelError(f"merges of {TOKENIZER} are to be pairs of tokens")
        return [(left, right) for left, right in pairs]

    def added(self) -> list[Added]:
        """Tokens beside the vocabulary proper, each once."""
        found = {one.number: one for one in self._added()}
        return [found[number] for number in sorted(found)]

    def _added(self) -> Iterator[Added]:
        for text, number in self._listed.items():
            yield _added(number, {"content": text})
        decoder = self._decoder if isinstance(self._decoder, dict) else {}
        for number, token in decoder.items():
            yield _added(int(number) if number.isascii() and number.isdigit() else -1, token)
        listed = self._said.get("added_tokens") or []
        if not isinstance(listed, list):
            raise InvalidModelError(f"added_tokens of {TOKENIZER} is to be a list")
        for token in listed:
            yield _added(token.get("id") if isinstance(token, dict) else None, token)

    def steps(self, part: str) -> list[Settings]:
        """The steps of a part (`normalizer`, `pre_tokenizer`, `post_processor`), sequences undone.

        Raises:
            InvalidModelError: If it is no such thing.
        """
        found: list[Settings] = []
        waiting = [self._said.get(part)]
        while waiting:
            step = waiting.pop(0)
            if step is None:
                continue
            if not isinstance(step, dict) or len(found) + len(waiting) > _MOST_STEPS:
                raise InvalidModelError(f"{part} of {TOKENIZER} is no list of at most 64 steps")
            inner = step.get({"pre_tokenizer": "pretokenizers"}.get(part, f"{part}s"))
            if step.get("type") == "Sequence" and isinstance(inner, list):
                waiting = [*inner, *waiting]
            else:
                found.append(Settings(step, f"{part} of {TOKENIZER}"))
        return found

    def _raw_model(self) -> dict[str, Any]:
        found = self._said.get("model")
        return found if isinstance(found, dict) else {}


def _is_scored(entry: object) -> bool:
    match entry:
        case [str(), int() | float() as score]:
            return abs(score) < _MOST_NUMBER
    return False


def _is_pair(pair: object) -> bool:
    match pair:
        case (str(), str()):
            return True
    return False


def _added(number: object, token: object) -> Added:
    content = token.get("content") if isinstance(token, dict) else None
    if (
        not isinstance(number, int)
        or not 0 <= number < _MOST_NUMBER
        or not isinstance(content, str)
    ):
        raise InvalidModelError("an added token of the tokenizer has no number, or no text")
    assert isinstance(token, dict)
    return Added(number, content, special=token.get("special") is True)
