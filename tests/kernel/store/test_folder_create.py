"""Models that are folders, and files of before GGUF: from digests to manifests, and back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import CorralError, InvalidRequestError, StoreError
from corral_kernel.models import FILE_TYPE, WEIGHTS_TYPE, Model
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Store, create_model, model_info, modelfile_text

MODELS = Path(__file__).parents[2] / "models"
ONNX = MODELS / "tiny-chat-onnx"
LEGACY = "gpt2byte-f16.ggml.bin"
NAME = ModelName.parse("folder")
GENAI = {"model": {"type": "llama", "context_length": 256, "decoder": {"filename": "m.onnx"}}}

Folder = Callable[..., dict[str, str]]


@pytest.fixture
def folder(upload: Any) -> Folder:
    """Upload a folder's files; `changed` gives a file other content, or leaves it out."""

    def folder(path: Path = ONNX, changed: dict[str, bytes | None] | None = None) -> dict[str, str]:
        found: dict[str, bytes | None] = {f.name: f.read_bytes() for f in path.iterdir()}
        contents = found | (changed or {})
        return {name: upload(data) for name, data in contents.items() if data is not None}

    return folder


def layers(root: Path, model: str) -> list[dict[str, Any]]:
    path = root / f"manifests/registry.ollama.ai/library/{model}/latest"
    document: dict[str, Any] = json.loads(path.read_bytes())
    return list(document["layers"])


def refusal(store: Store, **fields: Any) -> CorralError:
    before = {path.name for path in store.blobs.folder.iterdir()}
    with pytest.raises(CorralError) as caught:
        list(create_model(store, CreateRequest(model="folder", **fields)))
    assert [model.name.short for model in store.list_models()] == []
    assert {path.name for path in store.blobs.folder.iterdir()} == before
    return caught.value


def test_every_file_of_a_folder_becomes_a_layer_with_its_name(
    store: Store, root: Path, folder: Folder, create: Any
) -> None:
    files = folder()
    status = create("folder", files=files, system="Be brief.", parameters={"top_k": 3})
    assert status == [
        "parsing ONNX model",
        *(f"using existing layer {files[name]}" for name in sorted(files)),
        *(f"creating new layer {layer['digest']}" for layer in layers(root, "folder")[-2:]),
        "writing manifest",
        "success",
    ]
    named = [layer for layer in layers(root, "folder") if layer["mediaType"] == FILE_TYPE]
    assert [(layer["name"], layer["digest"]) for layer in named] == sorted(files.items())
    assert [layer["size"] for layer in named] == [(ONNX / n).stat().st_size for n in sorted(files)]
    assert all("from" not in layer for layer in named)


def test_a_folder_is_opened_with_what_its_small_files_say(
    store: Store, folder: Folder, create: Any
) -> None:
    create("folder", files=folder(), system="Be brief.", parameters={"top_k": 3})
    model = store.open(NAME)
    assert (model.problem, model.missing, model.gguf, model.head) == ("", (), None, b"")
    assert (model.format, model.family, model.families) == ("onnx", "llama", ("llama",))
    assert (model.context_length, model.embedding_length) == (256, 64)
    assert (model.parameter_size, model.quantization_level) == ("", "unknown")
    assert (model.system, model.parameters) == ("Be brief.", {"top_k": 3})
    assert model.documents == {
        name: json.loads((ONNX / name).read_bytes())
        for name in ("genai_config.json", "tokenizer_config.json")
    }
    assert model.jinja_template == (ONNX / "chat_template.jinja").read_text()
    assert model.parent_model == ""
    assert model_info(model) == {
        "general.architecture": "llama",
        "llama.context_length": 256,
        "llama.embedding_length": 64,
    }


def test_an_encoder_with_its_tokenizer_is_a_folder_too(
    store: Store, upload: Any, create: Any
) -> None:
    texts = {
        "config.json": {"model_type": "bert", "max_position_embeddings": 512, "hidden_size": 384},
        "sentence_bert_config.json": {"max_seq_length": 256},
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "modules.json": [{"idx": 0}],
        "tokenizer.json": {"model": {}},
        "vocab.json": {"a": 1},
        "model.safetensors.index.json": {},
    }
    files = {name: upload(json.dumps(text).encode()) for name, text in texts.items()}
    create("folder", files={**files, "model.onnx": upload(b"graph")})
    model = store.open(NAME)
    assert (model.format, model.family) == ("onnx", "bert")
    assert (model.context_length, model.embedding_length) == (256, 384)
    left_out = {"tokenizer.json", "vocab.json", "model.safetensors.index.json"}
    assert model.documents == {n: texts[n] for n in texts.keys() - left_out}
    assert model.jinja_template == ""


def test_a_model_of_a_folder_inherits_its_files_and_what_they_say(
    store: Store, root: Path, folder: Folder, create: Any
) -> None:
    create("folder", files=folder(), system="S1", licenses=["L1"])
    create("heir", base="folder", system="S2", licenses=["L1", "L2"])
    model, heir = store.open(NAME), store.open(ModelName.parse("heir"))
    assert heir.system == "S2"
    assert heir.licenses == ("L1", "L2")
    assert heir.parent_model == "folder:latest"
    assert heir.documents == model.documents
    for fact in ("format", "family", "families", "context_length", "embedding_length"):
        assert getattr(heir, fact) == getattr(model, fact)
    assert heir.folder_key == model.folder_key
    assert heir.folder == model.folder


def test_the_modelfile_of_a_folder_names_the_model_and_makes_the_same_again(
    store: Store, folder: Folder, create: Any
) -> None:
    create("folder", files=folder(), system="S", licenses=["L"], parameters={"top_k": 3})
    assert modelfile_text(store.open(NAME)) == (
        '# Modelfile generated by "ollama show"\n'
        "# FROM folder:latest\n\n"
        "FROM folder:latest\nSYSTEM S\nPARAMETER top_k 3\nLICENSE L\n"
    )
    create("again", base="folder:latest", system="S", parameters={"top_k": 3}, licenses=["L"])
    first, again = store.open(NAME), store.open(ModelName.parse("again"))
    for field in ("system", "parameters", "licenses", "folder_key", "size_bytes"):
        assert getattr(again, field) == getattr(first, field)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"genai_config.json": b"{"}, "genai_config.json is damaged: "),
        ({"genai_config.json": b"[]"}, 'names no "type" of its "model"'),
        ({"genai_config.json": b'{"model": {"type": 3}}'}, 'names no "type" of its "model"'),
        ({"genai_config.json": b'{"a": 1, "a": 2}'}, "a key stands twice in one object"),
        ({"genai_config.json": b"[" * 100_000}, "is nested too deeply"),
        ({"genai_config.json": b" " * (3 << 20)}, "is over 2097152 bytes"),
        ({"genai_config.json": '{"model": "é"}'.encode("utf-16")}, "is damaged"),
        ({"tokenizer_config.json": b"nope"}, "tokenizer_config.json is damaged: "),
        ({"sub/config.json": b"\xff"}, "sub/config.json is damaged: "),
        ({"chat_template.jinja": b"\xff"}, "chat_template.jinja is no UTF-8 text"),
        ({"chat_template.jinja": b"x" * (2 << 20)}, "chat_template.jinja is over 1048576 bytes"),
        ({"model.onnx": None}, "names 'model.onnx' as the decoder's file, which is not among"),
    ],
)
def test_a_folder_whose_small_files_are_damaged_is_refused_by_the_file_s_name(
    store: Store, folder: Folder, changed: dict[str, bytes | None], message: str
) -> None:
    error = refusal(store, files=folder(changed=changed))
    assert isinstance(error, InvalidRequestError)
    assert message in str(error)


@pytest.mark.parametrize(
    "name",
    ["a\\b", "C:x", "NUL", "Model.onnx", "model.onnx/x", "a\0", "x" * 300],
)
def test_a_hostile_name_is_refused_before_anything_is_looked_at(store: Store, name: str) -> None:
    nowhere = "sha256:" + "0" * 64
    files = {"genai_config.json": nowhere, "model.onnx": nowhere, name: nowhere}
    with pytest.raises(InvalidRequestError, match="file name"):
        create_model(store, CreateRequest(model="folder", files=files))


def test_a_file_that_was_not_uploaded_is_told(store: Store, folder: Folder) -> None:
    files = folder() | {"extra.bin": "sha256:" + "1" * 64}
    error = refusal(store, files=files)
    assert isinstance(error, StoreError)
    assert str(error).endswith("no such file or directory")


def test_a_gguf_file_beside_other_files_is_no_folder(store: Store, upload: Any) -> None:
    files = {"m.gguf": upload("tiny-chat-f32.gguf"), "tokenizer.json": upload(b"{}")}
    error = refusal(store, files={**files, "model.onnx": upload(b"x")})
    assert str(error) == "supplied file was not in GGUF format"


def template_of(store: Store, create: Any, files: dict[str, str]) -> str:
    create("folder", files=files)
    return store.open(NAME).jinja_template


@pytest.mark.parametrize(
    ("given", "template"),
    [
        ("T", "T"),
        ([{"name": "tool_use", "template": "U"}, {"name": "default", "template": "D"}], "D"),
        ([{"name": "tool_use", "template": "U"}], ""),
        (["default", None, {"name": "default", "template": 3}], ""),
        (None, ""),
        ({"default": "T"}, ""),
    ],
)
def test_without_a_file_of_its_own_the_template_is_the_tokenizer_s(
    store: Store, create: Any, folder: Folder, given: Any, template: str
) -> None:
    config = json.dumps({"chat_template": given}).encode()
    changed = {"chat_template.jinja": None, "tokenizer_config.json": config}
    assert template_of(store, create, folder(changed=changed)) == template


def test_a_template_of_its_own_comes_before_the_tokenizer_s(
    store: Store, create: Any, folder: Folder
) -> None:
    changed = {"tokenizer_config.json": b'{"chat_template": "T"}'}
    expected = (ONNX / "chat_template.jinja").read_text()
    assert template_of(store, create, folder(changed=changed)) == expected


def test_documents_are_bounded_and_the_root_s_come_first(
    store: Store, create: Any, folder: Folder
) -> None:
    filler = b'"' + b"x" * ((3 << 19) - 2) + b'"'
    changed = {f"sub/{letter}.json": filler for letter in "abcd"}
    create("folder", files=folder(changed={**changed, "huge.json": b" " * (3 << 20)}))
    found = store.open(NAME).documents
    assert {"genai_config.json", "tokenizer_config.json", "sub/a.json", "sub/b.json"} == set(found)


# --------------------------------------------------------------------------- files of before GGUF


def test_a_file_of_before_gguf_becomes_the_weights(
    store: Store, root: Path, upload: Any, create: Any
) -> None:
    digest = upload(LEGACY)
    status = create("old", files={LEGACY: digest})
    assert status[0] == "parsing GGML"
    (weights,) = layers(root, "old")
    assert (weights["mediaType"], weights["digest"]) == (WEIGHTS_TYPE, digest)
    model = store.open(ModelName.parse("old"))
    assert (model.problem, model.gguf, model.format, model.family) == ("", None, "ggml", "")
    assert model.head == (MODELS / LEGACY).read_bytes()[:64]
    assert model.parent_model == LEGACY
    assert f"FROM {store.blobs.path(digest)}\n" in modelfile_text(model)


def opened(store: Store, name: str) -> Model:
    return store.open(ModelName.parse(name))


def test_only_the_user_names_the_family_of_such_a_file(
    store: Store, upload: Any, create: Any
) -> None:
    files = {"weights": upload(LEGACY)}
    create("old", files=files, parameters={"model_type": "gpt2"})
    assert (opened(store, "old").family, opened(store, "old").families) == ("gpt2", ("gpt2",))
    create("heir", base="old")
    assert (opened(store, "heir").family, opened(store, "heir").format) == ("gpt2", "ggml")
    create("other", base="old", parameters={"model_type": "starcoder"})
    assert opened(store, "other").family == "starcoder"
    create("stated", files=files, parameters={"model_type": ["x"]}, info={"model_family": "f"})
    assert opened(store, "stated").family == "f"


def test_a_file_that_does_not_tell_its_architecture_is_warned_of_until_somebody_does(
    upload: Any, create: Any
) -> None:
    def warnings(**fields: Any) -> list[str]:
        return [status for status in create("m", **fields) if status.startswith("warning: ")]

    files, named = {"weights": upload(LEGACY)}, {"model_type": "gpt2"}
    (words,) = warnings(files=files)
    assert words == "warning: add PARAMETER model_type: the file does not tell its architecture"
    assert warnings(base="m", system="still nameless") == [words]
    assert warnings(base="m", parameters=named) == []
    assert warnings(files=files, parameters=named) == []
    assert warnings(files={"weights": upload(b"tjgg" + bytes(60))}) == []  # which is llama's


@pytest.mark.parametrize("magic", [b"lmgg", b"fmgg", b"tjgg"])
def test_each_magic_of_before_gguf_is_known(
    store: Store, upload: Any, create: Any, magic: bytes
) -> None:
    create("old", files={"x.bin": upload(magic)})
    assert (opened(store, "old").problem, opened(store, "old").head) == ("", magic)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"a.bin": b"ggml"}, "unknown type"),
        ({"a.bin": b""}, "unknown type"),
        ({"a.bin": b"lmgg", "b.bin": b"lmgg"}, "unknown type"),
        ({"a.gguf": b"lmgg"}, "supplied file was not in GGUF format"),
        ({"genai_config.json": b"lmgg"}, "genai_config.json is damaged"),
    ],
)
def test_everything_else_is_refused_as_ever(
    store: Store, upload: Any, contents: dict[str, bytes], message: str
) -> None:
    error = refusal(store, files={name: upload(data) for name, data in contents.items()})
    assert message in str(error)


# ------------------------------------------------------------------------------------- adapters


def test_an_onnx_model_takes_onnx_adapters_alone(
    store: Store, root: Path, folder: Folder, upload: Any, create: Any
) -> None:
    adapter = upload(b"\x0c\0\0\0TORT" + bytes(56))
    create("folder", files=folder())
    assert create("tuned", base="folder", adapters={"a.onnx_adapter": adapter})[0] == (
        "parsing ONNX adapter"
    )
    assert [file.digest for file in opened(store, "tuned").adapters] == [adapter]
    gguf = upload("lora-zorblax-f16.gguf")
    for base, digest, message in (
        ("folder", gguf, "is no .onnx_adapter file"),
        ("plain", adapter, "not in GGUF format"),
    ):
        create("plain", files={"m.gguf": upload("tiny-chat-f32.gguf")})
        with pytest.raises(InvalidRequestError, match=message):
            create("x", base=base, adapters={"a": digest})


# ------------------------------------------------------------------------- damage, copies, removal


def test_a_missing_or_short_file_is_a_problem_and_no_error(
    store: Store, folder: Folder, create: Any
) -> None:
    files = folder()
    create("folder", files=files)
    weights = store.blobs.path(files["model.onnx.data"])
    with weights.open("r+b") as file:
        file.truncate(10)
    model = store.open(NAME)
    assert model.problem == (
        f"model.onnx.data is damaged: {weights} has 10 bytes, not 378880; create the model again"
    )
    assert model.missing == ()
    weights.unlink()
    model = store.open(NAME)
    assert model.problem.startswith(f"model.onnx.data is missing: {weights} is not there")
    assert model.missing == (files["model.onnx.data"],)
    assert [m.name for m in store.list_models()] == [NAME]
    store.copy(NAME, ModelName.parse("copied"))
    store.delete(NAME)
    store.delete(ModelName.parse("copied"))
    assert list(store.blobs.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["../../escape", "/abs", "", "a\\b"])
def test_a_manifest_with_hostile_names_is_a_problem(
    store: Store, root: Path, folder: Folder, create: Any, name: str
) -> None:
    create("folder", files=folder())
    path = root / "manifests/registry.ollama.ai/library/folder/latest"
    document = json.loads(path.read_bytes())
    document["layers"][0]["name"] = name
    path.write_text(json.dumps(document))
    model = store.open(NAME)
    assert model.problem.startswith("the manifest is damaged: file name ")
    assert model.documents == {}
    with pytest.raises(CorralError, match="cannot be loaded: file name"):
        store.lay_out(model)
    assert not (root / "folders").exists()


def test_models_that_share_files_keep_each_other_s_blobs(
    store: Store, folder: Folder, create: Any
) -> None:
    create("folder", files=folder())
    create("int4", files=folder(MODELS / "tiny-chat-onnx-int4"))
    store.delete(NAME)
    assert opened(store, "int4").problem == ""
    assert opened(store, "int4").folder_key != ""
