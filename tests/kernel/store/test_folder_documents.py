"""The small files of a folder, whatever is in them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corral_kernel.errors import InvalidRequestError
from corral_kernel.models import FILE_TYPE, ModelFile
from corral_kernel.store.documents import FolderTexts, folder_config, read_texts
from corral_kernel.store.govalues import go_json

KEYS = st.sampled_from(
    [
        "model",
        "type",
        "context_length",
        "decoder",
        "filename",
        "hidden_size",
        "model_type",
        "chat_template",
        "name",
        "template",
        "max_seq_length",
        "max_position_embeddings",
        "x",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["llama", "model.onnx", "default", "x" * 100, "a\nb", "\x00"]),
)
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        "genai_config.json",
        "config.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
        "chat_template.jinja",
        "1_Pooling/config.json",
        "model.onnx",
        "tokenizer.json",
    ]
)
CONTENTS = st.one_of(st.binary(max_size=20), VALUES.map(lambda value: json.dumps(value).encode()))


def texts_of(contents: dict[str, bytes]) -> FolderTexts:
    blobs = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in contents.values()}
    files = [
        ModelFile(
            media_type=FILE_TYPE,
            digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
            size_bytes=len(data),
            path=Path("/nowhere"),
            name=name,
        )
        for name, data in contents.items()
    ]
    return read_texts(files, lambda digest, limit: blobs[digest][:limit])


@given(st.dictionaries(NAMES, CONTENTS))
def test_whatever_they_say_there_is_a_config_or_a_clear_refusal(
    contents: dict[str, bytes],
) -> None:
    texts = texts_of(contents)
    assert isinstance(texts.template, str)
    assert texts.documents.keys() <= contents.keys()
    try:
        config = folder_config(texts, contents)
    except InvalidRequestError:
        return
    assert not texts.problem
    assert config.model_format == "onnx"
    assert config.model_family.isprintable()
    assert len(config.model_family) <= 80
    assert 0 <= config.context_length < 2**31
    assert 0 <= config.embedding_length < 2**31
    go_json(config.to_document())


@given(VALUES)
def test_documents_are_decoded_as_they_are(value: Any) -> None:
    raw = json.dumps(value)
    texts = texts_of({"genai_config.json": raw.encode()})
    assert texts.problem == ""
    assert repr(texts.documents["genai_config.json"]) == repr(json.loads(raw))
