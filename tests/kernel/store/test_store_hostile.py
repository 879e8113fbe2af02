"""Whatever names, digests, paths and manifests say: the store stays within its own folders."""

import json
import os
import re
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral_kernel.errors import (
    CorralError,
    InvalidDigestError,
    InvalidNameError,
)
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Store, Wish, create_model
from corral_kernel.store.blobs import Blobs, digest_of
from corral_kernel.transfers.received import read_received

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
few = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# ------------------------------------------------------------------------------- what is touched

_EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.utime"}
    | {"os.symlink", "os.truncate", "os.chmod", "os.listdir", "os.scandir", "shutil.rmtree"}
)
_watching: list[list[str]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in _EVENTS:
        paths = arguments[:1] if event == "open" else arguments[:2]
        _watching[-1].extend(os.fspath(p) for p in paths if isinstance(p, str | os.PathLike))


sys.addaudithook(_watch)  # it cannot be taken away again, and does nothing but for `within`


@contextmanager
def within(*folders: Path) -> Iterator[None]:
    """Fail if any file or folder outside of these is opened, made, moved or removed."""
    touched: list[str] = []
    _watching.append(touched)
    try:
        yield
    finally:
        _watching.pop()
    libraries = (sys.prefix, sys.base_prefix, *filter(None, sys.path))
    allowed = (*map(str, folders), *map(os.path.realpath, libraries), *libraries)
    for path in touched:
        assert "\0" not in path
        normal = os.path.normpath(path)
        assert any(normal == a or normal.startswith(f"{a}/") for a in allowed), path


# -------------------------------------------------------------------------------------- strategies

_FRAGMENTS = st.sampled_from(
    [
        *(
            "..",
            ".",
            "/",
            "//",
            ":",
            "\\",
            "\0",
            "~",
            "%2e%2e",
            "\u2026",
            "\u00e9",
            "\u202e",
            "\uff41",
        ),
        *(" ", "\n", "-", "a", "A", "latest", "con", "nul", "manifests", "blobs", "@", "sha256"),
        *("http://", "x" * 90, "/etc/passwd", "$HOME", "file://", "\ud800", ".corral-lock", "*"),
        *("{}", '"', "library"),
    ]
)
hostile = st.lists(_FRAGMENTS, max_size=8).map("".join) | st.text(max_size=40)
digests = st.one_of(
    hostile,
    st.sampled_from(["sha256:", "sha256-"]).flatmap(
        lambda head: st.text("0123456789abcdefABCDEF/.\0gz", max_size=66).map(head.__add__)
    ),
    st.just(digest_of(TINY.read_bytes())),
    st.just(f"sha256:{'00' * 32}"),
)
sizes = st.integers(-(1 << 65), 1 << 65) | st.sampled_from([0, 1, -1, 1 << 62])
leaves = st.none() | st.booleans() | sizes | st.floats() | hostile
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile, inner, max_size=4)
)
media_types = st.sampled_from(
    [f"application/vnd.ollama.image.{kind}" for kind in ("model", "adapter", "template", "file")]
    + [f"application/vnd.ollama.image.{kind}" for kind in ("params", "messages", "license", "x")]
)
layers = st.fixed_dictionaries(
    {},
    optional={
        "mediaType": media_types | anything,
        "digest": digests | anything,
        "size": sizes | anything,
        "from": hostile | anything,
        "name": hostile | anything,
    },
)
manifests = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": anything,
        "config": layers | anything,
        "layers": st.lists(layers | anything, max_size=6) | anything,
    },
)


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


raw_manifests = st.one_of(
    manifests.map(encoded),
    st.binary(max_size=200),
    st.builds(lambda depth: b'{"layers":' + b"[" * depth, st.sampled_from([10, 2000, 100_000])),
    st.builds(
        lambda count: encoded({"layers": [{"digest": f"sha256:{'ab' * 32}"}] * count}),
        st.sampled_from([1, 100, 5000]),
    ),
)


# ------------------------------------------------------------------------------------------- tests


@few
@given(text=hostile)
def test_a_name_is_refused_or_leads_into_the_manifests(text: str) -> None:
    root = Path("/store")
    try:
        name = ModelName.parse(text)
    except InvalidNameError:
        return
    path = Store(root, Path("/cache")).manifest_path(name)
    assert path.parts[:3] == ("/", "store", "manifests")
    assert len(path.parts) == 7
    assert ".." not in path.parts
    assert os.path.normpath(path) == str(path)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*", part) for part in path.parts[3:])


@few
@given(text=digests)
def test_a_digest_is_refused_or_leads_to_a_blob(text: str) -> None:
    try:
        path = Blobs(Path("/store/blobs")).path(text)
    except InvalidDigestError:
        return
    assert path.parent == Path("/store/blobs")
    assert re.fullmatch(r"sha256-[0-9a-f]{64}", path.name)


@few
@given(
    asked=st.builds(
        CreateRequest,
        model=hostile,
        base=hostile | st.just("tiny"),
        files=st.dictionaries(hostile | st.just("m.gguf"), digests, max_size=3) | st.none(),
        adapters=st.dictionaries(hostile, digests, max_size=2),
    )
)
def test_a_creation_stays_within_the_store(
    store: Store, tmp_path: Path, asked: CreateRequest
) -> None:
    with store.blobs.writer() as writer:
        writer.write(TINY.read_bytes())
        writer.finish()
    with within(tmp_path / "models", tmp_path / "cache"):
        with suppress(CorralError):
            list(create_model(store, asked))
        models = store.list_models()
    for made in models:
        assert made.missing == ()


@few
@given(source=hostile, target=hostile)
def test_what_is_done_to_a_name_stays_within_the_store(
    store: Store, tiny: ModelName, tmp_path: Path, source: str, target: str
) -> None:
    doings: list[Callable[[], object]] = [
        lambda: store.copy(tiny, ModelName.parse(target)),
        lambda: store.copy(ModelName.parse(source), ModelName.parse(target)),
        lambda: store.open(ModelName.parse(source)),
        lambda: store.delete(ModelName.parse(target)),
    ]
    for do in doings:
        with within(tmp_path / "models", tmp_path / "cache"), suppress(CorralError):
            do()
    assert tiny in [model.name for model in store.list_models()] or target in ("tiny", "TINY")


@few
@given(raw=raw_manifests)
def test_a_manifest_in_the_store_is_read_or_refused(
    store: Store, tmp_path: Path, raw: bytes
) -> None:
    place = tmp_path / "models" / "manifests" / "h" / "n" / "m" / "t"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(raw)
    name = ModelName.parse("h/n/m:t")
    doings: list[Callable[[], object]] = [
        store.list_models,
        lambda: store.open(name),
        lambda: store.verify(store.open(name)),
        lambda: store.lay_out(store.open(name)).release(),
        lambda: store.copy(name, ModelName.parse("copied")),
        lambda: list(create_model(store, CreateRequest(model="built", base="h/n/m:t"))),
        lambda: store.collect_garbage(Wish()),
        lambda: store.delete(name),
    ]
    with within(tmp_path / "models", tmp_path / "cache"):
        store.start_up()
        for do in doings:
            with suppress(CorralError):
                do()
    assert not place.exists()
    for left in ("copied", "built"):
        with suppress(CorralError):
            store.delete(ModelName.parse(left))


@few
@given(raw=raw_manifests)
def test_a_manifest_that_comes_is_sound_or_refused(raw: bytes) -> None:
    try:
        manifest = read_received(raw, ModelName.parse("h/n/m:t"))
    except CorralError:
        return
    for layer in (*manifest.layers, manifest.config):
        assert not layer.digest or re.fullmatch(r"sha256:[0-9a-f]{64}", layer.digest)
        assert 0 <= layer.size_bytes <= 1 << 50


# ----------------------------------------------------------------------------------- special files


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # an address of a socket is short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": _fifo,
    "socket": _socket,
    "zeros": _link_to("/dev/zero"),
    "random": _link_to("/dev/urandom"),
    "terminal": _link_to("/dev/tty"),
    "memory": _link_to("/proc/self/mem"),
    "standard input": _link_to("/proc/self/fd/0"),
    "nowhere": _link_to("/nowhere/at/all"),
    "itself": lambda path: path.symlink_to(path.name),
    "folder": lambda path: path.mkdir(),
}
special = pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL.keys())


def all_that_reads(store: Store, name: ModelName) -> None:
    doings: list[Callable[[], object]] = [
        store.start_up,
        store.list_models,
        lambda: store.open(name),
        lambda: store.verify(store.open(name)),
        lambda: store.copy(name, ModelName.parse("copied")),
        lambda: list(create_model(store, CreateRequest(model="built", base=name.full))),
        lambda: store.collect_garbage(Wish(everything=True)),
    ]
    for do in doings:
        with suppress(CorralError):
            do()


@special
@pytest.mark.timeout(60)
def test_what_is_no_file_in_a_manifest_s_place_holds_up_nobody(
    store: Store, tiny: ModelName, make: Callable[[Path], None]
) -> None:
    name = ModelName.parse("h/n/m:t")
    place = store.manifest_path(name)
    place.parent.mkdir(parents=True)
    make(place)
    all_that_reads(store, name)
    assert tiny in [model.name for model in store.list_models()]
    with pytest.raises(CorralError):
        store.open(name)


@special
@pytest.mark.parametrize("which", ["weights", "config"])
@pytest.mark.timeout(60)
def test_what_is_no_file_in_a_blob_s_place_holds_up_nobody(
    store: Store, tiny: ModelName, make: Callable[[Path], None], which: str
) -> None:
    manifest = store.find(tiny)[0].manifest
    layer = manifest.config if which == "config" else manifest.layers[0]
    place = store.blobs.path(layer.digest)
    data = place.read_bytes()
    place.unlink()
    make(place)
    all_that_reads(store, tiny)
    if layer.digest in store.blobs:  # the system calls it a file, and says that nothing is in it
        assert store.blobs.size(layer.digest) == 0
    elif not place.is_dir():  # it comes again
        digest, is_new = store.blobs.add(data)
        assert (digest, is_new) == (layer.digest, True)
        assert stat.S_ISREG(place.lstat().st_mode)
        assert store.open(tiny).problem == ""
    store.delete(tiny)


@special
@pytest.mark.timeout(60)
def test_what_is_no_file_is_not_taken_over_from_a_lender(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    data = TINY.read_bytes()
    path = tmp_path / "lent.gguf"
    make(path)
    entry = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": digest_of(data),
        "size": len(data),
    }
    lent = LentModel(
        name="lent",
        manifest=encoded({"config": {}, "layers": [entry]}),
        blobs={digest_of(data): path},
        contents={},
        modified_ns=0,
        owner="a test",
    )
    store = Store(tmp_path / "models", tmp_path / "cache", lent=lambda: [lent])
    name = ModelName.parse("lent")
    all_that_reads(store, name)
    with pytest.raises(CorralError):
        store.copy(name, ModelName.parse("copied"))
    with pytest.raises(CorralError):
        store.verify(store.open(name))
    assert digest_of(data) not in store.blobs
