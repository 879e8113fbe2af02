"""The folder of a model, as a worker finds it: looked through before any library opens it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corral_kernel.errors import InvalidModelError
from corral_kernel.foldernames import GENAI_CONFIG
from corral_onnx.config import GenaiConfig, genai_config, section

_FORBIDDEN = {
    "custom_ops_library": "would have ONNX Runtime run that library's code",
    "library_path": "would have ONNX Runtime run that library's code",
    "enable_profiling": "would have ONNX Runtime write files wherever the model says",
    "optimized_model_filepath": "would have ONNX Runtime write a file wherever the model says",
    "ep.context_file_path": "would have ONNX Runtime write a file wherever the model says",
}
"""Keys of session and provider options, at any depth of any file: a model is data, never code."""

_PROVIDER_OPTIONS = "provider_options"
_PROVIDER_SETTINGS = frozenset(
    {
        "enableGraphCapture",
        "enable_cuda_graph",
        "enable_graph_capture",
        "enable_skip_layer_norm_strict_mode",
        "multiRotaryCacheConcatOffset",
        "multi_rotary_cache_concat_offset",
        "validationMode",
    }
)
"""What a folder may set of providers: what GenAI's own builder writes, which names no file.

A list of what is harmful would never be whole: by others of their hundreds of settings providers
open libraries (`backend_path`, `op_packages`, `trt_extra_plugin_lib_paths`), call addresses
(`gpu_external_alloc`) and write files (`cache_dir`, `trt_engine_cache_enable`).
"""

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
            if key in _FORBIDDEN:
                raise InvalidModelError(f"{name} holds {key!r}, which {_FORBIDDEN[key]}: refused")
            if key == _PROVIDER_OPTIONS and name == GENAI_CONFIG:
                _check_settings(name, value)
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


def _check_settings(name: str, value: Any) -> None:
    """Look through the options of all providers: `[{"cuda": {"enable_cuda_graph": "1"}}]`."""
    providers = value if isinstance(value, list) else [value]
    if not all(isinstance(provider, dict) for provider in providers):
        raise InvalidModelError(f"{name} holds {_PROVIDER_OPTIONS!r} that are none: refused")
    for settings in (settings for provider in providers for settings in provider.values()):
        if not isinstance(settings, dict):
            raise InvalidModelError(f"{name} holds {_PROVIDER_OPTIONS!r} that are none: refused")
        for key in sorted(settings.keys() - _PROVIDER_SETTINGS):
            raise InvalidModelError(
                f"{name} sets {key!r:.99} in {_PROVIDER_OPTIONS!r}, by which ONNX Runtime might "
                "open a library or write a file: refused; a model may set "
                + ", ".join(sorted(_PROVIDER_SETTINGS))
            )
