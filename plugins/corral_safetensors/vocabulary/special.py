"""Special tokens, merges and the chat template, found by the `gguf` package itself."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError
from corral_safetensors.source import ModelFiles
from corral_safetensors.vocabulary.vocabulary import Vocabulary

_READ: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "chat_template.json",
    "chat_template.jinja",
)
# llama.cpp refuses a tokenizer without merges. This one joins two tokens to one that is none.
_NO_MERGES: Final = ["\u0120 \u0120"]
_WORDPIECES: Final = {
    "bos": "[CLS]",
    "eos": "[SEP]",
    "sep": "[SEP]",
    "unk": "[UNK]",
    "pad": "[PAD]",
    "mask": "[MASK]",
}


def write_special(
    source: ModelFiles, vocabulary: Vocabulary, writer: gguf.GGUFWriter, scratch: Path
) -> None:
    """Say them in a GGUF file.

    Args:
        source: The model.
        vocabulary: Its tokens.
        writer: Of the file.
        scratch: A folder, for a moment.

    Raises:
        InvalidModelError: If the files are of no form that is known.
    """
    try:
        with _folder(source, scratch) as folder:
            special = gguf.SpecialVocab(
                folder, load_merges=vocabulary.merges, n_vocab=len(vocabulary.tokens)
            )
        _complete(special, vocabulary)
        special.add_to_gguf(writer, quiet=True)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise InvalidModelError(
            f"the tokenizer's files are not as they are to be: {error}"
        ) from None


def _complete(special: gguf.SpecialVocab, vocabulary: Vocabulary) -> None:
    special.special_token_ids.pop("cls", None)  # which GGUF files have no place for
    if vocabulary.merges and not special.merges:
        special.merges = list(_NO_MERGES)
    if vocabulary.model == "bert":
        numbers = {token: number for number, token in enumerate(vocabulary.tokens)}
        for kind, token in _WORDPIECES.items():
            if token in numbers:
                special.special_token_ids.setdefault(kind, numbers[token])


@contextmanager
def _folder(source: ModelFiles, scratch: Path) -> Iterator[Path]:
    """A folder of the files that are looked at, under their names; the package wants one."""
    with tempfile.TemporaryDirectory(prefix="tokenizer-", dir=scratch) as name:
        folder = Path(name)
        for file in _READ:
            if file in source:
                if file.endswith(".json"):
                    source.mapping(file)  # checked before the package sees it
                else:
                    source.text(file)
                (folder / file).symlink_to(source.files[file].resolve())
        yield folder
