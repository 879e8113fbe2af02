"""How a tokenizer cuts texts before it joins pieces, as llama.cpp names it.

llama.cpp has each way of cutting in its code, under a name; a tokenizer.json describes it. A way
that is not known here is refused: the model would be fed other tokens than it was trained on.
"""

from typing import Final

from corral_kernel.errors import UnsupportedError
from corral_safetensors.settings import Settings
from corral_safetensors.vocabulary.document import Document

_ENDINGS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST: Final = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED: Final = r"[^\r\n\p{L}\p{N}]?"

_LLAMA3: Final = rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}{_SIGNS}{_REST}"
_SPLITS: Final = {
    rf"{_ENDINGS}|{_WORD}|\p{{N}}{_SIGNS}{_REST}": "qwen2",
    (
        rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_REST}"
    ): "qwen35",
    (
        rf"{_CASED}{_UPPER}*{_LOWER}+|{_CASED}{_UPPER}+{_LOWER}*|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_REST}"
    ): "tekken",
    (
        rf"{_CASED}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_CASED}{_UPPER}+{_LOWER}*{_ENDINGS}?"
        rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_REST}"
    ): "gpt-4o",
}


def pre_tokenizer_name(document: Document) -> str:
    """llama.cpp's name of a way of cutting.

    Raises:
        UnsupportedError: If it has none that is known here.
    """
    steps = document.steps("pre_tokenizer")
    kinds = [step.text("type", "") for step in steps]
    if kinds and kinds[-1] == "ByteLevel" and not steps[-1].flag("add_prefix_space", default=False):
        cuts_words = steps[-1].flag("use_regex", default=True)
        if kinds == ["ByteLevel"] and cuts_words:
            return "roberta-bpe" if _separates(document) else "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and cuts_words:
            if steps[0].flag("individual_digits", default=False):
                return "smollm"
        elif kinds == ["Split", "ByteLevel"] and not cuts_words:
            name = _by_pattern(steps[0], document)
            if name:
                return name
    raise UnsupportedError(
        f"unknown pre-tokenizer {' + '.join(kinds) or 'none'} in tokenizer.json{_pattern_of(steps)}"
        "; llama.cpp would cut texts in another way than the model was trained for"
    )


def _by_pattern(step: Settings, document: Document) -> str | None:
    pattern = step.part("pattern").text("Regex", "")
    if step.text("behavior", "") != "Isolated" or step.flag("invert", default=False):
        return None
    if pattern == _LLAMA3:
        whole_words = document.model.flag("ignore_merges", default=False)
        return "llama-bpe" if whole_words else "dbrx"
    return _SPLITS.get(pattern)


def _separates(document: Document) -> bool:
    return any(
        step.text("type", "") == "RobertaProcessing" for step in document.steps("post_processor")
    )


def _pattern_of(steps: list[Settings]) -> str:
    patterns = [step.part("pattern").text("Regex", "") for step in steps if step.has("pattern")]
    return f" with the pattern {patterns[0]!r}" if patterns and patterns[0] else ""
