"""One look at all folders: which models are there now."""

import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from corral_folders.foldermodels import folder_model
from corral_folders.hubcache import repository_of, snapshot_files
from corral_folders.naming import Place
from corral_folders.ollama import OllamaStore, is_store
from corral_folders.recipes import Recipe
from corral_folders.site import Site
from corral_folders.states import States
from corral_folders.walk import File, Notes, Walk, is_folder
from corral_folders.weights import gguf_models
from corral_kernel.contracts import RegistryPlaces
from corral_kernel.gguf.filenames import is_gguf
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName
from corral_kernel.store.files import reason_of

MAX_MODELS: Final = 5000
_NOT_THERE: Final = "it is not there"
_NO_MODELS: Final = ("datasets--", "spaces--")  # of Hugging Face's cache


class Seen(Struct, frozen=True, kw_only=True):
    """What one look found."""

    lent: tuple[LentModel, ...] = ()
    notes: tuple[str, ...] = ()


class Scanner:
    """Looks at folders; what is as it was before is lent as the same object. For one thread.

    Args:
        places: Of the server.
        states: Of files.
    """

    def __init__(self, places: RegistryPlaces, states: States) -> None:
        self._places = places
        self._states = states
        self._stores: dict[Path, OllamaStore] = {}
        self._kept: dict[tuple[ModelName, Recipe], LentModel] = {}
        self._paths: set[Path] = set()

    def look(self) -> Seen:
        """Look at all folders once."""
        notes = Notes()
        self._paths = set()
        models: dict[tuple[str, ...], LentModel] = {}
        before, self._kept = self._kept, {}
        for item in self._found(notes):
            if len(models) == MAX_MODELS:
                notes.say(f"there are over {MAX_MODELS} models: the rest is left out")
                break
            if isinstance(item, LentModel):
                models.setdefault(ModelName.parse(item.name).folded, item)
                continue
            name = next((name for name in item.names if name.folded not in models), None)
            if name is None:
                where = item.parts[0].path
                notes.say(f"{where} has no name of its own: another file has it, or none is left")
                continue
            model = before.get((name, item)) or self._lend(name, item)
            self._kept[name, item] = models[name.folded] = model
        self._states.keep_only(self._paths)
        self._states.hash_behind()
        return Seen(lent=tuple(models.values()), notes=notes.all())

    def _lend(self, name: ModelName, recipe: Recipe) -> LentModel:
        def settle() -> LentModel:
            return recipe.settled(self._states.digest).lend(name)

        whole = recipe.problem or (recipe.is_one and all(part.digest for part in recipe.parts))
        return recipe.lend(name, None if whole else settle)

    def _found(self, notes: Notes) -> Iterator[LentModel | Recipe]:
        own = self._places.models_dir.resolve()
        roots: dict[Path, None] = {}
        for listed in self._places.folders:
            kind, why = _look_at(listed)
            if not kind:
                notes.say(f"{listed} is listed and cannot be read: {why}")
            elif not (stat.S_ISDIR(kind) or (stat.S_ISREG(kind) and is_gguf(listed.name))):
                notes.say(f"{listed} is neither a folder nor a GGUF file")
            else:
                roots[listed.resolve()] = None
        for usual in self._places.usual:
            kind, why = _look_at(usual / "manifests")
            if kind and is_store(usual):
                roots[usual.resolve()] = None
            elif not kind and why != _NOT_THERE:
                notes.say(
                    f"{usual}, where Ollama keeps its models, cannot be read: {why} "
                    "(CORRAL_MODEL_PATHS=none does not look there)"
                )
        for root in roots:
            if root != own:
                yield from self._of_root(root, own, notes)

    def _of_root(self, root: Path, own: Path, notes: Notes) -> Iterator[LentModel | Recipe]:
        site = Site(Place(), self._states, notes, f"the folder {root}")
        if not is_folder(root):
            file = File(root, (root.name,), root.stat())
            yield from self._of_files([(root.parent, [file])], site)
            return
        walk = Walk(root, notes)
        plain: list[tuple[Path, list[File]]] = []
        for folder in walk.folders(root):
            if folder.path == own or folder.path.name.startswith(_NO_MODELS):
                folder.folders.clear()
            elif is_store(folder.path):
                folder.folders.clear()
                store = self._stores.setdefault(folder.path, OllamaStore(folder.path))
                yield from store.models(notes)
            elif (place := repository_of(folder.path)) is not None:
                folder.folders.clear()
                inside = list(snapshot_files(folder.path, walk))
                yield from self._of_files(inside, replace(site, place=place))
            else:
                found = (walk.file(entry, folder.parts, root) for entry in folder.files)
                plain.append((folder.path, [file for file in found if file]))
        yield from self._of_files(plain, site)

    def _of_files(self, folders: Sequence[tuple[Path, list[File]]], site: Site) -> Iterator[Recipe]:
        """Give what the files of some folders make; a folder that is a model is one as a whole."""
        taken: set[Path] = set()
        for folder, files in folders:
            self._paths.update(file.path for file in files)
            if not taken.isdisjoint((folder, *folder.parents)):
                continue
            weights = [file for file in files if is_gguf(file.path.name)]
            if weights:
                yield from gguf_models(weights, site)
            elif files and _may_be_whole(files):
                below = _below(folders, folder)
                recipe = folder_model(folder, below, site)
                if recipe is not None:
                    taken.add(folder)
                    yield recipe


def _look_at(path: Path) -> tuple[int, str]:
    """Give what kind of file there is, or 0 and why that is not known."""
    try:
        return path.stat().st_mode, ""
    except (FileNotFoundError, NotADirectoryError):
        return 0, _NOT_THERE
    except OSError as error:
        return 0, reason_of(error)


def _may_be_whole(files: Iterable[File]) -> bool:
    return any(file.path.name.endswith(".json") for file in files)


def _below(folders: Sequence[tuple[Path, list[File]]], folder: Path) -> list[File]:
    return [
        file
        for path, files in folders
        if path == folder or folder in path.parents
        for file in files
    ]
