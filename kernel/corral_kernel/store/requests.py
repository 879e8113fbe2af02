"""A request to create a model, and the checks that need nothing but the request."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from corral_kernel.errors import InvalidDigestError, InvalidRequestError, UnsupportedError
from corral_kernel.foldernames import check_folder_names, is_encoder, is_generator
from corral_kernel.models import ModelConfig
from corral_kernel.names import ModelName, parse_digest, split_marker
from corral_kernel.remotes import (
    API_KEY,
    check_target,
    is_reference,
    parse_remote,
    split_source,
)

_GGUF_SUFFIX = ".gguf"
_SAFETENSORS_SUFFIX = ".safetensors"
_PYTORCH_SUFFIXES = (".bin", ".pth", ".pt")


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to make a model of. What is empty is taken from the base, or left out."""

    model: str  # the name to give it, as sent
    base: str = ""  # `from`: the name of another model, as sent
    files: Mapping[str, str] | None = None  # relative file name -> digest; `base` wins over it
    adapters: Mapping[str, str] = {}  # the same
    template: str = ""
    system: str = ""
    licenses: Sequence[str] = ()  # join those of the base
    parameters: Mapping[str, Any] = {}  # go over those of the base, key by key
    messages: Sequence[Mapping[str, Any]] = ()
    requires: str = ""
    remote_host: str = ""  # the server that has `base`, which no model here is then
    info: Mapping[str, Any] = {}  # facts for the config, in place of what the weights say
    renderer: str = ""  # the name of what renders its chats, in place of its template
    parser: str = ""  # the name of what reads its answers
    draft_files: Mapping[str, str] = {}  # as `files`: models that draft for this one
    quantize: str = ""  # type to make the weights into
    draft_quantize: str = ""  # the same for the drafts
    imatrix: str = ""  # digest of an importance matrix, to quantize by


def check_request(request: CreateRequest) -> ModelName:
    """Check what can be told from the request alone, in the order that clients know.

    Returns:
        The name of the new model.

    Raises:
        InvalidRequestError: With the words of the API, for whatever is wrong first.
    """
    for files in (request.files or {}, request.draft_files):
        if not all(_is_relative(path) for path in files):
            raise InvalidRequestError("file path must be relative")
    for digests in (request.files or {}, request.draft_files, request.adapters):
        if not all(digests.values()):
            raise InvalidDigestError("invalid digest format")
    if request.imatrix:
        parse_digest(request.imatrix)
    if request.draft_quantize and not request.draft_files:
        raise InvalidRequestError("--draft-quantize requires a DRAFT model")
    name = ModelName.parse(request.model.strip())
    if not request.base and request.files is None:
        raise InvalidRequestError("neither 'from' or 'files' was specified")
    _check_remote(request)
    if not request.base and request.files and source_kind(request.files) == "folder":
        check_folder_names(request.files)
    return name


def _is_relative(path: str) -> bool:
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _check_remote(request: CreateRequest) -> None:
    stub = request.remote_host or split_source(request.base) is not None
    if stub and request.draft_files:
        raise InvalidRequestError("DRAFT cannot be used with remote models")
    if request.remote_host and not request.base:
        raise InvalidRequestError("'remote_host' is without 'from', the name of the model there")
    key = request.parameters.get(API_KEY)
    if key is not None and not is_reference(key):
        raise InvalidRequestError(
            f"parameter {API_KEY!r} is to say where the key is, env:NAME or file:PATH, "
            "and not to be the key itself"
        )


def parse_stub(request: CreateRequest) -> tuple[str, str] | None:
    """Read the base URL of the server that has the model, and its name there.

    Returns:
        Both; None: the model is to be made of what is here.

    Raises:
        InvalidRequestError: If one of them is none.
    """
    if request.remote_host:
        return parse_remote(request.remote_host), check_target(request.base.strip())
    if found := split_source(request.base):
        return parse_remote(found[0]), check_target(found[1])
    return None


def check_stub(request: CreateRequest, config: ModelConfig) -> None:
    """Refuse what no model on another server can have.

    Raises:
        UnsupportedError: If it is asked for.
    """
    if not config.remote_host:
        return
    if request.adapters:
        raise UnsupportedError(
            "an adapter cannot be added to a model on another server: leave 'adapters' out"
        )
    if request.quantize:
        raise UnsupportedError(
            "a model on another server cannot be quantized here: leave 'quantize' out"
        )
    if request.draft_files:
        raise InvalidRequestError("DRAFT cannot be used with remote models")


def parse_base(text: str) -> ModelName:
    """Read the name of the base.

    Raises:
        InvalidNameError: If it is no name.
        UnsupportedError: If it is marked as a cloud model.
    """
    base, marker = split_marker(text)
    if marker == "cloud":
        raise UnsupportedError(
            f"{text!r} is a cloud model; this server runs local models only: name a local one"
        )
    return ModelName.parse(base)


def config_from_info(info: Mapping[str, Any]) -> ModelConfig:
    """Read the facts that a request states for the config.

    Raises:
        InvalidRequestError: If one has the wrong type.
    """
    texts = {
        "model_family": "model_family",
        "base_name": "base_name",
        "quantization_level": "file_type",
        "parameter_size": "model_type",
    }
    fields: dict[str, Any] = {}
    for key, value in info.items():
        if value is None:
            continue
        if key in texts:
            if not isinstance(value, str):
                raise InvalidRequestError(f'info field "{key}" must be a string')
            fields[texts[key]] = value
        elif key in ("context_length", "embedding_length"):
            fields[key] = _whole_number(key, value)
        elif key == "capabilities":
            if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
                raise InvalidRequestError('info field "capabilities" must be a list of strings')
            fields[key] = tuple(value)
    return ModelConfig(**fields)


def _whole_number(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequestError(f'info field "{key}" must be a number')
    if value < 0 or value != value // 1:
        raise InvalidRequestError(f'info field "{key}" must be a non-negative integer')
    return int(value)


def source_format(files: Mapping[str, str]) -> str:
    """Tell by file names what a converter is asked to read; empty: nothing says."""
    folded = [name.lower() for name in files]
    if any(name.endswith(_SAFETENSORS_SUFFIX) for name in folded):
        return "safetensors"
    return "pytorch" if any(name.endswith(_PYTORCH_SUFFIXES) for name in folded) else ""


def source_kind(files: Mapping[str, str]) -> str | None:
    """Tell by file names what a model is to be made of.

    Returns:
        `folder`, `gguf`, `safetensors`, or `None`.
    """
    if is_generator(files):
        return "folder"
    folded = [name.lower() for name in files]
    if any(name.endswith(_GGUF_SUFFIX) for name in folded):
        return "gguf"
    if is_encoder(files):
        return "folder"
    return "safetensors" if any(name.endswith(_SAFETENSORS_SUFFIX) for name in folded) else None
