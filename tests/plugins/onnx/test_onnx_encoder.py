"""Vectors and scores of tiny graphs whose numbers are known, and of the real all-MiniLM."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer as Native
from tokenizers import models, pre_tokenizers, processors

from corral_kernel.contracts import Encodable, EncodeItem
from corral_kernel.errors import (
    InvalidModelError,
    InvalidRequestError,
    LoadError,
    PromptTooLongError,
    UnsupportedError,
)

Opener = Callable[..., Any]
WIDTH = 4
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three")
TABLE = np.random.default_rng(3).normal(0, 1, (len(WORDS), WIDTH)).astype(np.float32)
PART = np.array([[0.0] * WIDTH, [10.0] * WIDTH], np.float32)
LIMIT = 12


def tokenizer_file(folder: Path) -> None:
    native = Native(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    native.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    native.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    native.add_special_tokens(list(WORDS[:4]))
    native.save(str(folder / "tokenizer.json"))


def graph_file(
    folder: Path,
    name: str = "model.onnx",
    inputs: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
    element: int = TensorProto.INT64,
    classes: int = 0,
) -> None:
    """A graph that gives each token its row of a table, or that scores by their sum.

    The row of a second text's token is another; padding counts for the score unless masked.
    """
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["words"])]
    rows = "words"
    if "token_type_ids" in inputs:
        nodes.append(helper.make_node("Gather", ["part", "token_type_ids"], ["parts"]))
        nodes.append(helper.make_node("Add", ["words", "parts"], ["rows"]))
        rows = "rows"
    weights = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(PART, "part")]
    if classes:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "axis"], ["column"]),
            helper.make_node("Mul", [rows, "column"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "tokens"], ["sum"], keepdims=0),
            helper.make_node("MatMul", ["sum", "head"], ["logits"]),
        ]
        weights += [
            numpy_helper.from_array(np.array([-1], np.int64), "axis"),
            numpy_helper.from_array(np.array([1], np.int64), "tokens"),
            numpy_helper.from_array(np.ones((WIDTH, classes), np.float32), "head"),
        ]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])
    else:
        nodes.append(helper.make_node("Identity", [rows], ["last_hidden_state"]))
        output = helper.make_tensor_value_info(
            "last_hidden_state", TensorProto.FLOAT, ["n", "tokens", WIDTH]
        )
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(i, element, ["n", "tokens"]) for i in inputs],
        [output],
        weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)


def write_json(path: Path, document: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer_file(tmp_path)
    write_json(tmp_path / "config.json", {"max_position_embeddings": LIMIT})
    return tmp_path


@pytest.fixture
def encoder(open_model: Opener, folder: Path) -> Any:
    graph_file(folder)
    return open_model(folder)


@pytest.fixture
def cross_encoder(open_model: Opener, folder: Path) -> Any:
    graph_file(folder, classes=1)
    config = {"architectures": ["XForSequenceClassification"], "max_position_embeddings": LIMIT}
    write_json(folder / "config.json", config)
    return open_model(folder)


def encode(encoder: Any, *texts: str) -> NDArray[np.float32]:
    found: NDArray[np.float32] = encoder.encode(
        [encoder.tokenize(EncodeItem(text=text)) for text in texts]
    )
    return found


def rows_of(*words: str) -> NDArray[np.float32]:
    return TABLE[[WORDS.index(word) for word in ("[CLS]", *words, "[SEP]")]]


# ---------------------------------------------------------------------------------- vectors

POOLED: dict[str, Callable[[NDArray[np.float32]], Any]] = {
    "mean_tokens": lambda rows: rows.mean(axis=0),
    "cls_token": lambda rows: rows[0],
    "lasttoken": lambda rows: rows[-1],
    "max_tokens": lambda rows: rows.max(axis=0),
    "mean_sqrt_len_tokens": lambda rows: rows.sum(axis=0) / np.sqrt(len(rows)),
}


@pytest.mark.parametrize("mode", [None, *POOLED])
def test_rows_are_pooled_as_the_folder_says(
    open_model: Opener, folder: Path, mode: str | None
) -> None:
    graph_file(folder)
    if mode is not None:
        modes = {f"pooling_mode_{name}": name == mode for name in POOLED}
        write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": 4, **modes})
    pooled = POOLED[mode or "mean_tokens"]
    vectors = encode(open_model(folder), "one", "one two three two", "two")  # padded to the longest
    expected = [rows_of("one"), rows_of("one", "two", "three", "two"), rows_of("two")]
    np.testing.assert_allclose(vectors, [pooled(rows) for rows in expected], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
            "cls_token and max_tokens",
        ),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "Dense"),
    ],
    ids=["an unknown way", "two ways", "a layer after it"],
)
def test_vectors_that_would_be_wrong_are_not_made(
    open_model: Opener, folder: Path, name: str, document: Any, words: str
) -> None:
    graph_file(folder)
    write_json(folder / name, document)
    with pytest.raises(InvalidModelError, match=words):
        open_model(folder)


@pytest.mark.parametrize("inputs", [("input_ids",), ("input_ids", "attention_mask")])
@pytest.mark.parametrize("element", [TensorProto.INT32, TensorProto.INT64])
def test_a_graph_gets_the_inputs_that_it_names(
    open_model: Opener, folder: Path, inputs: Sequence[str], element: int
) -> None:
    graph_file(folder, "onnx/model.onnx", inputs, element)
    vector = encode(open_model(folder), "two one")[0]
    np.testing.assert_allclose(vector, rows_of("two", "one").mean(axis=0), rtol=1e-5)


def test_a_graph_that_pools_is_taken_at_its_word(open_model: Opener, folder: Path) -> None:
    """Whatever comes after it in the folder's files is in the graph too."""
    graph_file(folder)
    model = onnx.load(folder / "model.onnx")
    pooled = helper.make_node(
        "ReduceMax", ["last_hidden_state"], ["sentence_embedding"], axes=[1], keepdims=0
    )
    model.graph.node.append(pooled)
    model.graph.output.append(
        helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["n", WIDTH])
    )
    onnx.save(model, folder / "model.onnx")
    write_json(folder / "modules.json", [{"type": "sentence_transformers.models.Dense"}])
    vector = encode(open_model(folder), "one two")[0]
    np.testing.assert_allclose(vector, rows_of("one", "two").max(axis=0), rtol=1e-5)


def test_other_inputs_are_told(open_model: Opener, folder: Path) -> None:
    graph_file(folder, inputs=("input_ids", "pixel_values"))
    with pytest.raises(LoadError, match="pixel_values"):
        open_model(folder)


def test_a_text_is_cut_between_its_marks(encoder: Any) -> None:
    text = " ".join(["one"] * 30)
    item = encoder.tokenize(EncodeItem(text=text, limit=5))
    assert list(item.token_ids) == [2, 4, 4, 4, 3]
    assert item.full_length == 32
    whole = encoder.tokenize(EncodeItem(text=text))
    assert whole.length == whole.full_length == 32
    assert encoder.tokenize(EncodeItem(text=text, limit=1)).length == 1
    assert encoder.info.truncates_to == LIMIT


def test_an_empty_text_has_a_vector(encoder: Any) -> None:
    np.testing.assert_allclose(encode(encoder, "")[0], rows_of().mean(axis=0), rtol=1e-5)


def test_a_batch_of_many_lengths_is_as_each_alone(encoder: Any) -> None:
    texts = [" ".join(["two"] * length) for length in (1, 9, 3, 10, 2, 6, 1)]
    together = encode(encoder, *texts)
    alone = np.concatenate([encode(encoder, text) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([], InvalidRequestError),
        ([-1], InvalidRequestError),
        ([len(WORDS)], InvalidRequestError),
        ([4] * 5000, PromptTooLongError),
    ],
    ids=["none", "negative", "too large", "too many"],
)
def test_bad_inputs_are_refused(encoder: Any, ids: list[int], error: type[Exception]) -> None:
    with pytest.raises(error):
        encoder.encode([Encodable(ids, len(ids))])
    assert np.isfinite(encode(encoder, "one")).all()


def test_an_encoder_scores_no_pairs(encoder: Any) -> None:
    with pytest.raises(UnsupportedError, match="scores of pairs"):
        encoder.tokenize(EncodeItem(text="one", pair="two"))


def test_the_unfollowed_options_are_told(open_model: Opener, folder: Path) -> None:
    graph_file(folder)
    encoder = open_model(folder, num_batch=8, num_gpu=1, num_ctx=6)
    assert set(encoder.info.warnings) == {"num_batch", "num_gpu"}
    assert encoder.info.truncates_to == 6


# ----------------------------------------------------------------------------------- scores


def score(query: Sequence[str], passage: Sequence[str]) -> float:
    second = TABLE[[WORDS.index(word) for word in (*passage, "[SEP]")]] + 10
    return float(rows_of(*query).sum() + second.sum())


def test_a_cross_encoder_gives_one_score_a_pair(cross_encoder: Any) -> None:
    pairs = [(("one",), ("two",)), (("one",), ("three", "two", "one")), ((), ("two",))]
    items = [EncodeItem(text=" ".join(q), pair=" ".join(p)) for q, p in pairs]
    scores = cross_encoder.encode([cross_encoder.tokenize(item) for item in items])
    assert scores.shape == (3, 1)
    np.testing.assert_allclose(scores[:, 0], [score(q, p) for q, p in pairs], rtol=1e-4)
    assert cross_encoder.info.capabilities == ("rerank",)


@pytest.mark.parametrize(
    ("query", "passage", "limit", "kept"),
    [(2, 20, 12, (2, 7)), (20, 2, 12, (7, 2)), (20, 20, 12, (4, 5)), (1, 1, 3, (0, 0))],
)
def test_the_longer_text_of_a_pair_is_cut(
    cross_encoder: Any, query: int, passage: int, limit: int, kept: tuple[int, int]
) -> None:
    item = EncodeItem(text="one " * query, pair="two " * passage, limit=limit)
    found = cross_encoder.tokenize(item)
    assert list(found.token_ids) == [2, *[4] * kept[0], 3, *[5] * kept[1], 3]
    assert found.payload == [0] * (kept[0] + 2) + [1] * (kept[1] + 1)
    assert found.full_length == query + passage + 3


def test_marks_in_a_pair_are_text(cross_encoder: Any) -> None:
    item = cross_encoder.tokenize(EncodeItem(text="one [SEP]", pair="[CLS] two"))
    assert list(item.token_ids).count(3) == 2
    assert list(item.token_ids).count(2) == 1


def test_a_graph_of_several_classes_gives_no_score(open_model: Opener, folder: Path) -> None:
    graph_file(folder, classes=3)
    write_json(folder / "config.json", {"architectures": ["XForSequenceClassification"]})
    with pytest.raises(LoadError, match="wanted a score"):
        open_model(folder)


# ------------------------------------------------------------------------------------- real

SENTENCES = (
    "The cat sits on the mat.",
    "A dog is barking at the postman.",
    "Corral is a local server of language models, and everything behind its API is a plugin.",
    "Ünïcode and 日本語 in one sentence, with digits 12345.",
    "x",
    "How do I boil an egg so that the yolk stays soft? " * 3,
)


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / lengths
    return unit


@pytest.mark.real
def test_minilm_in_eight_bits_is_what_its_weights_say(
    open_model: Opener, minilm_onnx: Path, minilm_reference: Callable[..., NDArray[np.float32]]
) -> None:
    encoder = open_model(minilm_onnx)
    assert encoder.info.truncates_to == 256
    vectors = normalized(encode(encoder, *SENTENCES))
    reference = normalized(minilm_reference(SENTENCES))
    assert (vectors * reference).sum(axis=1).min() >= 0.998


@pytest.mark.real
def test_minilm_knows_which_texts_are_alike(open_model: Opener, minilm_onnx: Path) -> None:
    texts = ("A cat lies on a rug.", SENTENCES[0], SENTENCES[1])
    vectors = normalized(encode(open_model(minilm_onnx), *texts))
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


@pytest.mark.real
def test_what_stands_beside_a_text_does_not_change_its_vector(
    open_model: Opener, minilm_onnx: Path
) -> None:
    """The graph rounds by the largest number of a run, so that texts run one by one."""
    encoder = open_model(minilm_onnx)
    together = encode(encoder, *SENTENCES)
    for sentence, vector in zip(SENTENCES, together, strict=True):
        np.testing.assert_array_equal(encode(encoder, sentence)[0], vector)
