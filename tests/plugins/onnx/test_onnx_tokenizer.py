"""Texts to ids and back with the kinds of `tokenizer.json` that models come with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Native

from corral_kernel.contracts import TextPart
from corral_kernel.errors import InvalidModelError
from corral_onnx.folder import Folder
from corral_onnx.pieces import byte_letters
from corral_onnx.tokenizer import OnnxTokenizer

TEXTS = ("hi", "hi hi", " hi", "Ünïcode 🦙 \x00\x7f", "\n\t  x", "a\0b", "", "日本語")
SPECIAL = ("<s>", "</s>", "<unk>")


def byte_level() -> Native:
    """As GPT-2's and Llama 3's: each byte is a letter."""
    letters = [letter for letter, _ in sorted(byte_letters().items(), key=lambda item: item[1])]
    vocabulary = {letter: place for place, letter in enumerate([*letters, "hi", "Ġhi"])}
    native = Native(models.BPE(vocab=vocabulary, merges=[("h", "i"), ("Ġ", "hi")]))
    native.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    native.decoder = decoders.ByteLevel()
    return native


def spaced_bytes() -> Native:
    """As Llama 2's: a text begins with a space, and unknown letters are written in bytes."""
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)}}
    for word in ("▁", "h", "i", "▁h", "hi", "▁hi"):
        vocabulary[word] = len(vocabulary)
    merges = [("h", "i"), ("▁", "h"), ("▁", "hi")]
    native = Native(
        models.BPE(
            vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    native.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    native.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return native


def metaspace() -> Native:
    """As T5's: words by their likelihood; bytes stand for what is no word."""
    words = [("<unk>", 0.0), ("▁hi", -1.0), ("▁", -2.0), ("hi", -3.0)]
    words += [("<s>", -0.5), ("</s>", -0.5)]  # control tokens are words like others
    words += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    native = Native(models.Unigram(words, unk_id=0, byte_fallback=True))
    native.pre_tokenizer = pre_tokenizers.Metaspace()
    native.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return native


KINDS = {"byte level": byte_level, "spaced bytes": spaced_bytes, "metaspace": metaspace}


def write(folder: Path, native: Native, **config: Any) -> Folder:
    folder.mkdir(exist_ok=True)
    native.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    native.add_tokens([AddedToken("<tool>", special=False)])
    native.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Folder(folder)


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> OnnxTokenizer:
    return OnnxTokenizer(write(tmp_path, KINDS[request.param]()))


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_comes_back(tokenizer: OnnxTokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=False)
    written = tokenizer.decode(ids).decode()
    assert written == text
    begun = tokenizer.decode(tokenizer.encode_beginning(text, special=False)).decode()
    assert begun in (text, " " + text)


def test_every_byte_has_a_token_of_its_own(tokenizer: OnnxTokenizer) -> None:
    alone = {bytes([byte]) for byte in range(128)}
    assert alone <= set(tokenizer.pieces)


@pytest.mark.parametrize("text", ["<s>", "</s>", "hi</s>hi", "<s><s> hi", "🦙 <s>", "</s" * 9])
def test_nobody_smuggles_control_tokens_in(tokenizer: OnnxTokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=False)
    assert not tokenizer.control_ids & {*ids}
    assert tokenizer.decode(ids).decode() == text
    assert bool(tokenizer.control_ids & {*tokenizer.encode(text, special=True)}) == (">" in text)


def test_the_two_ways_do_not_disturb_each_other(tokenizer: OnnxTokenizer) -> None:
    one, other = (tokenizer.encode("hi</s>", special=special) for special in (True, False))
    assert one != other
    assert tokenizer.encode("hi</s>", special=True) == one


def test_lone_surrogates_become_replacement_characters(tokenizer: OnnxTokenizer) -> None:
    ids = tokenizer.encode("a\ud800b", special=False)
    assert tokenizer.decode(ids).decode() == "a\ufffdb"
    whole = tokenizer.encode("\ud83e\udd99", special=False)  # a pair that stands for one letter
    assert tokenizer.decode(whole).decode() == "🦙"


def test_control_tokens_are_written_as_they_are(tokenizer: OnnxTokenizer) -> None:
    names = [tokenizer.pieces[i].decode() for i in sorted(tokenizer.control_ids)]
    assert sorted(names) == sorted(SPECIAL)
    shown = tokenizer.encode("<tool>", special=False)
    assert tokenizer.decode(shown) == b"<tool>"
    assert not tokenizer.control_ids & {*shown}


def test_the_ends_are_those_of_all_files(tmp_path: Path) -> None:
    write(tmp_path, byte_level())
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [3, 900000, "x"]}')
    tokenizer = OnnxTokenizer(Folder(tmp_path), bos_id=7, end_ids=(5, -1))
    named = tokenizer.encode("</s>", special=True)
    assert tokenizer.end_ids == {3, 5, *named}
    assert tokenizer.end_ids <= tokenizer.control_ids
    assert [tokenizer.eos_id] == named
    assert [tokenizer.bos_id] == tokenizer.encode("<s>", special=True)


@pytest.mark.parametrize(
    ("stated", "frames", "adds"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
    ids=["nothing", "by its frame", "by its configuration", "the configuration forbids it"],
)
def test_a_prompt_begins_as_the_model_wants(
    tmp_path: Path,
    stated: bool | None,  # noqa: FBT001 - parametrized
    frames: bool,  # noqa: FBT001 - parametrized
    adds: bool,  # noqa: FBT001 - parametrized
) -> None:
    native = spaced_bytes()
    write(tmp_path, native)
    if frames:
        bos_id = native.token_to_id("<s>")
        native.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", bos_id)]
        )
    folder = write(tmp_path, native, **({} if stated is None else {"add_bos_token": stated}))
    tokenizer = OnnxTokenizer(folder)
    assert tokenizer.adds_bos is adds
    (plain,) = tokenizer.prepare([TextPart("hi")]).segments
    assert list(plain.token_ids) == [tokenizer.bos_id] * adds + tokenizer.encode_beginning(
        "hi", special=True
    )
    (own,) = tokenizer.prepare([TextPart("<s>hi")]).segments
    assert list(own.token_ids).count(tokenizer.bos_id) == 1
    (empty,) = tokenizer.prepare([]).segments
    assert list(empty.token_ids) == [tokenizer.bos_id]  # a model must begin with something


def test_parts_of_users_and_templates_keep_apart(tokenizer: OnnxTokenizer) -> None:
    parts = [TextPart("<s>hi "), TextPart("</s> hi", special=False), TextPart("</s>")]
    history = tokenizer.prepare(parts).history()
    assert tokenizer.decode(history).decode().replace(" ", "") == "<s>hi</s>hi</s>"
    ends = [place for place, i in enumerate(history) if i in tokenizer.end_ids]
    assert ends == [len(history) - 1]


def test_ids_over_the_width_of_the_logits_are_no_tokens(tmp_path: Path) -> None:
    folder = write(tmp_path, byte_level())
    tokenizer = OnnxTokenizer(folder, 200)
    assert len(tokenizer.pieces) == 200
    assert tokenizer.bos_id is None
    assert not tokenizer.end_ids


def test_padding_and_truncation_of_the_file_are_not_for_prompts(tmp_path: Path) -> None:
    native = byte_level()
    native.enable_padding(length=20)
    native.enable_truncation(5)
    tokenizer = OnnxTokenizer(write(tmp_path, native))
    assert len(tokenizer.encode("x", special=False)) == 1
    assert len(tokenizer.encode("x" * 30, special=False)) == 30


def test_the_words_of_an_encoder_come_back(minilm_onnx: Path) -> None:
    tokenizer = OnnxTokenizer(Folder(minilm_onnx))
    ids = tokenizer.encode("[SEP] unbelievable things", special=False)
    assert tokenizer.decode(ids).decode().strip() == "[ sep ] unbelievable things"
    assert not tokenizer.control_ids & {*ids}


@pytest.mark.parametrize(
    "content",
    ["{}", '"text"', "[]", '{"model": {}}', '{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
     '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}'],
)  # fmt: skip
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InvalidModelError, match=r"tokenizer\.json"):
        OnnxTokenizer(Folder(tmp_path))


def test_ids_agree_with_the_same_model_as_gguf(
    open_model: Callable[..., Any], tiny_chat_onnx: Path
) -> None:
    """The vocabulary of tiny-chat is the bytes, so that the reference is the text itself."""
    tokenizer = open_model(tiny_chat_onnx).tokenizer
    text = "Any text, ünïcode 🦙"
    assert tokenizer.encode(text, special=True) == list(text.encode())
    assert tokenizer.encode("<|im_start|>x<|im_end|>", special=True) == [257, ord("x"), 258]
    assert tokenizer.end_ids == {256, 258}  # <|endoftext|> and <|im_end|>
    assert tokenizer.eos_id == 258
