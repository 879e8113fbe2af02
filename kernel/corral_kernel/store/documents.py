"""The small files of a model that is a folder: what they say of it, read without trusting them."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

import msgspec

from corral_kernel.errors import InvalidModelError, InvalidRequestError
from corral_kernel.foldernames import GENAI_CONFIG
from corral_kernel.models import UNKNOWN, ModelConfig, ModelFile

TEMPLATE: Final = "chat_template.jinja"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"

# The longest that is in use: the tokenizer_config.json of Gemma 3, with 1.2 MB.
MAX_DOCUMENT_BYTES: Final = 2 << 20
MAX_DOCUMENTS_BYTES: Final = 4 << 20
MAX_TEMPLATE_BYTES: Final = 1 << 20
# JSON that says nothing of a model and is long: vocabularies, and where tensors lie.
_NO_DOCUMENTS: Final = frozenset({"tokenizer.json", "vocab.json"})
_INDEX_SUFFIX: Final = ".index.json"
_MAX_WORD: Final = 80
_MAX_NUMBER: Final = 2**31

Read = Callable[[str, int], bytes]  # digest, limit -> the beginning of a blob


class FolderTexts(msgspec.Struct, frozen=True, kw_only=True):
    """What the small files of a folder say."""

    documents: dict[str, Any] = {}
    template: str = ""
    problem: str = ""  # the first thing that is wrong with them


def read_texts(files: Sequence[ModelFile], read: Read) -> FolderTexts:
    """Read a folder's JSON files and its chat template. Their sizes must be known to be true.

    Files nearer to the root come first; what is then over `MAX_DOCUMENTS_BYTES` is left out, and so
    is each file that is longer than `MAX_DOCUMENT_BYTES`.

    Args:
        files: Of the folder.
        read: Gives their content.

    Raises:
        OSError: If one cannot be read.
    """
    documents: dict[str, Any] = {}
    problems: list[str] = []
    for file in _documents(files):
        try:
            documents[file.name] = _decoded(read(file.digest, MAX_DOCUMENT_BYTES), file.name)
        except InvalidModelError as error:
            problems.append(str(error))
    template = ""
    try:
        template = _template(files, documents, read)
    except InvalidModelError as error:
        problems.append(str(error))
    if any(file.name == GENAI_CONFIG and file.size_bytes > MAX_DOCUMENT_BYTES for file in files):
        problems.append(f"{GENAI_CONFIG} is over {MAX_DOCUMENT_BYTES} bytes")
    return FolderTexts(
        documents=documents, template=template, problem=problems[0] if problems else ""
    )


def _documents(files: Sequence[ModelFile]) -> Iterator[ModelFile]:
    left = MAX_DOCUMENTS_BYTES
    for file in sorted(files, key=lambda f: (f.name != GENAI_CONFIG, f.name.count("/"), f.name)):
        base = file.name.rpartition("/")[2].lower()
        is_one = base.endswith(".json") and base not in _NO_DOCUMENTS
        if not is_one or base.endswith(_INDEX_SUFFIX):
            continue
        if file.size_bytes <= min(left, MAX_DOCUMENT_BYTES):
            left -= file.size_bytes
            yield file


def _decoded(raw: bytes, name: str) -> Any:
    """Decode JSON in which nothing can hide: of a key that stands twice, readers differ."""
    try:
        return json.loads(raw.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        why = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidModelError(f"{name} is damaged: {why}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _template(files: Sequence[ModelFile], documents: dict[str, Any], read: Read) -> str:
    for file in files:
        if file.name == TEMPLATE:
            raw = read(file.digest, MAX_TEMPLATE_BYTES + 1)
            if len(raw) > MAX_TEMPLATE_BYTES:
                raise InvalidModelError(f"{TEMPLATE} is over {MAX_TEMPLATE_BYTES} bytes")
            try:
                return raw.decode()
            except UnicodeDecodeError as error:
                raise InvalidModelError(f"{TEMPLATE} is no UTF-8 text: {error}") from None
    given = _section(documents, TOKENIZER_CONFIG).get("chat_template")
    if isinstance(given, list):
        named = [item for item in given if isinstance(item, dict)]
        given = next((i.get("template") for i in named if i.get("name") == "default"), None)
    return given if isinstance(given, str) else ""


# ----------------------------------------------------------------------- what a config takes of it


def folder_config(texts: FolderTexts, names: Collection[str]) -> ModelConfig:
    """Tell what the small files of a folder say for the config of a model.

    Raises:
        InvalidRequestError: If they are damaged, or cannot be those of a model.
    """
    if texts.problem:
        raise InvalidRequestError(texts.problem)
    facts = _genai(texts, names) if GENAI_CONFIG in names else _encoder(texts)
    family = facts.get("model_family", "")
    return ModelConfig(
        model_format="onnx",
        model_families=(family,) if family else None,
        file_type=UNKNOWN,
        **facts,
    )


def _genai(texts: FolderTexts, names: Collection[str]) -> dict[str, Any]:
    model = _section(texts.documents, GENAI_CONFIG, "model")
    family = _word(model.get("type"))
    if not family:
        raise InvalidRequestError(
            f'{GENAI_CONFIG} names no "type" of its "model": it is no ONNX GenAI configuration'
        )
    decoder = _section(model, "decoder")
    filename = decoder.get("filename")
    if isinstance(filename, str) and filename not in names:
        raise InvalidRequestError(
            f"{GENAI_CONFIG} names {filename[:_MAX_WORD]!r} as the decoder's file, "
            "which is not among the files"
        )
    return {
        "model_family": family,
        "context_length": _number(model.get("context_length")),
        "embedding_length": _number(decoder.get("hidden_size")),
    }


def _encoder(texts: FolderTexts) -> dict[str, Any]:
    config = _section(texts.documents, "config.json")
    longest = _section(texts.documents, "sentence_bert_config.json").get("max_seq_length")
    return {
        "model_family": _word(config.get("model_type")),
        "context_length": _number(longest) or _number(config.get("max_position_embeddings")),
        "embedding_length": _number(config.get("hidden_size")),
    }


def _section(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        found = document.get(key)
        document = found if isinstance(found, dict) else {}
    return document


def _word(value: Any) -> str:
    """Take a short text on one line; anything else is none."""
    is_word = isinstance(value, str) and len(value) <= _MAX_WORD and value.isprintable()
    return value if is_word else ""


def _number(value: Any) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return value if is_count and 0 < value < _MAX_NUMBER else 0
