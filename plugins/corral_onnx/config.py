"""What the JSON files of a folder say of its model; read alike in the server and in a worker."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

WEIGHTS = (".onnx", ".data", ".onnx_data", ".bin")  # ends of names
KV_ELEMENT_BYTES = 4  # the library keeps keys and values of CPU models as float32

_OTHER_PARTS = {"vision": "images", "speech": "speech", "embedding": ""}
_ENCODES_FIRST = frozenset({"marian-ssru", "nemotron_speech", "whisper"})
_IN_PIECES = "decoder-pipeline"
_OF_PARTS = frozenset(
    {"fara", "gemma3", "gemma4", "lfm2_audio", "lfm2_vl", "mistral3", "phi3v", "phi4mm",
     "qwen2_5_vl", "qwen3_5", "qwen3_vl"}
)  # fmt: skip
"""Types whose text part the library runs only together with a graph that embeds the tokens."""

# Larger numbers are damage: the library would allocate by them before it found out.
_Count = Annotated[int, Meta(ge=1, le=1 << 16)]
_Layers = Annotated[int, Meta(ge=1, le=1 << 12)]
_Width = Annotated[int, Meta(ge=1, le=1 << 24)]
_Positions = Annotated[int, Meta(ge=1, le=1 << 28)]


class Decoder(Struct, frozen=True):
    """The part that writes text."""

    filename: str = ""
    head_size: _Count = 1
    num_hidden_layers: _Layers = 1
    num_attention_heads: _Count = 1
    num_key_value_heads: _Count = 1
    pipeline: Any = None
    session_options: dict[str, Any] = {}
    run_options: dict[str, Any] = {}
    sliding_window: Any = None


class GenaiModel(Struct, frozen=True):
    """The section `model`."""

    decoder: Decoder
    context_length: _Positions
    vocab_size: _Width
    type: str = ""
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    vision: Any = None
    speech: Any = None
    embedding: Any = None
    encoder: Any = None


class GenaiConfig(Struct, frozen=True):
    """`genai_config.json`, as far as it concerns us."""

    model: GenaiModel

    @property
    def token_bytes(self) -> int:
        """Bytes that one position occupies in all layers' caches."""
        decoder = self.model.decoder
        width = decoder.num_key_value_heads * decoder.head_size
        return 2 * decoder.num_hidden_layers * width * KV_ELEMENT_BYTES

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        ids = self.model.eos_token_id
        if ids is None:
            return ()
        return (ids,) if isinstance(ids, int) else ids

    @property
    def other_parts(self) -> tuple[str, ...]:
        """What the model could take beside text, and this backend does not feed it."""
        return tuple(
            words for name, words in _OTHER_PARTS.items() if words and getattr(self.model, name)
        )

    @property
    def not_run(self) -> str:
        """Why this backend does not run models of this type; empty: it does."""
        model = self.model
        if model.encoder or model.type in _ENCODES_FIRST:
            return "encodes a text or a sound before it writes"
        if model.decoder.pipeline or model.type == _IN_PIECES:
            return "has a decoder in several graphs that are run one after another"
        if model.type in _OF_PARTS and not (model.decoder.filename and model.embedding):
            missing = "embedding" if model.decoder.filename else "decoder"
            return f"needs a graph in its section {missing!r}, and the folder names none there"
        return ""

    @property
    def forgets(self) -> bool:
        """Whether old positions are dropped as it writes, so that one cannot go back to them."""
        return self._slides("slide_key_value_cache")

    @property
    def feeds_windows(self) -> bool:
        """Whether its graph takes a fixed number of tokens at a time, as some processors want."""
        return self._slides("slide_inputs")

    def _slides(self, what: str) -> bool:
        window = self.model.decoder.sliding_window
        return isinstance(window, dict) and window.get(what) is not False


def genai_config(document: Any) -> GenaiConfig:
    """Read a decoded `genai_config.json`.

    Raises:
        ValueError: Naming the field that is missing, of a wrong type or out of all bounds.
    """
    return msgspec.convert(document, GenaiConfig)


# ------------------------------------------------------------------------------------ encoders


def scores_pairs(documents: Mapping[str, Any]) -> bool:
    """Whether an encoder is a cross-encoder: it scores texts in place of giving vectors."""
    architectures = section(documents, "config.json").get("architectures")
    names = architectures if isinstance(architectures, list) else []
    return any(str(name).endswith("ForSequenceClassification") for name in names)


def encoder_limit(documents: Mapping[str, Any]) -> int:
    """The longest input of an encoder, special tokens counted; 0: its files do not tell."""
    config = section(documents, "config.json")
    positions = _positive(config.get("max_position_embeddings"))
    if positions and config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # their first positions are taken by padding
    told = (
        positions,
        _positive(section(documents, "sentence_bert_config.json").get("max_seq_length")),
        _positive(section(documents, "tokenizer_config.json").get("model_max_length")),
    )
    return min((limit for limit in told if limit), default=0)


def _positive(value: Any) -> int:
    """A number of tokens; files write 1e30 for no limit."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value < 1 << 28 else 0


def section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A JSON object within another, or of a folder; empty if it is none."""
    found = document.get(name)
    return found if isinstance(found, dict) else {}
