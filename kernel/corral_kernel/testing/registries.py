"""What the contract asks of a registry."""

import asyncio
import contextlib
import hashlib
import os
import re
import socket
import stat
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from unittest import mock

from corral_kernel.contracts import Registry, RegistryCall, RegistryPlaces, Repository
from corral_kernel.errors import CorralError, InvalidNameError, NoRangesError, RegistryError
from corral_kernel.models import Layer, LentModel
from corral_kernel.names import ModelName, parse_digest
from corral_kernel.store.manifests import Manifest, parse_manifest
from corral_kernel.testing.suites import EVERYTHING, ContractBrokenError, attempt, demand
from corral_kernel.transfers.received import check_ingredients, read_received, wanted

T = TypeVar("T")

LIMIT_S = 60.0
"""What an operation on a sample may take; only a failing test waits for so long."""

NAMES = (
    "llama3", "team/model", "hf.co/u/Repo-GGUF:Q4_0", "registry.example:5000/a/b:c",
    "127.0.0.1:1/x/y", "UPPER/Case:Tag", "a" * 80, "h.co/" + "n" * 80 + "/" + "m" * 80 + ":t",
)  # fmt: skip
ADDRESSES = ("", "x", "a/b", "hf.co/u/r:t", "://", "\0", "x://", "é" * 3000, "../../x", "a://b/c/d")
_HASHED_BYTES = 256 << 20  # of a lent file; larger ones are not hashed here


class RegistrySuite:
    """Tests of one registry.

    Attributes:
        kind: The registry, set by a subclass.
        places: Where its server keeps what; None: a folder of the suite's own, with nothing in it.
        lends: Names of models that it lends there.
        pulled: Names, or addresses of its own form, that it has. It is asked by plain http.
        missing: A name or address that it has not; empty: nothing is pulled here.
        pushed: A name that may be pushed to; empty: it is not pushed to here.
    """

    kind: ClassVar[Registry]
    places: ClassVar[RegistryPlaces | None] = None
    lends: ClassVar[Sequence[str]] = ()
    pulled: ClassVar[Sequence[str]] = ()
    missing: ClassVar[str] = ""
    pushed: ClassVar[str] = ""
    _own: ClassVar[Any] = None

    @classmethod
    def setup_class(cls) -> None:
        """Begin, as a server does."""
        if cls.places is None:
            cls._own = tempfile.TemporaryDirectory(prefix="registry-suite-")
            home = Path(cls._own.name)
            cls.places = RegistryPlaces(home=home, models_dir=home / "models")
        attempt("begin(places)", cls.kind.begin, cls.places)

    @classmethod
    def teardown_class(cls) -> None:
        """Remove the folder."""
        if cls._own is not None:
            cls._own.cleanup()
            cls._own, cls.places = None, None

    # ---------------------------------------------------------------------------- what it says

    def test_it_has_a_name_and_says_what_it_is(self) -> None:
        """People see both in `corral registries`."""
        name = getattr(self.kind, "name", "")
        demand(re.fullmatch(r"[a-z0-9_.-]{1,40}", name), f"its name is {name!r}: wanted a-z, 0-9")
        demand(self.kind.docs, "it has no docs, which people are shown")
        for what in ("docs", "claims", "form"):
            demand("\n" not in getattr(self.kind, what), f"its {what} have more than one line")

    def test_notes_are_texts(self) -> None:
        """Each is a line."""
        for note in attempt("notes()", self.kind.notes):
            demand(isinstance(note, str) and note, f"a note is {note!r}, no text")

    def test_claims_are_numbers_whatever_the_name(self) -> None:
        """They are asked for each pull, and do not ask the network."""
        for text in NAMES:
            name = ModelName.parse(text)
            with _offline():
                claim = attempt(f"claim({text!r})", self.kind.claim, name)
            is_number = isinstance(claim, (int, float)) and 0.0 <= claim <= 1.0
            demand(is_number, f"claim({text!r}) gave {claim!r}: wanted a number from 0 to 1")
            demand(
                not claim or self.kind.claims,
                f"it claims {text!r}, and its `claims` does not say which names it claims",
            )

    def test_addresses_are_read_or_refused_in_one_way(self) -> None:
        """What it does not know is none of its form: names stay names."""
        for text in (*NAMES, *ADDRESSES):
            with _offline():
                try:
                    found = self.kind.parse(text)
                except InvalidNameError:
                    continue
                except EVERYTHING as error:
                    what = f"parse({text!r}) raised {type(error).__name__}: {error}"
                    raise ContractBrokenError(f"{what}; wanted InvalidNameError") from error
            is_right = found is None or (isinstance(found, ModelName) and text not in NAMES)
            demand(is_right, f"parse({text!r}) gave {found!r}")
            demand(found is None or self.kind.form, "it reads addresses, and has no `form`")

    # --------------------------------------------------------------------------- what it lends

    def test_what_it_lends_is_there(self) -> None:
        """Of those that the suite knows."""
        found = {model.name: model for model, _ in self._lent()}
        known = {ModelName.parse(name).folded for name in found}
        for name in self.lends:
            demand(ModelName.parse(name).folded in known, f"it does not lend {name}: {list(found)}")

    def test_lent_models_are_whole(self) -> None:
        """Manifests name what is lent, each file is there, and has its size."""
        for model, manifest in self._lent():
            demand(model.owner, f"{model.name} has no owner, which messages name")
            for layer in wanted(manifest):
                self._look_at(model, layer)

    def _look_at(self, model: LentModel, layer: Layer) -> None:
        what = f"{model.name}: {layer.media_type} {layer.digest}"
        if layer.digest in model.contents:
            data = model.contents[layer.digest]
            demand(_digest(data) == layer.digest, f"{what} has another content")
            demand(len(data) == layer.size_bytes, f"{what} has {len(data)} bytes")
            return
        demand(layer.digest in model.blobs, f"{what} is not lent")
        status = attempt(f"stat of {what}", model.blobs[layer.digest].stat)
        demand(stat.S_ISREG(status.st_mode), f"{what} is no file")
        demand(status.st_size == layer.size_bytes, f"{what} has {status.st_size} bytes")

    def test_digests_of_lent_models_are_true(self) -> None:
        """At once, or after `settle`; a model that says its problem may stay as it is."""
        for lent, _ in self._lent():
            if lent.problem:
                continue
            model = attempt(f"settle of {lent.name}", lent.settle) if lent.settle else lent
            demand(isinstance(model, LentModel), f"settle of {lent.name} gave {type(model)}")
            for digest, path in model.blobs.items():
                if path.stat().st_size <= _HASHED_BYTES:
                    with path.open("rb") as file:
                        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
                    demand(found == parse_digest(digest), f"{path} has {found}, not {digest}")

    def test_lending_again_gives_the_same_and_writes_nothing(self) -> None:
        """It is asked for each listing, and files are another's."""
        before = {path: path.stat().st_mtime_ns for path in self._files()}
        first, again = ([model.name for model, _ in self._lent()] for _ in range(2))
        demand(first == again, f"it lends {again} after {first}, and nothing changed")
        after = {path: path.stat().st_mtime_ns for path in self._files()}
        demand(before == after, "it changed files that it lends")

    def _files(self) -> set[Path]:
        return {path for model, _ in self._lent() for path in model.blobs.values()}

    def _lent(self) -> list[tuple[LentModel, Manifest]]:
        with _offline():
            lent = attempt("lent()", lambda: list(self.kind.lent()))
        found = []
        for model in lent:
            demand(isinstance(model, LentModel), f"it lent {type(model).__name__}")
            attempt(f"the name {model.name!r}", ModelName.parse, model.name)
            what = f"the manifest of {model.name}"
            found.append((model, attempt(what, parse_manifest, model.manifest)))
        return found

    # -------------------------------------------------------------------------- what it fetches

    def test_opening_asks_nothing(self) -> None:
        """What fails then has a status; the network comes after."""
        for text in (*self.pulled, *filter(None, (self.missing,))):
            with _offline():
                repository = attempt(f"open({text!r})", self._open, text)
            _run(repository.aclose())

    def test_a_pulled_model_is_what_is_said_of_it(self) -> None:
        """All blobs have their sizes and digests, in pieces of any size."""

        async def look(repository: Repository, text: str) -> None:
            for layer in await _layers(repository, ModelName.parse("suite/sample")):
                data = await _read(repository, layer, 0)
                demand(len(data) >= layer.size_bytes, f"{text}: {layer.digest} is short")
                found = _digest(data[: layer.size_bytes])
                demand(found == layer.digest, f"{text}: {layer.digest} came as {found}")

        self._each(look)

    def test_reads_go_on_from_where_they_are_told(self) -> None:
        """So a pull resumes; who cannot do that says so."""

        async def look(repository: Repository, text: str) -> None:
            for layer in await _layers(repository, ModelName.parse("suite/sample")):
                whole = await _read(repository, layer, 0)
                start = layer.size_bytes // 2
                with contextlib.suppress(NoRangesError):
                    rest = await _read(repository, layer, start)
                    right = whole[start : layer.size_bytes]
                    demand(rest[: len(right)] == right, f"{text}: other bytes from {start} on")

        self._each(look)

    def test_reads_may_be_given_up(self) -> None:
        """A client that leaves ends them in the middle."""

        async def look(repository: Repository, text: str) -> None:
            del text
            for layer in await _layers(repository, ModelName.parse("suite/sample")):
                if layer.size_bytes:
                    async with aclosing(repository.read(layer, 0, layer.size_bytes)) as pieces:
                        await anext(pieces)

        self._each(look)

    def test_a_blob_that_is_not_there_is_a_registry_error(self) -> None:
        """Not bytes of something else, and no other exception."""

        async def look(repository: Repository, text: str) -> None:
            await _layers(repository, ModelName.parse("suite/sample"))
            nobodys = Layer("", f"sha256:{'0' * 63}1", 10)
            await _refused(lambda: _read(repository, nobodys, 0), f"{text}: an unknown blob")

        self._each(look)

    def test_a_missing_model_is_a_registry_error(self) -> None:
        """Its message is what the user reads."""
        if not self.missing:
            return

        async def look(repository: Repository) -> None:
            name = ModelName.parse("suite/missing")
            await _refused(lambda: _layers(repository, name), f"{self.missing}, which is not there")

        _run(_closing(self._open(self.missing), look))

    # ---------------------------------------------------------------------------- what it takes

    def test_what_is_pushed_can_be_pulled(self) -> None:
        """Blobs first, the manifest's own bytes last."""
        if not self.pushed:
            return
        data, config = os.urandom(70_000), b'{"model_format":"gguf"}'
        entries = [
            f'{{"mediaType":"x/{kind}","digest":"{_digest(blob)}","size":{len(blob)}}}'
            for kind, blob in (("config", config), ("model", data))
        ]
        raw = f'{{ "schemaVersion": 2, "config": {entries[0]}, "layers": [{entries[1]}] }}'.encode()

        async def push(repository: Repository) -> None:
            with tempfile.TemporaryDirectory() as folder:
                for blob in (config, data):
                    path = Path(folder) / "blob"
                    path.write_bytes(blob)
                    await self._send(repository, blob, path)
            await repository.put_manifest(raw)

        async def pull(repository: Repository) -> None:
            demand(await repository.manifest() == raw, "the manifest's bytes came back changed")
            for layer in await _layers(repository, ModelName.parse("suite/pushed")):
                back = await _read(repository, layer, 0)
                demand(
                    _digest(back[: layer.size_bytes]) == layer.digest, "a blob came back changed"
                )

        _run(_closing(self._open(self.pushed), push))
        _run(_closing(self._open(self.pushed), pull))

    async def _send(self, repository: Repository, blob: bytes, path: Path) -> None:
        layer, told = Layer("x/blob", _digest(blob), len(blob)), list[int]()
        demand(not await repository.has(layer), "it has a blob that nobody put there")
        await repository.send(layer, path, told.append)
        demand(await repository.has(layer), "it has not what it was sent")
        demand(told and told[-1] == len(blob), f"it told {told[-3:]} of {len(blob)} bytes")

    # ------------------------------------------------------------------------------------ means

    def _each(self, look: Callable[[Repository, str], Awaitable[None]]) -> None:
        """Do something with each model that can be pulled."""
        for text in self.pulled:
            _run(_closing(self._open(text), partial(_named, look, text)))

    def _open(self, text: str) -> Repository:
        assert self.places is not None
        name = self.kind.parse(text)
        address = text if name is not None else ""
        call = RegistryCall(
            name=name or ModelName.parse(text),
            home=self.places.home,
            insecure=True,
            address=address,
        )
        return self.kind.open(call)


async def _named(
    look: Callable[[Repository, str], Awaitable[None]], text: str, repository: Repository
) -> None:
    await look(repository, text)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def _layers(repository: Repository, name: ModelName) -> list[Layer]:
    ingredients = await repository.ingredients()
    if ingredients is not None:
        return check_ingredients(ingredients.files)
    return wanted(read_received(await repository.manifest(), name))


async def _read(repository: Repository, layer: Layer, start: int) -> bytes:
    data = bytearray()
    reading: AsyncGenerator[bytes] = repository.read(layer, start, layer.size_bytes)
    async with aclosing(reading) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) >= layer.size_bytes - start:
                break
    return bytes(data)


async def _refused(ask: Callable[[], Awaitable[object]], what: str) -> None:
    try:
        await ask()
    except RegistryError as error:
        demand(str(error), f"{what} is refused without a word")
        return
    except CorralError as error:
        raise ContractBrokenError(f"{what} raised {type(error).__name__}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ContractBrokenError(f"{what} raised {type(error).__name__}: {error}") from error
    raise ContractBrokenError(f"{what} is given all the same; wanted RegistryError")


async def _closing(repository: Repository, look: Callable[[Repository], Awaitable[T]]) -> T:
    try:
        return await look(repository)
    finally:
        await repository.aclose()


def _run(work: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await work

    return asyncio.run(bounded())


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Let whatever asks the network fail."""

    def refuse(*_: object, **__: object) -> Any:
        raise ContractBrokenError("it asks the network, which this must not do")

    with (
        mock.patch.object(socket.socket, "connect", refuse),
        mock.patch.object(socket.socket, "connect_ex", refuse),
        mock.patch.object(socket, "getaddrinfo", refuse),
    ):
        yield
