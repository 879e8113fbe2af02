import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_kernel.errors import InvalidModelError, ModelNotFoundError, StoreError
from corral_kernel.models import Model, parameter_size_text
from corral_kernel.names import ModelName
from corral_kernel.store import Store


def parse(text: str) -> ModelName:
    return ModelName.parse(text)


def listed(store: Store) -> list[str]:
    return [model.name.short for model in store.list_models()]


def files(root: Path) -> set[str]:
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return found - {".corral-lock"}


def test_an_empty_store_lists_nothing(store: Store, root: Path) -> None:
    store.start_up()
    assert store.list_models() == []
    with pytest.raises(ModelNotFoundError, match="model 'x:latest' not found"):
        store.open(parse("x"))
    assert not root.exists() or files(root) == set()


def test_a_created_model_can_be_opened(store: Store, tiny: ModelName) -> None:
    model = store.open(tiny)
    assert model.name == tiny
    assert model.weights is not None
    assert model.weights.path.read_bytes()[:4] == b"GGUF"
    assert model.gguf is not None
    assert (model.format, model.family, model.families) == ("gguf", "llama", ("llama",))
    assert (model.parameter_size, model.parent_model) == ("91K", "tiny.gguf")
    assert (model.quantization_level, model.listed_quantization_level) == ("unknown", "F32")
    assert (model.context_length, model.embedding_length) == (256, 64)
    assert "<|im_start|>" in model.jinja_template
    assert (model.problem, model.missing, model.is_remote) == ("", (), False)
    assert time.time() - model.modified_ns / 1e9 < 60


def test_the_digest_is_that_of_the_manifest_file(
    store: Store, root: Path, tiny: ModelName, digest_of: Any
) -> None:
    raw = (root / "manifests/registry.ollama.ai/library/tiny/latest").read_bytes()
    model = store.open(tiny)
    assert f"sha256:{model.digest}" == digest_of(raw)
    document = json.loads(raw)
    assert model.size_bytes == document["config"]["size"] + sum(
        layer["size"] for layer in document["layers"]
    )


@pytest.mark.parametrize(
    "text", ["TINY", "Tiny:LATEST", "Library/tiny", "registry.OLLAMA.ai/library/tiny:latest"]
)
def test_letter_case_does_not_matter(store: Store, tiny: ModelName, text: str) -> None:
    assert store.open(parse(text)).name.parts == tiny.parts
    with pytest.raises(ModelNotFoundError):
        store.open(parse(text), exact=True)


def test_no_second_model_comes_of_another_case(store: Store, tiny: ModelName, create: Any) -> None:
    create("TINY", base="tiny", system="new")
    assert listed(store) == ["tiny:latest"]
    assert store.open(tiny).system == "new"
    store.copy(tiny, parse("Tiny:V2"))
    assert sorted(listed(store)) == ["tiny:V2", "tiny:latest"]


def test_an_existing_folder_of_the_old_layout_works_both_ways(
    store: Store, root: Path, upload: Any, digest_of: Any
) -> None:
    """Files as another program writes them; nothing of ours was there before."""
    weights = upload("tiny-chat-f32.gguf")
    config = (
        b'{"model_format":"gguf","model_family":"llama","model_families":null,"model_type":"91K",'
        b'"file_type":"F32","architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}'
    )
    legacy_template = b"{{ .System }} {{ .Prompt }}"
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": upload(config),
            "size": len(config),
        },
        "layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": weights, "size": 5},
            {
                "mediaType": "application/vnd.ollama.image.prompt",
                "digest": upload(legacy_template),
                "size": 27,
            },
            {"mediaType": "application/x-unheard-of", "digest": digest_of(b"no"), "size": 1},
        ],
    }
    path = root / "manifests/hf.co/someone/Model-GGUF/Q4_K_M"
    path.parent.mkdir(parents=True)
    raw = json.dumps(document, indent=3).encode()
    path.write_bytes(raw)
    model = store.open(parse("hf.co/someone/Model-GGUF:Q4_K_M"))
    assert model.template == "{{ .System }} {{ .Prompt }}"
    assert model.config.file_type == model.quantization_level == "F32"
    assert model.families is None
    assert model.size_bytes == len(config) + 5 + 27 + 1
    store.copy(model.name, parse("mine"))
    assert (root / "manifests/registry.ollama.ai/library/mine/latest").read_bytes() == raw


def test_only_valid_names_four_levels_down_are_models(
    store: Store, root: Path, tiny: ModelName
) -> None:
    raw = (root / "manifests/registry.ollama.ai/library/tiny/latest").read_bytes()
    for stray in ("x", "h/x", "h/n/x", "h/n/m/t/x", "h/n/m/.hidden", "h/n.dot/m/t", "h/n/m/a b"):
        path = root / "manifests" / stray
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    assert listed(store) == ["tiny:latest"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'{"config":{"digest":"sha256:00"}}',
        b'{"layers":[{"digest":"../../../../etc/passwd","mediaType":"x","size":1}]}',
        b'{"layers":[{"mediaType":"x","size":1}]}',
        b'{"layers":[{"digest":"sha256:' + b"0" * 64 + b'","mediaType":"x","size":-1}]}',
        b'{"layers":7}',
        b"\xff\xfe" * 50,
        b" " * (5 << 20),
    ],
    ids=range(10),
)
def test_a_damaged_manifest_is_left_out_of_the_list(
    store: Store, root: Path, tiny: ModelName, raw: bytes
) -> None:
    path = root / "manifests/registry.ollama.ai/library/damaged/latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(raw)
    assert listed(store) == ["tiny:latest"]
    with pytest.raises(InvalidModelError, match="manifest"):
        store.open(parse("damaged"))
    store.delete(parse("damaged"))
    assert not path.exists()
    assert listed(store) == ["tiny:latest"]


def test_a_model_whose_config_is_missing_does_not_exist(
    store: Store, tiny: ModelName, root: Path
) -> None:
    document = json.loads((root / "manifests/registry.ollama.ai/library/tiny/latest").read_bytes())
    store.blobs.remove(document["config"]["digest"])
    assert listed(store) == []
    with pytest.raises(ModelNotFoundError):
        store.open(tiny)


def test_missing_weights_are_told_and_the_model_is_still_listed(
    store: Store, tiny: ModelName
) -> None:
    before = store.open(tiny)
    assert before.weights is not None
    before.weights.path.unlink()
    model = store.open(tiny)
    assert model.gguf is None
    assert model.missing == (before.weights.digest,)
    assert model.problem == f"open {before.weights.path}: no such file or directory"
    assert (model.family, model.parameter_size) == ("llama", "91K")
    assert listed(store) == ["tiny:latest"]
    with pytest.raises(StoreError, match="no such file"):
        store.header(before.weights)


def test_damaged_weights_are_told_and_noticed_when_repaired(
    store: Store, tiny: ModelName, upload: Any
) -> None:
    weights = store.open(tiny).weights
    assert weights is not None
    whole = weights.path.read_bytes()
    weights.path.write_bytes(whole[:5000])
    assert "truncated" in store.open(tiny).problem
    weights.path.write_bytes(b"no model")
    assert store.open(tiny).problem == "invalid file magic"
    upload(whole)
    assert store.open(tiny).problem == ""


def test_the_newest_model_is_listed_first(store: Store, root: Path, tiny: ModelName) -> None:
    for name, modified_s in (("a", 300), ("b", 100), ("c", 200)):
        store.copy(tiny, parse(name))
        os.utime(root / f"manifests/registry.ollama.ai/library/{name}/latest", (1, modified_s))
    assert listed(store) == ["tiny:latest", "a:latest", "c:latest", "b:latest"]


def test_a_copy_is_byte_for_byte_and_new(store: Store, root: Path, tiny: ModelName) -> None:
    source = root / "manifests/registry.ollama.ai/library/tiny/latest"
    os.utime(source, (100, 100))
    store.copy(tiny, parse("h.example/n/copy:v1"))
    path = root / "manifests/h.example/n/copy/v1"
    assert path.read_bytes() == source.read_bytes()
    assert time.time() - path.stat().st_mtime < 60
    store.copy(tiny, tiny)
    assert source.stat().st_mtime == 100
    with pytest.raises(ModelNotFoundError):
        store.copy(parse("nothing"), parse("x"))


def test_deleting_takes_what_no_other_model_needs(
    store: Store, root: Path, tiny: ModelName, create: Any
) -> None:
    before = files(root)
    create("other", base="tiny", system="I am other.")
    store.delete(parse("OTHER"))
    assert files(root) == before
    assert not (root / "manifests/registry.ollama.ai/library/other").exists()
    store.delete(tiny)
    assert files(root) == set()
    assert not (root / "manifests").exists()
    with pytest.raises(ModelNotFoundError):
        store.delete(tiny)


def test_a_damaged_neighbour_keeps_blobs_from_being_deleted(
    store: Store, root: Path, tiny: ModelName
) -> None:
    path = root / "manifests/registry.ollama.ai/library/damaged/latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{")
    blobs = files(root / "blobs")
    store.delete(tiny)
    assert files(root / "blobs") == blobs


def test_a_model_is_read_anew_when_it_changes(store: Store, tiny: ModelName, create: Any) -> None:
    first = store.open(tiny)
    assert store.open(tiny) is first
    create("tiny", base="tiny", system="changed")
    assert store.open(tiny).system == "changed"


def model_of(store: Store, tiny: ModelName, **fields: Any) -> Model:
    model = store.open(tiny)
    return msgspec.structs.replace(model, config=msgspec.structs.replace(model.config, **fields))


@pytest.mark.parametrize("stated", ["", "unknown"])
def test_what_the_config_does_not_know_comes_from_the_weights(
    store: Store, upload: Any, create: Any, stated: str
) -> None:
    create("byte", files={"m.gguf": upload("gpt2byte-f16.gguf")})
    model = model_of(store, parse("byte"), file_type=stated, model_type=stated, model_family="")
    assert (model.quantization_level, model.listed_quantization_level) == ("F16", "F16")
    assert (model.parameter_size, model.family) == ("125K", "gpt2")


def test_a_config_may_state_lengths(store: Store, tiny: ModelName) -> None:
    model = model_of(store, tiny, context_length=7, embedding_length=8)
    assert (model.context_length, model.embedding_length) == (7, 8)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0"), (999, "999"), (1000, "1K"), (1500, "2K"), (2500, "2K"), (999_999, "1000K"),
        (1_000_000, "1M"), (134_515_008, "134.52M"), (999_999_999, "1000.00M"),
        (10**9, "1B"), (8_030_261_248, "8.0B"), (70_553_706_496, "70.6B"),
    ],
)  # fmt: skip
def test_parameter_counts_in_words(count: int, expected: str) -> None:
    assert parameter_size_text(count) == expected
