import json
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import (
    CorralError,
    InvalidDigestError,
    InvalidModelError,
    InvalidNameError,
    InvalidRequestError,
    ManifestNotFoundError,
    StoreError,
    TaskError,
    UnsupportedError,
)
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Store, create_model

NOWHERE = "sha256:" + "0" * 64


def gguf(*texts: tuple[str, str]) -> bytes:
    """A GGUF file of texts alone."""
    raw = b"GGUF" + struct.pack("<IQQ", 3, 0, len(texts))
    for key, value in texts:
        raw += struct.pack("<Q", len(key)) + key.encode()
        raw += struct.pack("<IQ", 8, len(value)) + value.encode()
    return raw


MINIMAL = gguf(("general.architecture", "test"))


def layers(root: Path, model: str) -> list[dict[str, Any]]:
    path = root / f"manifests/registry.ollama.ai/library/{model}/latest"
    document: dict[str, Any] = json.loads(path.read_bytes())
    return [document["config"], *document["layers"]]


def kinds(root: Path, model: str) -> list[str]:
    return [layer["mediaType"].rpartition(".")[2] for layer in layers(root, model)[1:]]


def text_of(store: Store, layer: dict[str, Any]) -> bytes:
    return store.blobs.path(layer["digest"]).read_bytes()


def files(root: Path) -> set[str]:
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return found - {".corral-lock"}


def test_the_minimal_file_becomes_the_known_blobs(
    store: Store, root: Path, upload: Any, create: Any
) -> None:
    assert len(MINIMAL) == 68
    digest = upload(MINIMAL)
    assert digest.startswith("sha256:89a2116c3a82d6a9")
    assert create("test", files={"test.gguf": digest}) == [
        "parsing GGUF",
        f"using existing layer {digest}",
        "writing manifest",
        "success",
    ]
    config, weights = layers(root, "test")
    assert text_of(store, config) == (
        b'{"model_format":"gguf","model_family":"test","model_families":["test"],"model_type":"0",'
        b'"file_type":"unknown","architecture":"amd64","os":"linux"}\n'
    )
    assert config["digest"] == (
        "sha256:99759ad5b91e723db0393d698ffbb448b1b7df5ff6377a108c49254583b1bc8c"
    )
    assert weights["digest"] == digest


def test_the_manifest_is_written_as_other_servers_write_it(
    store: Store, root: Path, upload: Any, create: Any
) -> None:
    create("test", files={"test.gguf": upload(MINIMAL)}, system="Say hi!")
    raw = (root / "manifests/registry.ollama.ai/library/test/latest").read_text()
    config, weights, system = layers(root, "test")
    assert raw == (
        '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        '"config":{"mediaType":"application/vnd.docker.container.image.v1+json",'
        f'"digest":"{config["digest"]}","size":147}},'
        '"layers":[{"mediaType":"application/vnd.ollama.image.model",'
        f'"digest":"{weights["digest"]}","size":68,"from":"test.gguf"}},'
        '{"mediaType":"application/vnd.ollama.image.system",'
        f'"digest":"{system["digest"]}","size":7}}]}}\n'
    )


def test_texts_become_the_known_blobs(store: Store, root: Path, upload: Any, create: Any) -> None:
    stop = ["USER:", "ASSISTANT:"]
    create(
        "test",
        files={"test.gguf": upload(MINIMAL)},
        template="{{ .Prompt }}",
        system="Say hi!",
        parameters={"top_k": 10, "temperature": 1.0, "stop": stop},
    )
    *_, template, system, parameters = layers(root, "test")
    assert template["digest"].startswith("sha256:b507b9c2f6ca642b")
    assert system["digest"].startswith("sha256:f29e82a8284dbdf5")
    assert parameters["digest"].startswith("sha256:1d0ad71299d48c2f")
    create("merged", base="test", parameters={"top_p": 0.7, "temperature": 0.6})
    merged = layers(root, "merged")[-1]
    assert merged["digest"].startswith("sha256:e29a7b3c47287a24")
    assert store.open(ModelName.parse("merged")).parameters == {
        "stop": stop,
        "temperature": 0.6,
        "top_k": 10,
        "top_p": 0.7,
    }


def test_stop_words_are_escaped_as_html(root: Path, upload: Any, create: Any) -> None:
    stop = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    create("phi", files={"a.gguf": upload(MINIMAL)}, parameters={"stop": stop})
    assert layers(root, "phi")[-1]["digest"].startswith("sha256:0d79f567714c62c0")


def test_a_model_of_a_model_inherits_and_replaces(
    store: Store, root: Path, tiny: ModelName, create: Any
) -> None:
    create("base", base="tiny", template="T1", system="S1", licenses=["L1"],
           parameters={"stop": ["a"], "top_k": 3}, messages=[{"role": "USER", "content": "hi"}],
           info={"capabilities": ["completion"]}, requires="0.14.0")  # fmt: skip
    status = create("heir", base="base:local", system="S2", licenses=["L2", "L3"],
                    parameters={"stop": ["b"]})  # fmt: skip
    assert kinds(root, "heir") == [
        "model", "template", "license", "messages", "system", "license", "license", "params",
    ]  # fmt: skip
    digests = [layer["digest"] for layer in layers(root, "heir")[1:]]
    made = ["using existing"] * 4 + ["creating new"] * 4
    assert status == [
        *(f"{how} layer {digest}" for how, digest in zip(made, digests, strict=True)),
        "writing manifest",
        "success",
    ]
    model = store.open(ModelName.parse("heir"))
    assert (model.template, model.system) == ("T1", "S2")
    assert model.licenses == ("L1", "L2", "L3")
    assert model.parameters == {"stop": ["b"], "top_k": 3}
    assert model.messages == ({"role": "user", "content": "hi"},)
    assert (model.config.capabilities, model.config.requires) == (("completion",), "0.14.0")
    assert model.parent_model == "base:latest"


def test_an_adapter_joins_its_base(
    store: Store, root: Path, tiny: ModelName, upload: Any, create: Any
) -> None:
    adapter = upload("lora-tiny-chat-f32.gguf")
    assert "parsing GGUF" in create("tuned", base="tiny", adapters={"lora.gguf": adapter})
    model = store.open(ModelName.parse("tuned"))
    assert [file.digest for file in model.adapters] == [adapter]
    assert store.header(model.adapters[0]).kind == "adapter"
    assert model.families == ("llama",)
    create("again", base="tuned", system="x")
    assert kinds(root, "again") == ["model", "adapter", "system"]


def test_facts_of_the_request_win_over_the_weights(store: Store, upload: Any, create: Any) -> None:
    create("m", files={"m.gguf": upload("gpt2byte-f16.gguf")}, info={
        "model_family": "fam", "base_name": "base", "quantization_level": "Q1",
        "parameter_size": "7B",
        "context_length": 5.0, "embedding_length": 6, "capabilities": ["tools"], "other": object,
    })  # fmt: skip
    model = store.open(ModelName.parse("m"))
    assert (model.family, model.quantization_level, model.parameter_size) == ("fam", "Q1", "7B")
    assert (model.context_length, model.embedding_length) == (5, 6)
    assert (model.config.base_name, model.config.capabilities) == ("base", ("tools",))


def test_content_tells_a_gguf_file_without_the_suffix(upload: Any, create: Any) -> None:
    assert create("m", files={"weights": upload(MINIMAL)})[-1] == "success"


AT_ONCE: dict[str, tuple[dict[str, Any], type[CorralError], str]] = {
    "absolute path": (
        {"files": {"/m.gguf": NOWHERE}},
        InvalidRequestError,
        "file path must be relative",
    ),
    "path upwards": (
        {"files": {"a/../b": NOWHERE}},
        InvalidRequestError,
        "file path must be relative",
    ),
    "empty path": ({"files": {"": NOWHERE}}, InvalidRequestError, "file path must be relative"),
    "path before name": (
        {"model": "", "files": {"/": ""}},
        InvalidRequestError,
        "file path must be relative",
    ),
    "no digest": ({"files": {"m.gguf": ""}}, InvalidDigestError, "invalid digest format"),
    "no adapter digest": (
        {"base": "x", "adapters": {"m.gguf": ""}},
        InvalidDigestError,
        "invalid digest format",
    ),
    "draft type alone": (
        {"base": "x", "draft_quantize": "q8_0"},
        InvalidRequestError,
        "--draft-quantize requires a DRAFT model",
    ),
    "no name": ({"model": " ", "base": "x"}, InvalidNameError, "invalid model name"),
    "bad name": ({"model": "a:b:c", "base": "x"}, InvalidNameError, "invalid model name"),
    "no source": ({}, InvalidRequestError, "neither 'from' or 'files' was specified"),
    "bad base": ({"base": "a b"}, InvalidNameError, "invalid model name"),
    "two markers": (
        {"base": "x:local:cloud"},
        InvalidNameError,
        'use either :local or :cloud, not both: "x:local:cloud"',
    ),
    "info text": (
        {"base": "x", "info": {"base_name": 1}},
        InvalidRequestError,
        'info field "base_name" must be a string',
    ),
    "info number": (
        {"base": "x", "info": {"context_length": "1"}},
        InvalidRequestError,
        'info field "context_length" must be a number',
    ),
    "info integer": (
        {"base": "x", "info": {"context_length": 1.5}},
        InvalidRequestError,
        'info field "context_length" must be a non-negative integer',
    ),
    "info negative": (
        {"base": "x", "info": {"embedding_length": -1}},
        InvalidRequestError,
        'info field "embedding_length" must be a non-negative integer',
    ),
}


@pytest.mark.parametrize(("fields", "kind", "message"), AT_ONCE.values(), ids=AT_ONCE)
def test_what_the_request_alone_shows_is_refused_at_once(
    store: Store, fields: dict[str, Any], kind: type[CorralError], message: str
) -> None:
    request = CreateRequest(**({"model": "m"} | fields))
    with pytest.raises(kind) as caught:
        create_model(store, request)
    assert str(caught.value) == message


def test_a_cloud_base_is_refused(store: Store) -> None:
    with pytest.raises(UnsupportedError, match="cloud model"):
        create_model(store, CreateRequest(model="m", base="gpt-oss:20b-cloud"))


SOURCES: dict[str, tuple[dict[str, bytes | str], type[CorralError], str]] = {
    "no files": ({}, InvalidRequestError, "^unknown type$"),
    "other files": ({"a.txt": b"text"}, InvalidRequestError, "^unknown type$"),
    "safetensors": ({"model.safetensors": b"x"}, TaskError, "^unknown architecture$"),
    "safetensors of an unknown kind": (
        {"model.safetensors": b"x", "config.json": b'{"architectures": ["NobodyForCausalLM"]}'},
        TaskError,
        '^unsupported architecture "NobodyForCausalLM"$',
    ),
    "safetensors with damaged JSON": (
        {"model.safetensors": b"x", "config.json": b'{"architectures": '},
        InvalidModelError,
        "config.json is damaged",
    ),
    "safetensors with a strange name": (
        {"a/nul/model.safetensors": b"x"},
        InvalidRequestError,
        "is a device on Windows",
    ),
    "no GGUF": ({"a.gguf": b"text"}, InvalidRequestError, "^supplied file was not in GGUF format$"),
    "truncated": ({"a.gguf": MINIMAL[:-3]}, InvalidModelError, "truncated"),
    "adapter alone": (
        {"a.gguf": "lora-tiny-chat-f32.gguf"},
        InvalidRequestError,
        "^no base model was found$",
    ),
    "two models": ({"a.gguf": MINIMAL, "b.gguf": MINIMAL}, UnsupportedError, "several files"),
    "projector alone": (
        {"a.gguf": gguf(("general.type", "mmproj"))},
        InvalidRequestError,
        "^no base model was found$",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_unsuitable_files_are_refused_and_change_nothing(
    root: Path, upload: Any, create: Any, case: str
) -> None:
    sources, kind, message = SOURCES[case]
    uploaded = {name: upload(content) for name, content in sources.items()}
    before = files(root)
    with pytest.raises(kind, match=message):
        create("m", files=uploaded, system="a system that nobody else has")
    assert files(root) == before


def test_one_part_of_a_split_file_is_refused(upload: Any, create: Any) -> None:
    raw = gguf(("general.architecture", "test"))
    raw = raw[:16] + struct.pack("<Q", 2) + raw[24:]
    raw += struct.pack("<Q", 11) + b"split.count" + struct.pack("<IH", 2, 3)
    with pytest.raises(InvalidModelError, match="split GGUF is incomplete: part 2 of 3 is missing"):
        create("m", files={"m-00001-of-00003.gguf": upload(raw)})


def test_a_missing_blob_is_named_by_its_path(store: Store, create: Any) -> None:
    path = store.blobs.path(NOWHERE)
    with pytest.raises(StoreError) as caught:
        create("m", files={"m.gguf": NOWHERE})
    assert str(caught.value) == f"open {path}: no such file or directory"
    with pytest.raises(StoreError, match=r"^invalid digest format$"):
        create("m", files={"m.gguf": "sha256:1234"})


def test_a_base_that_is_not_here_would_have_to_be_pulled_first(create: Any) -> None:
    with pytest.raises(ManifestNotFoundError) as caught:
        create("m", base="nothing")
    assert str(caught.value) == (
        "there is no model nothing:latest here: "
        "pull it first, or name a model that is listed, or a GGUF file"
    )


ADAPTERS: dict[str, tuple[dict[str, bytes | str], str]] = {
    "two": ({"a.gguf": MINIMAL, "b.gguf": MINIMAL}, "^only one adapter is currently supported$"),
    "a model": ({"a.gguf": "tiny-chat-f32.gguf"}, "is no adapter"),
    "no GGUF": ({"a.gguf": b"text"}, "^supplied file was not in GGUF format$"),
    "damaged": ({"a.gguf": MINIMAL[:-3]}, "adapter 'a.gguf': .*truncated"),
    "safetensors": ({"adapter_model.safetensors": b"x"}, ": unsupported architecture llama$"),
    "another architecture": (
        {"a.gguf": gguf(("general.type", "adapter"), ("general.architecture", "gemma2"))},
        "^adapter 'a.gguf' is for models of architecture gemma2, and this one is of llama$",
    ),
    "another model": (
        {"a.gguf": "lora-zorblax-f16.gguf"},
        (
            "^adapter 'a.gguf': it is for another model: it changes blk.0.ffn_down.weight of "
            "1536 x 576, which is of 128 x 64 in this one$"
        ),
    ),
}


@pytest.mark.parametrize(("sources", "message"), ADAPTERS.values(), ids=ADAPTERS)
def test_unsuitable_adapters_are_refused(
    tiny: ModelName, upload: Any, create: Any, sources: dict[str, bytes | str], message: str
) -> None:
    adapters = {name: upload(content) for name, content in sources.items()}
    with pytest.raises(InvalidRequestError, match=message):
        create("m", base="tiny", adapters=adapters)


def test_an_adapter_among_the_files_of_a_model_is_to_fit_it(
    upload: Any, create: Any, root: Path
) -> None:
    weights = upload("tiny-chat-f32.gguf")
    fitting, other = upload("lora-tiny-chat-f32.gguf"), upload("lora-zorblax-f16.gguf")
    create("m", files={"m.gguf": weights, "lora.gguf": fitting})
    assert kinds(root, "m") == ["adapter", "model"]
    before = files(root)
    with pytest.raises(InvalidRequestError, match=r"^adapter 'lora.gguf': it is for another model"):
        create("n", files={"m.gguf": weights, "lora.gguf": other})
    assert files(root) == before


def test_a_create_that_is_given_up_leaves_nothing(
    store: Store, root: Path, tiny: ModelName
) -> None:
    before = files(root)
    for steps in range(4):
        work = create_model(store, CreateRequest(model="m", base="tiny", system="new"))
        for _ in range(steps):
            next(work)
        work.close()
        assert files(root) == before


def test_replacing_a_model_deletes_what_only_the_old_one_needed(
    store: Store, root: Path, tiny: ModelName, create: Any
) -> None:
    create("m", base="tiny", system="old")
    old = layers(root, "m")[-1]["digest"]
    create("m", base="tiny", system="new")
    assert old not in store.blobs
    keeping = Store(root, root.parent / "cache", prune=False)
    kept = layers(root, "m")[-1]["digest"]
    list(create_model(keeping, CreateRequest(model="m", base="tiny", system="newest")))
    assert kept in store.blobs


def test_a_deleted_neighbour_does_not_take_a_layer_that_is_about_to_be_used(
    store: Store, tiny: ModelName, create: Any
) -> None:
    create("a", base="tiny", system="shared")
    work = create_model(store, CreateRequest(model="b", base="tiny", system="shared"))
    next(work)
    store.delete(ModelName.parse("a"))
    store.delete(tiny)
    assert [progress.status for progress in work][-1] == "success"
    model = store.open(ModelName.parse("b"))
    assert (model.system, model.missing) == ("shared", ())


def test_concurrent_creates_and_deletes_leave_whole_models(
    store: Store, root: Path, tiny: ModelName, create: Any
) -> None:
    failures: list[BaseException] = []

    def churn(number: int) -> None:
        try:
            for turn in range(8):
                create(f"m{number}", base="tiny", system=f"shared {turn % 2}", licenses=["L"])
                if turn % 3 == 2:
                    store.delete(ModelName.parse(f"M{number}"))
                store.list_models()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    models = store.list_models()
    assert len(models) == 5
    for model in models:
        assert (model.missing, model.problem) == ((), "")
    store.start_up()
    for model in models:
        store.delete(model.name)
    assert files(root) == set()
