"""What the head of a GGUF file says, as immutable structs that can be cached by digest."""

import math
from collections.abc import Iterator

import msgspec

from corral_kernel.gguf.types import FILE_TYPES, GGML_TYPES, UNKNOWN_FILE_TYPE, ValueType

Scalar = bool | int | float | str


class Value(msgspec.Struct, frozen=True, array_like=True):
    """One metadata value. Long arrays and long texts are not read: `content` is `None`.

    A short array of numbers is a tuple. Of what was skipped, `count` tells the items of an array or
    the bytes of a text, and `offset` where in the file they begin; `read_value` gets them.
    """

    type: ValueType
    content: Scalar | tuple[Scalar, ...] | None
    item_type: ValueType | None = None  # arrays only
    count: int = 0
    offset: int = 0


class TensorInfo(msgspec.Struct, frozen=True, array_like=True):
    """One tensor: where it lies and how it is stored."""

    name: str
    shape: tuple[int, ...]  # in the file's order: the fastest dimension first
    type: int  # a key of GGML_TYPES
    offset: int  # bytes from the start of the tensor data

    @property
    def type_name(self) -> str:
        """The name that ggml gives the type, such as `Q4_0`."""
        return GGML_TYPES[self.type].name

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """How many bytes the tensor takes in the file, padding apart."""
        kind = GGML_TYPES[self.type]
        return self.elements // kind.block_elements * kind.block_bytes


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The head of one GGUF file. A fact that the file does not state is `None`."""

    version: int
    size_bytes: int  # of the whole file
    data_offset: int  # where the tensor data begins
    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]

    def get(self, key: str) -> Scalar | tuple[Scalar, ...] | None:
        """Give the content of a key; `None` if it is absent or was skipped for its length."""
        value = self.metadata.get(key)
        return None if value is None else value.content

    def arch(self, key: str) -> Scalar | tuple[Scalar, ...] | None:
        """Like `get`, for a key of this architecture: `arch("block_count")`."""
        return self.get(f"{self.architecture}.{key}")

    def has_arch(self, key: str) -> bool:
        """Tell whether a key of this architecture is there, skipped or not."""
        return f"{self.architecture}.{key}" in self.metadata

    def text(self, key: str) -> str | None:
        """A key's text; `None` if it is absent or no text."""
        content = self.get(key)
        return content if isinstance(content, str) else None

    def integer(self, key: str) -> int | None:
        """A key's whole number; `None` if it is absent, an array or no integer."""
        content = self.get(key)
        return content if isinstance(content, int) and not isinstance(content, bool) else None

    def flag(self, key: str) -> bool | None:
        """A key's truth value; `None` if it is absent or no boolean."""
        content = self.get(key)
        return content if isinstance(content, bool) else None

    def arch_integer(self, key: str) -> int | None:
        """`integer` for a key of this architecture."""
        return self.integer(f"{self.architecture}.{key}")

    def per_layer(self, key: str) -> tuple[int, ...]:
        """A number of this architecture that may differ by layer, once per layer; may be empty."""
        content = self.arch(key)
        if isinstance(content, tuple):
            return tuple(int(item) for item in content)
        if isinstance(content, int) and not isinstance(content, bool):
            return (content,) * (self.block_count or 1)
        return ()

    @property
    def architecture(self) -> str:
        """`general.architecture`, such as `llama`; `unknown` if the file does not say."""
        return self.text("general.architecture") or "unknown"

    @property
    def kind(self) -> str:
        """`general.type`: `model`, `adapter`, `mmproj`, …; `model` if the file does not say."""
        return self.text("general.type") or "model"

    @property
    def is_projector(self) -> bool:
        """Whether this file turns images or sound into embeddings for another model."""
        if self.kind in ("projector", "mmproj"):
            return True
        vision = self.has_arch("vision.block_count") or self.has_arch("audio.block_count")
        clip = self.architecture == "clip" and (
            vision
            or bool(self.get("clip.has_vision_encoder") or self.get("clip.has_audio_encoder"))
        )
        return (clip or self.has_arch("vision.block_count")) and not self.has_arch("block_count")

    @property
    def split_count(self) -> int:
        """How many files the model was split into; 1 if it is whole."""
        return self.integer("split.count") or 1

    @property
    def parameter_count(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def file_type(self) -> int | None:
        """`general.file_type`, a key of FILE_TYPES if it is known."""
        return self.integer("general.file_type")

    @property
    def file_type_name(self) -> str:
        """The quantization by name; `unknown` if it is not stated. A stated 0 is `F32`."""
        kind = self.file_type
        return UNKNOWN_FILE_TYPE if kind is None else FILE_TYPES.get(kind, UNKNOWN_FILE_TYPE)

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was trained for."""
        return self.arch_integer("context_length")

    @property
    def embedding_length(self) -> int | None:
        """Width of the hidden state."""
        return self.arch_integer("embedding_length")

    @property
    def block_count(self) -> int | None:
        """Layers."""
        return self.arch_integer("block_count")

    @property
    def head_counts(self) -> tuple[int, ...]:
        """Attention heads of each layer."""
        return self.per_layer("attention.head_count")

    @property
    def kv_head_counts(self) -> tuple[int, ...]:
        """Key and value heads of each layer; equal to `head_counts` where not stated."""
        return self.per_layer("attention.head_count_kv") or self.head_counts

    @property
    def key_length(self) -> int | None:
        """Width of one key head."""
        return self.arch_integer("attention.key_length") or self._head_width

    @property
    def value_length(self) -> int | None:
        """Width of one value head."""
        return self.arch_integer("attention.value_length") or self._head_width

    @property
    def _head_width(self) -> int | None:
        heads = max(self.head_counts, default=0)
        return self.embedding_length // heads if self.embedding_length and heads else None

    @property
    def sliding_window(self) -> int | None:
        """Tokens that a windowed layer looks back."""
        return self.arch_integer("attention.sliding_window")

    @property
    def pooling_type(self) -> int | None:
        """How an embedding model pools its rows; `None` for a model that writes text."""
        return self.arch_integer("pooling_type")

    @property
    def chat_template(self) -> str | None:
        """The Jinja text of `tokenizer.chat_template`."""
        return self.text("tokenizer.chat_template")

    @property
    def chat_templates(self) -> Iterator[tuple[str, str]]:
        """Named further templates (`tool_use`, `rag`), as (name, Jinja text)."""
        prefix = "tokenizer.chat_template."
        for key in self.metadata:
            if key.startswith(prefix) and (text := self.text(key)) is not None:
                yield key.removeprefix(prefix), text

    @property
    def vocabulary_size(self) -> int | None:
        """Tokens of the vocabulary."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return self.arch_integer("vocab_size") if tokens is None else tokens.count

    @property
    def tokenizer_model(self) -> str | None:
        """`gpt2` (byte-level BPE), `llama` (SPM), `bert`, …."""
        return self.text("tokenizer.ggml.model")

    def special_token(self, name: str) -> int | None:
        """The id of `bos`, `eos`, `eot`, `unknown`, `padding`, …."""
        return self.integer(f"tokenizer.ggml.{name}_token_id")

    @property
    def adds_bos(self) -> bool | None:
        """Whether the tokenizer is told to begin every text with its first token."""
        return self.flag("tokenizer.ggml.add_bos_token")

    @property
    def adds_eos(self) -> bool | None:
        """Whether the tokenizer is told to end every text with its last token."""
        return self.flag("tokenizer.ggml.add_eos_token")
