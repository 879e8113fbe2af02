"""Models of several files: split ones, projectors, drafts, and what converters and quantizers make.

The store gives their work as `NeedsTask`; here the tests do it themselves.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral_kernel.contracts import (
    MadeFile,
)
from corral_kernel.errors import (
    InvalidModelError,
    InvalidRequestError,
    StoreError,
    TaskError,
)
from corral_kernel.gguf import read_header
from corral_kernel.models import ADAPTER_TYPE, PROJECTOR_TYPE, WEIGHTS_TYPE, Draft
from corral_kernel.store import NeedsTask, Store
from corral_kernel.tasks.messages import AnyTask

Work = Callable[[AnyTask], tuple[MadeFile, ...]]


# ------------------------------------------------------------------------------- several files


def parts(make_wide: Callable[..., Path], folder: Path) -> list[Path]:
    make_wide(folder / "wide.gguf", split_max_tensors=5)
    return sorted(folder.glob("wide-*.gguf"))


def test_the_parts_of_a_split_file_become_one(
    make: Any, wide: Path, make_wide: Any, tmp_path: Path
) -> None:
    split = parts(make_wide, tmp_path)
    assert len(split) == 3
    told = make("m", files={path.name: make.upload(path.read_bytes()) for path in reversed(split)})
    assert [step.status for step in told][:4] == [*["parsing GGUF"] * 3, "merging GGUF"]
    model = make.opened("m")
    assert model.weights is not None
    assert model.parent_model == "wide-00001-of-00003.gguf"
    whole, merged = gguf.GGUFReader(wide), gguf.GGUFReader(model.weights.path)
    assert not [key for key in merged.fields if key.startswith("split.")]
    assert set(merged.fields) == set(whole.fields)
    assert [tensor.name for tensor in merged.tensors] == [tensor.name for tensor in whole.tensors]
    for ours, theirs in zip(merged.tensors, whole.tensors, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([0, 2], "part 2 of 3 is missing"),
        ([1, 2], "part 1 of 3 is missing"),
        ([0, 1, 2, 2], "has 4 parts, and should have 3"),
    ],
    ids=["one is missing", "the first is missing", "one twice"],
)
def test_parts_that_do_not_fit_are_refused(
    make: Any, make_wide: Any, tmp_path: Path, kept: list[int], words: str
) -> None:
    split = parts(make_wide, tmp_path)
    uploaded = {
        f"wide-{number:05}-of-00003.gguf": make.upload(split[part].read_bytes())
        for number, part in enumerate(kept, 1)
    }
    before = make.listed()
    with pytest.raises(InvalidModelError, match=f"split GGUF .*{words}"):
        make("m", files=uploaded)
    assert make.listed() == before


def projector(path: Path, **texts: str) -> Path:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_uint32("clip.vision.block_count", 1)
    for key, value in texts.items():
        writer.add_string(f"clip.{key}", value)
    writer.add_tensor("v.patch_embd.weight", np.arange(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_projector_becomes_a_layer_of_its_own(make: Any, upload: Any, tmp_path: Path) -> None:
    digest = upload(projector(tmp_path / "p.gguf", projector_type="gemma3").read_bytes())
    make("m", files={"m.gguf": upload("tiny-chat-f32.gguf"), "mmproj.gguf": digest})
    (found,) = make.opened("m").projectors
    assert (found.digest, found.media_type) == (digest, PROJECTOR_TYPE)
    assert make.opened("m").families == ("llama",)


def test_an_old_projector_is_told_its_type(make: Any, upload: Any, tmp_path: Path) -> None:
    digest = upload(projector(tmp_path / "p.gguf").read_bytes())
    told = make("m", files={"m.gguf": upload("tiny-chat-f32.gguf"), "p.gguf": digest})
    assert "updating GGUF projector metadata" in [step.status for step in told]
    (found,) = make.opened("m").projectors
    assert found.digest != digest
    assert read_header(found.path).text("clip.projector_type") == "mlp"
    (tensor,) = gguf.GGUFReader(found.path).tensors
    assert tensor.data.tolist() == list(range(32))


def test_a_draft_becomes_a_layer_and_takes_the_place_of_the_base_s(
    make: Any, upload: Any, wide: Path
) -> None:
    tiny = upload("tiny-chat-f32.gguf")
    make("m", files={"m.gguf": upload(wide.read_bytes())}, draft_files={"d.gguf": tiny})
    model = make.opened("m")
    assert [draft.digest for draft in model.drafts] == [tiny]
    assert model.config.draft == Draft(model_format="gguf", architecture="llama")
    other = upload("gpt2byte-f16.gguf")
    make("n", base="m", draft_files={"d.gguf": other})
    assert [draft.digest for draft in make.opened("n").drafts] == [other]
    make("o", base="m")
    assert [draft.digest for draft in make.opened("o").drafts] == [tiny]


def test_a_draft_that_is_no_model_is_refused(make: Any, upload: Any) -> None:
    tiny, adapter = upload("tiny-chat-f32.gguf"), upload("lora-zorblax-f16.gguf")
    before = make.listed()
    with pytest.raises(InvalidRequestError, match="no base model was found"):
        make("m", files={"m.gguf": tiny}, draft_files={"d.gguf": adapter})
    assert make.listed() == before


# ---------------------------------------------------------------------------------- converting

CONFIG = b'{"architectures": ["LlamaForCausalLM"]}'


@pytest.fixture
def folder(upload: Any) -> dict[str, str]:
    return {"model.safetensors": upload(b"weights"), "config.json": upload(CONFIG)}


def test_what_a_converter_makes_becomes_the_model(
    make: Any, copier: Any, folder: dict[str, str], wide: Path, root: Path
) -> None:
    def work(task: AnyTask) -> tuple[MadeFile, ...]:
        found = {file.name: Path(file.path).read_bytes() for file in task.files}
        assert found == {"config.json": CONFIG, "model.safetensors": b"weights"}
        return make.copy_of(wide)(task)

    told = make("m", work, files=folder)
    statuses = [step.status for step in told]
    assert statuses[:3] == ["converting model", "converting model", "verifying conversion"]
    assert statuses[-1] == "success"
    assert told[1].digest
    assert (told[1].completed, told[1].total) == (len(CONFIG + b"weights") // 2, 46)
    assert copier.source.documents == {"config.json": {"architectures": ["LlamaForCausalLM"]}}
    model = make.opened("m")
    assert model.weights is not None
    assert model.weights.path.read_bytes() == wide.read_bytes()
    assert (model.parent_model, model.quantization_level) == ("model.safetensors", "F16")
    assert not list((root / "making").iterdir())


def test_a_projector_that_a_converter_makes_joins_the_model(
    make: Any, folder: dict[str, str], wide: Path, tmp_path: Path
) -> None:
    other = projector(tmp_path / "p.gguf", projector_type="gemma3")

    def work(task: AnyTask) -> tuple[MadeFile, ...]:
        return (*make.copy_of(wide)(task), *make.copy_of(other, "p.gguf", "projector")(task))

    make("m", work, files=folder)
    kinds = [file.media_type for file in make.opened("m").files]
    assert kinds == [WEIGHTS_TYPE, PROJECTOR_TYPE]


def test_an_adapter_is_converted_for_its_base(
    make: Any, copier: Any, folder: dict[str, str], upload: Any
) -> None:
    lora = Path(__file__).parents[2] / "models" / "lora-tiny-chat-f32.gguf"
    make("base", files={"m.gguf": upload("tiny-chat-f32.gguf")})

    def work(task: AnyTask) -> tuple[MadeFile, ...]:
        weights = [Path(file.path) for file in task.files if file.role == "weights"]
        assert read_header(weights[0]).architecture == "llama"
        return make.copy_of(lora, "a.gguf", "adapter")(task)

    told = make("m", work, base="base", adapters=folder)
    assert told[0].status == "converting adapter"
    assert (copier.source.kind, copier.source.architecture) == ("adapter", "llama")
    (adapter,) = make.opened("m").adapters
    assert adapter.media_type == ADAPTER_TYPE
    assert adapter.path.read_bytes() == lora.read_bytes()


def no_file(task: AnyTask) -> tuple[MadeFile, ...]:
    return (MadeFile(name="nothing.gguf"),)


def a_folder(task: AnyTask) -> tuple[MadeFile, ...]:
    (Path(task.folder) / "a.gguf").mkdir()
    return (MadeFile(name="a.gguf"),)


def a_link(task: AnyTask) -> tuple[MadeFile, ...]:
    (Path(task.folder) / "a.gguf").symlink_to("/etc/hostname")
    return (MadeFile(name="a.gguf"),)


def a_place_elsewhere(task: AnyTask) -> tuple[MadeFile, ...]:
    return (MadeFile(name="../source/model.safetensors"),)


def a_link_to_a_folder(task: AnyTask) -> tuple[MadeFile, ...]:
    (Path(task.folder) / "a").symlink_to("../source")
    return (MadeFile(name="a/model.safetensors"),)


def written(task: AnyTask, name: str, role: Any = "weights") -> MadeFile:
    (Path(task.folder) / name).write_bytes(b"text")
    return MadeFile(name=name, role=role)


def no_gguf(task: AnyTask) -> tuple[MadeFile, ...]:
    return (written(task, "a.gguf"),)


def half_a_gguf(task: AnyTask) -> tuple[MadeFile, ...]:
    raw = (Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf").read_bytes()
    (Path(task.folder) / "a.gguf").write_bytes(raw[: len(raw) // 2])
    return (MadeFile(name="a.gguf"),)


def an_adapter(task: AnyTask) -> tuple[MadeFile, ...]:
    return (written(task, "a.gguf", "adapter"),)


def two_models(task: AnyTask) -> tuple[MadeFile, ...]:
    return (written(task, "a.gguf"), written(task, "b.gguf"))


def the_disk_is_full(task: AnyTask) -> tuple[MadeFile, ...]:
    raise StoreError("the disk is full")


BAD_WORK = {
    work: (kind, words)
    for work, kind, words in (
        (no_file, StoreError, "no such file"),
        (a_folder, StoreError, "storing a.gguf"),
        (a_link, TaskError, "is a link"),
        (a_place_elsewhere, TaskError, "named wrongly"),
        (a_link_to_a_folder, TaskError, "is a link"),
        (no_gguf, InvalidModelError, "invalid file magic"),
        (half_a_gguf, InvalidModelError, "truncated"),
        (an_adapter, TaskError, "offered to make a gguf, and made files for: adapter"),
        (two_models, TaskError, "made files for: weights, weights"),
        (the_disk_is_full, StoreError, "the disk is full"),
    )
}


@pytest.mark.parametrize("work", BAD_WORK, ids=lambda work: work.__name__)
def test_what_was_made_wrongly_is_refused_and_leaves_nothing(
    make: Any, root: Path, folder: dict[str, str], work: Work
) -> None:
    kind, words = BAD_WORK[work]
    before = make.listed()
    with pytest.raises(kind, match=words):
        make("m", work, files=folder)
    assert make.listed() == before
    assert not list((root / "making").iterdir())


def test_a_conversion_that_is_given_up_leaves_nothing(
    make: Any, folder: dict[str, str], wide: Path
) -> None:
    before = make.listed()
    for count in range(1, 6):
        steps = make.begin("m", files=folder)
        answer = None
        for _ in range(count):
            step = steps.send(answer)
            answer = make.copy_of(wide)(step.task) if isinstance(step, NeedsTask) else None
        steps.close()
        assert make.listed() == before


def test_a_conversion_for_which_there_is_no_room_is_not_begun(
    make: Any, copier: Any, folder: dict[str, str]
) -> None:
    copier.size_bytes = 1 << 60
    before = make.listed()
    with pytest.raises(StoreError, match=f"not enough room: {1 << 60} bytes are needed"):
        make("m", files=folder)
    assert make.listed() == before


def test_the_work_of_a_server_that_was_killed_is_removed_by_the_next(
    store: Store, root: Path
) -> None:
    left = root / "making" / "0123"
    (left / "made").mkdir(parents=True)
    (left / "made" / "half.gguf").write_bytes(b"half")
    with store.workshops.open() as workshop:
        store.start_up()
        assert workshop.made.is_dir(), "one that is in use stays"
        assert not left.exists()
