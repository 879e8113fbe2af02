"""The folder of a model, as a worker finds it: looked through before any library opens it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corral_kernel.errors import InvalidModelError
from corral_kernel.foldernames import GENAI_CONFIG
from corral_onnx.config import GenaiConfig, genai_config, section
from corral_onnx.settings import check_key

_ENOUGH_BYTES = 256 << 20  # no JSON file of a model is larger


class Folder:
    """A folder whose JSON files are sound and ask for nothing that data may not ask for.

    Args:
        path: Of the folder.

    Attributes:
        documents: All its JSON files, decoded, by name.

    Raises:
        InvalidModelError: Saying which file is wrong, and how.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = sorted(path.rglob("*.json"))
        self.documents: dict[str, Any] = {
            file.relative_to(path).as_posix(): _decode(file, file.relative_to(path).as_posix())
            for file in found
        }

    @property
    def names(self) -> Sequence[str]:
        """Of all files, with slashes."""
        return [p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()]

    @property
    def parts(self) -> frozenset[str]:
        """Names of the sections of the configuration of a model that writes text."""
        return frozenset(section(section(self.documents, GENAI_CONFIG), "model"))

    def genai_config(self) -> GenaiConfig:
        """Read the configuration of a model that writes text.

        Raises:
            InvalidModelError: If a field is missing, of a wrong type or out of all bounds, names
                a file that is not there, or asks for what is not supported.
        """
        try:
            config = genai_config(self.documents[GENAI_CONFIG])
        except ValueError as error:
            raise InvalidModelError(f"{GENAI_CONFIG}: {error}") from None
        decoder = config.model.decoder
        if config.not_run:
            raise InvalidModelError(
                f"{GENAI_CONFIG} is of a model of type {config.model.type!r:.99}, which "
                f"{config.not_run}: the ONNX backend runs models whose one decoder graph is given "
                "text and writes text"
            )
        if config.feeds_windows:
            # The library writes past its memory if the graph is another than the section says.
            raise InvalidModelError(
                f"{GENAI_CONFIG} has sliding_window with slide_inputs: graphs that take windows of "
                "a fixed size are not supported"
            )
        if decoder.filename not in self.names:
            raise InvalidModelError(
                f"{GENAI_CONFIG} names {decoder.filename!r}, which is not in the folder"
            )
        return config


def _decode(file: Path, name: str) -> Any:
    def take(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Asked of every object, so that of a key that stands twice none is overlooked.
        for key, value in pairs:
            check_key(name, key, value)
        taken = dict(pairs)
        if name == GENAI_CONFIG and len(taken) < len(pairs):
            # The library might take the other, which nobody has looked into.
            twice = next(key for key in taken if [other for other, _ in pairs].count(key) > 1)
            raise InvalidModelError(f"{name} has the key {twice!r:.99} twice in one object")
        return taken

    if file.stat().st_size > _ENOUGH_BYTES:
        raise InvalidModelError(f"{name} has {file.stat().st_size} bytes: no model's JSON has")
    try:
        return json.loads(file.read_bytes().decode(), object_pairs_hook=take)
    except (ValueError, RecursionError) as error:
        raise InvalidModelError(f"{name} is no sound JSON: {error}") from None
