"""A converted tokenizer cuts texts into the tokens that it was published with."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import pytest

from corral_kernel.errors import CorralError

# Their patterns tell capitals from small letters; llama.cpp's tell those of ASCII.
ASCII_CASES = {"tekken", "gpt-4o"}
BYTE_LEVEL = [
    "gpt-2",
    "roberta-bpe",
    "smollm",
    "llama-bpe",
    "qwen2",
    "qwen35",
    "tekken",
    "gpt-4o",
    "dbrx",
]
ROWS = 1200
Compare = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(making: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """A model with room for each token, and no tokenizer."""

    def make(name: str = "llama") -> Path:
        known = {**making.MODELS, **making.BERTS}
        config = {**known[name], "vocab_size": ROWS, "bos_token_id": None, "eos_token_id": None}
        shapes = making.bert_shapes if name in making.BERTS else making.shapes_of
        weights = making.random_weights(shapes(config), config)
        made: Path = making.write_model(tmp_path / "model", config, weights)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (made / file).unlink()
        return made

    return make


@pytest.fixture
def refused(folder: Callable[..., Path], converted: Callable[..., Path]) -> Callable[[str], str]:
    """What is said of a tokenizer.json."""

    def say(text: str) -> str:
        source = folder()
        (source / "tokenizer.json").write_text(text)
        with pytest.raises(CorralError) as caught:
            converted(source)
        return str(caught.value)

    return say


@pytest.fixture
def compare(converted: Callable[..., Path], llama: Callable[..., Any]) -> Compare:
    """Compares the tokens of texts, and gives the file's metadata."""

    def check(
        source: Path, tokenizer: Any, texts: Sequence[str], *, special: bool = False
    ) -> dict[str, Any]:
        out = converted(source)
        given = llama(out, texts=list(texts), special=special)["texts"]
        wanted = [tokenizer.encode(text, add_special_tokens=special).ids for text in texts]
        different = [
            (text, ours, theirs)
            for text, ours, theirs in zip(texts, given, wanted, strict=True)
            if ours != theirs
        ]
        assert not different
        return {name: one.contents() for name, one in gguf.GGUFReader(out).fields.items()}

    return check


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_tokenizers_are_recognised_and_give_the_same_tokens(
    folder: Callable[..., Path], compare: Compare, tokenizing: ModuleType, name: str
) -> None:
    assert tokenizing.BYTE_LEVEL.count(name) == 1
    source, tokenizer = folder(), tokenizing.byte_level(name)
    tokenizing.write_tokenizer(source, tokenizer, bos_token="<|begin|>", eos_token="<|end|>")
    texts = [one for one in tokenizing.TEXTS if name not in ASCII_CASES or one.isascii()]

    said = compare(source, tokenizer, texts)
    assert said["tokenizer.ggml.model"] == "gpt2"
    assert said["tokenizer.ggml.pre"] == name
    assert said["tokenizer.ggml.bos_token_id"] == tokenizer.token_to_id("<|begin|>")
    assert said["tokenizer.ggml.eos_token_id"] == tokenizer.token_to_id("<|end|>")


@pytest.mark.parametrize("name", ["roberta-bpe", "llama-bpe"])
def test_tokens_that_are_put_around_a_text_are_known(
    folder: Callable[..., Path], compare: Compare, tokenizing: ModuleType, name: str
) -> None:
    source, tokenizer = folder(), tokenizing.byte_level(name)
    tokenizing.write_tokenizer(source, tokenizer, bos_token="<|begin|>", eos_token="<|end|>")

    compare(source, tokenizer, ["Hello there", ""], special=True)


@pytest.mark.parametrize("form", ["llama", "metaspace", "gemma"])
def test_sentencepiece_is_read_from_tokenizer_json(
    folder: Callable[..., Path], compare: Compare, tokenizing: ModuleType, form: str
) -> None:
    source, tokenizer = folder(), tokenizing.joined(tokenizing.pieces(), form)
    tokenizing.write_tokenizer(source, tokenizer, bos_token="<s>", eos_token="</s>")
    texts = [text for text in tokenizing.TEXTS if "<unk>" not in text]
    if form == "metaspace":  # puts no space before a space; llama.cpp does, as SentencePiece
        texts = [text for text in texts if not text.startswith(" ")]

    said = compare(source, tokenizer, texts)
    assert said["tokenizer.ggml.model"] == "llama"
    assert said["tokenizer.ggml.add_space_prefix"] == (form != "gemma")
    compare(source, tokenizer, ["Hello there"], special=True)


@pytest.mark.parametrize("add_prefix", [True, False], ids=["with a space", "without a space"])
def test_sentencepiece_is_read_from_tokenizer_model(
    folder: Callable[..., Path], compare: Compare, tokenizing: ModuleType, *, add_prefix: bool
) -> None:
    source, pieces = folder(), tokenizing.pieces()
    model = tokenizing.sentencepiece_model(pieces, add_prefix=add_prefix)
    (source / "tokenizer.model").write_bytes(model)
    tokenizer = tokenizing.joined(pieces, "llama" if add_prefix else "gemma")
    texts = [text for text in tokenizing.TEXTS if "<unk>" not in text]

    said = compare(source, tokenizer, texts)
    assert said["tokenizer.ggml.tokens"][:3] == ["<unk>", "<s>", "</s>"]
    assert said["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    assert said["tokenizer.ggml.token_type"][-1] == 5


def test_added_tokens_stand_beside_a_tokenizer_model(
    folder: Callable[..., Path], converted: Callable[..., Path], llama: Callable[..., Any],
    tokenizing: ModuleType,
) -> None:  # fmt: skip
    source, pieces = folder(), tokenizing.pieces()
    (source / "tokenizer.model").write_bytes(tokenizing.sentencepiece_model(pieces))
    first = len(pieces)
    (source / "added_tokens.json").write_text(json.dumps({"<extra>": first}))
    decoder = {str(first + 2): {"content": "<|turn|>", "special": False}}
    (source / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))

    out = converted(source)
    (ids,) = llama(out, texts=["<extra><|turn|>"])["texts"]
    assert ids == [first, first + 2]


def test_unigram_gives_the_same_tokens(
    folder: Callable[..., Path], compare: Compare, tokenizing: ModuleType
) -> None:
    source, tokenizer = folder("xlm-roberta"), tokenizing.unigram()
    tokenizing.write_tokenizer(
        source, tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", pad_token="<pad>"
    )
    texts = ["The quick brown fox", "numbers 333 and 1", "  two  spaces ", "Würde, año"]

    said = compare(source, tokenizer, texts)
    assert said["tokenizer.ggml.model"] == "t5"
    compare(source, tokenizer, ["The quick brown fox"], special=True)


@pytest.mark.parametrize("lowercase", [True, False], ids=["uncased", "cased"])
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.txt"])
def test_word_pieces_give_the_same_tokens(
    folder: Callable[..., Path], compare: Compare, tokenizing: ModuleType, form: str, *,
    lowercase: bool,
) -> None:  # fmt: skip
    source, tokenizer = folder("bert"), tokenizing.word_piece(lowercase=lowercase)
    if form == "tokenizer.json":
        tokenizing.write_tokenizer(source, tokenizer, cls_token="[CLS]", sep_token="[SEP]")
    else:
        words = sorted(tokenizer.get_vocab().items(), key=lambda one: one[1])
        (source / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words))
        said = {"do_lower_case": lowercase}
        (source / "tokenizer_config.json").write_text(json.dumps(said))
    # llama.cpp takes Korean syllables apart, but for the first letter, and knows no longest word.
    texts = [
        one
        for one in tokenizing.TEXTS
        if "한" not in one and len(max(["", *one.split()], key=len)) < 100
    ]

    said = compare(source, tokenizer, texts)
    assert said["tokenizer.ggml.normalizer.lowercase"] == lowercase
    compare(source, tokenizer, ["The quick brown fox"], special=True)


TEMPLATES = {
    "tokenizer_config.json": json.dumps({"chat_template": "from {{ tokenizer_config.json }}"}),
    "chat_template.jinja": "from {{ chat_template.jinja }}",
    "chat_template.json": json.dumps({"chat_template": "from {{ chat_template.json }}"}),
}


@pytest.mark.parametrize("file", TEMPLATES)
def test_the_chat_template_is_found_in_each_of_its_places(
    folder: Callable[..., Path], converted: Callable[..., Path], tokenizing: ModuleType, file: str
) -> None:
    source = folder()
    tokenizing.write_tokenizer(source, tokenizing.byte_level("gpt-2"), bos_token="<|begin|>")
    (source / file).write_text(TEMPLATES[file])

    fields = gguf.GGUFReader(converted(source)).fields
    assert fields["tokenizer.chat_template"].contents() == f"from {{{{ {file} }}}}"


def changed(tokenizer: Any, part: str, value: Any) -> str:
    said = json.loads(tokenizer.to_str())
    at = said
    *path, last = part.split(".")
    for name in path:
        at = at[name]
    at[last] = value
    return json.dumps(said)


UNKNOWN_PATTERN = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ],
}


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        (
            "pre_tokenizer",
            UNKNOWN_PATTERN,
            r"unknown pre-tokenizer Split \+ ByteLevel .* pattern 'x\+'",
        ),
        ("pre_tokenizer", None, "unknown pre-tokenizer none"),
        ("pre_tokenizer", {"type": "Whitespace"}, "unknown pre-tokenizer Whitespace"),
        ("pre_tokenizer", 7, "pre_tokenizer of tokenizer.json"),
        ("pre_tokenizer.add_prefix_space", True, "unknown pre-tokenizer ByteLevel"),
        ("normalizer", {"type": "Lowercase"}, "normalizer Lowercase"),
        ("model.type", "WordLevel", "a model of type WordLevel"),
        ("model.end_of_word_suffix", "</w>", "end_of_word_suffix"),
        ("model.vocab", ["a"], "vocab of tokenizer.json"),
        ("model.vocab", {"a": 0, "b": 0}, "one number for several tokens"),
        ("model.vocab", {"a": ROWS}, "numbers its tokens up to 1200"),
        ("model.vocab", {"a": -1}, "tokens"),
        ("model.merges", [["a"]], "files are not as they are to be"),
        ("added_tokens", [{"id": -1, "content": "x"}], "an added token"),
        ("added_tokens", [{"id": 10**12, "content": "x"}], "an added token"),
        ("added_tokens", {"a": 1}, "added_tokens of tokenizer.json"),
        ("added_tokens", [{"id": 5, "content": "!"}, {"id": 6, "content": "!"}], "'!' twice"),
    ],
)
def test_a_tokenizer_that_is_not_known_or_makes_no_sense_is_refused(
    refused: Callable[..., str], tokenizing: ModuleType, part: str, value: Any, said: str
) -> None:
    assert re.search(said, refused(changed(tokenizing.byte_level("gpt-2"), part, value)))


def test_a_model_without_tokenizer_is_refused(
    folder: Callable[..., Path], converted: Callable[..., Path]
) -> None:
    with pytest.raises(CorralError, match="no tokenizer: one of"):
        converted(folder())


def test_pairs_that_are_not_of_sentencepiece_are_refused(
    refused: Callable[..., str], tokenizing: ModuleType
) -> None:
    said = refused(tokenizing.trained_with_bytes().to_str())

    assert "no tokenizer of SentencePiece's kind" in said


def test_runs_of_spaces_among_the_added_tokens_are_as_with_gemma(
    folder: Callable[..., Path], compare: Compare, tokenizing: ModuleType
) -> None:
    source = folder()
    runs = [("▁" * length, 0.0) for length in (4, 3, 2)]  # of one score, as Gemma has them
    tokenizer = tokenizing.joined([*tokenizing.pieces(), *runs], "gemma")
    tokenizer.add_tokens(tokenizing.plain(text for text, _ in runs))
    tokenizing.write_tokenizer(source, tokenizer, bos_token="<s>", eos_token="</s>")

    compare(source, tokenizer, ["a  b", "a   b", "a    b c", "      x"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no pieces"),
        (b"\xff" * 20, "does not end"),
        (b"\x0a\x7fabc", "runs over the end"),
        (b"\x0f", "begins no field"),
        (b"\x0a\x03\x0a\x01\xff", "no UTF-8"),
        (b"\x08\x01", "is to be of bytes"),
        (b"\x0a\x02\x18\x63", "unknown kind 99"),
        (b"\x12\x02\x18\x04\x0a\x03\x0a\x01a", "words or characters"),
    ],
)
def test_a_tokenizer_model_that_is_none_is_refused(
    folder: Callable[..., Path], converted: Callable[..., Path], data: bytes, said: str
) -> None:
    source = folder()
    (source / "tokenizer.model").write_bytes(data)

    with pytest.raises(CorralError, match=said):
        converted(source)
