"""What the server knows of a model without loading it.

    model = store.open(name)        # a `Model`; see `corral_kernel.store`
    model.weights.path              # the one file; `model.adapters`, `.projectors`, `.drafts`
    model.gguf                      # its head, or `None` (then `model.problem` may say why)
    model.folder_files              # or the files of a folder; `model.documents` what they say
    model.parameters                # dict: the defaults that its PARAMETER lines set
    model.template, .system, .licenses, .messages
    model.parameter_size, .quantization_level, .family, .families, .parent_model   # texts to show

A `LentModel` is what a registry plugin gives for a model that it serves in place.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from corral_kernel.gguf import GgufHeader
from corral_kernel.names import ModelName

CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER = "application/vnd.ollama.image."
WEIGHTS_TYPE = _LAYER + "model"
DRAFT_TYPE = _LAYER + "draft"
ADAPTER_TYPE = _LAYER + "adapter"
PROJECTOR_TYPE = _LAYER + "projector"
TEMPLATE_TYPE = _LAYER + "template"
PROMPT_TYPE = _LAYER + "prompt"  # the template's old name
SYSTEM_TYPE = _LAYER + "system"
PARAMETERS_TYPE = _LAYER + "params"
MESSAGES_TYPE = _LAYER + "messages"
LICENSE_TYPE = _LAYER + "license"
FILE_TYPE = "application/vnd.corral.image.file"  # one file of a model that is a folder

DEFAULT_TEMPLATE = "{{ .Prompt }}"
UNKNOWN = "unknown"
LEGACY_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"ccgg")  # how files of the formats before GGUF begin
HEAD_BYTES = 64


class Layer(msgspec.Struct, frozen=True):
    """One entry of a manifest; also the entry of its config."""

    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str = ""
    size_bytes: int = msgspec.field(name="size", default=0)
    inherited_from: str = msgspec.field(name="from", default="")
    name: str = ""


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a model consists of, where it lies on this machine."""

    media_type: str
    digest: str  # sha256:hex
    size_bytes: int
    path: Path
    name: str = ""
    inherited_from: str = ""  # the short name of the model that it came from, or a file's name


class Draft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a config says of a draft model."""

    model_format: str = ""
    architecture: str = ""
    tensor_prefix: str = ""
    config: Any = None


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The config blob. Fields stand in the order in which they are written."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""  # the parameter count in words, such as `1.2B`
    file_type: str = ""  # the quantization in words, such as `Q4_K_M`
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: tuple[str, ...] | None = ()
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""
    draft: Draft | None = None
    architecture: str = ""
    os: str = ""

    def to_document(self) -> dict[str, Any]:
        """Give the fields to write, in order: all of the basic ones, others unless empty."""
        always = {"model_format", "model_family", "model_families", "model_type", "file_type"}
        always |= {"architecture", "os"}
        found = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {
            name: msgspec.to_builtins(value) for name, value in found if value or name in always
        }


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model as it lies in the store, or as a plugin lends it. Immutable: a snapshot."""

    name: ModelName
    digest: str  # of the manifest: 64 hex digits without a prefix
    size_bytes: int  # of all layers and the config
    modified_ns: int  # Unix time in nanoseconds
    config: ModelConfig
    files: tuple[ModelFile, ...]  # weights, adapters, projectors and drafts, in manifest order
    missing: tuple[str, ...] = ()  # digests of those whose file is not there
    gguf: GgufHeader | None = None  # head of the weights; None: no GGUF, missing or damaged
    head: bytes = b""  # the first bytes of the weights, 64 at most; empty: missing, or a folder
    documents: dict[str, Any] = {}  # a folder's small JSON files, decoded, by their names in it
    folder_template: str = ""  # the Jinja chat template of a folder; empty: none
    folder: Path | None = None  # where a folder lies for workers, once `Store.lay_out` made it
    problem: str = ""  # what is wrong with the weights, for the error of whoever needs them
    template: str = ""  # the Go template; empty: none
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    messages: tuple[dict[str, Any], ...] = ()
    owner: str = ""  # who lends it, and how it is got rid of; empty: it is in the store
    trusted: bool = False  # lent, and run without its files' digests being checked first

    def of_type(self, media_type: str) -> tuple[ModelFile, ...]:
        """Give the files of one media type, in manifest order."""
        return tuple(file for file in self.files if file.media_type == media_type)

    @property
    def weights(self) -> ModelFile | None:
        """The main weights; `None` for a remote stub and for a model that is a folder."""
        return next(iter(self.of_type(WEIGHTS_TYPE)), None)

    @property
    def adapters(self) -> tuple[ModelFile, ...]:
        """LoRA adapters; each of them is applied."""
        return self.of_type(ADAPTER_TYPE)

    @property
    def projectors(self) -> tuple[ModelFile, ...]:
        """Encoders of images or sound; the first is the one to use."""
        return self.of_type(PROJECTOR_TYPE)

    @property
    def drafts(self) -> tuple[ModelFile, ...]:
        """Small models that draft for this one."""
        return self.of_type(DRAFT_TYPE)

    @property
    def folder_files(self) -> tuple[ModelFile, ...]:
        """The files of a model that is a folder, each with its name in it."""
        return self.of_type(FILE_TYPE)

    @property
    def folder_key(self) -> str:
        """What models of the same folder share, 64 hex digits; empty for other models."""
        return folder_key((file.name, file.digest) for file in self.folder_files)

    @property
    def jinja_template(self) -> str:
        """The Jinja chat template inside the weights or beside them; empty if there is none."""
        return (self.gguf.chat_template if self.gguf else None) or self.folder_template

    @property
    def is_remote(self) -> bool:
        """Whether it is a stub of a model on another host."""
        return bool(self.config.remote_host and self.config.remote_model)

    @property
    def format(self) -> str:
        """`gguf`, `ggml` (before GGUF), `onnx`, `safetensors`, or empty for a stub."""
        return self.config.model_format or ("gguf" if self.gguf else "")

    @property
    def family(self) -> str:
        """The architecture, such as `llama`."""
        return self.config.model_family or (self.gguf.architecture if self.gguf else "")

    @property
    def families(self) -> tuple[str, ...] | None:
        """The architectures of all model layers; `None` if the config names none."""
        return self.config.model_families or None

    @property
    def parent_model(self) -> str:
        """What the weights were taken from: a model's short name, a file name, or empty."""
        first = next(iter((*self.of_type(WEIGHTS_TYPE), *self.folder_files)), None)
        return first.inherited_from if first else ""

    @property
    def parameter_size(self) -> str:
        """Parameters in words, such as `134.52M`."""
        stated = self.config.model_type
        if stated in ("", UNKNOWN) and self.gguf:
            return parameter_size_text(self.gguf.parameter_count)
        return stated

    @property
    def quantization_level(self) -> str:
        """The quantization as `show` and `ps` tell it: a config knows no `F32`, only `unknown`."""
        stated = self.config.file_type
        if stated in ("", UNKNOWN) and self.gguf:
            return stored_file_type(self.gguf)
        return stated

    @property
    def listed_quantization_level(self) -> str:
        """The quantization as the list of models tells it, which does know `F32`."""
        stated = self.config.file_type
        if stated in ("", UNKNOWN) and self.gguf:
            return self.gguf.file_type_name
        return stated

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained for; 0 if nothing tells."""
        return self.config.context_length or (self.gguf and self.gguf.context_length) or 0

    @property
    def embedding_length(self) -> int:
        """Width of the hidden state; 0 if nothing tells."""
        return self.config.embedding_length or (self.gguf and self.gguf.embedding_length) or 0


class LentModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a registry plugin lends in place: it can be run, copied and built upon."""

    name: str  # any text that `ModelName.parse` takes
    manifest: bytes  # the JSON of its manifest
    blobs: Mapping[str, Path]  # sha256:hex -> file
    contents: Mapping[str, bytes] = {}  # small blobs that are no files, such as the config
    modified_ns: int = 0  # Unix time in nanoseconds
    owner: str  # for messages: the Python package and how to remove it
    folder: Path | None = None  # where a folder's files lie by their names; None: to be laid out
    problem: str = ""  # why it cannot be run, and what to do; it is listed all the same
    trusted: bool = False  # its files are run without their digests being checked first
    # Gives the model with digests that are true, where those above stand for them until they are
    # known: called in a thread before a copy, a build or a push, and it may read whole files.
    settle: Callable[[], "LentModel"] | None = None


def folder_key(files: Iterable[tuple[str, str]]) -> str:
    """Name a folder by what is in it: 64 hex digits; empty where nothing is.

    Args:
        files: Name and digest of each file, in any order.
    """
    lines = sorted(f"{name}\n{digest}\n" for name, digest in files)
    content = "".join(lines).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest() if content else ""


def parameter_size_text(count: int) -> str:
    """Say a parameter count as users know it: `8.0B`, `1B`, `134.52M`, `2K`, `999`."""
    for unit, suffix, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= unit:
            whole, rest = divmod(count, unit)
            return f"{whole}{suffix}" if not rest else f"{count / unit:.{digits}f}{suffix}"
    thousand = 1000
    return f"{count / thousand:.0f}K" if count >= thousand else str(count)


def stored_file_type(header: GgufHeader) -> str:
    """Name the quantization as a config stores it: type 0 counts as not stated."""
    return header.file_type_name if header.file_type else UNKNOWN
