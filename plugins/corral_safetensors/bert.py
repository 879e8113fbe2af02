"""BERT, RoBERTa and XLM-RoBERTa: encoders that make vectors of texts."""

from dataclasses import dataclass
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_safetensors.families import Described
from corral_safetensors.layout import Expected, Layout
from corral_safetensors.notes import Note
from corral_safetensors.parts import MOST_LAYERS, check_activation
from corral_safetensors.settings import Settings
from corral_safetensors.tensors import Change

DEFAULTS: Final = {
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
}
ROBERTA_DEFAULTS: Final = {**DEFAULTS, "pad_token_id": 1}
_PREFIXES: Final = ("bert.", "roberta.")
# Heads for other purposes than vectors of texts.
_LEFT_OUT: Final = (
    "pooler.",
    "cls.",
    "lm_head.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
)


@dataclass(frozen=True, slots=True)
class Bert:
    """Describes BERT models.

    Args:
        padded: Whether positions are counted from after the padding token's number.
    """

    padded: bool = False

    def __call__(self, config: Settings, writer: gguf.GGUFWriter, note: Note) -> Described:  # noqa: ARG002 - as all
        """Say in a GGUF file what a config says.

        Raises:
            CorralError: If it says what cannot be, or what llama.cpp does not do.
        """
        check_activation(config, "gelu", "gelu_new", "gelu_pytorch_tanh")
        if config.text("position_embedding_type") != "absolute":
            raise UnsupportedError(
                "position_embedding_type of config.json: llama.cpp knows absolute positions alone"
            )
        skipped = config.count("pad_token_id") + 1 if self.padded else 0
        if skipped >= config.count("max_position_embeddings"):
            raise InvalidModelError(
                f"config.json: of its positions {skipped} are before the first, which leaves none"
            )
        _write(config, skipped, writer)
        layers = config.count("num_hidden_layers", most=MOST_LAYERS)
        expected = _tensors(config, layers, skipped)
        return Described(
            layout=Layout(gguf.MODEL_ARCH.BERT, layers, expected, _renamed),
            vocabulary_size=config.count("vocab_size"),
            pooled=True,
        )


def _write(config: Settings, skipped: int, writer: gguf.GGUFWriter) -> None:
    width, heads = config.count("hidden_size"), config.count("num_attention_heads")
    if width % heads:
        raise InvalidModelError(f"config.json: {heads} heads do not divide a width of {width}")
    writer.add_context_length(config.count("max_position_embeddings") - skipped)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(config.count("intermediate_size"))
    writer.add_block_count(config.count("num_hidden_layers"))
    writer.add_head_count(heads)
    writer.add_layer_norm_eps(config.number("layer_norm_eps"))
    writer.add_causal_attention(value=False)
    writer.add_token_type_count(config.count("type_vocab_size"))


def _tensors(config: Settings, layers: int, skipped: int) -> dict[str, Expected]:
    width, inner = config.count("hidden_size"), config.count("intermediate_size")
    positions = config.count("max_position_embeddings")
    found = {
        "token_embd.weight": Expected((config.count("vocab_size"), width)),
        "token_types.weight": Expected((config.count("type_vocab_size"), width)),
        "position_embd.weight": Expected((positions, width), Change(skipped_rows=skipped)),
        **_norm("token_embd_norm", width),
    }
    for number in range(layers):
        found |= {f"blk.{number}.{name}": one for name, one in _layer(width, inner).items()}
    return found


def _norm(name: str, width: int) -> dict[str, Expected]:
    return {f"{name}.weight": Expected((width,)), f"{name}.bias": Expected((width,))}


def _layer(width: int, inner: int) -> dict[str, Expected]:
    square = (width, width)
    matrices = {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    found = {**_norm("attn_output_norm", width), **_norm("layer_output_norm", width)}
    for name, shape in matrices.items():
        found[f"{name}.weight"] = Expected(shape)
        found[f"{name}.bias"] = Expected(shape[:1])
    return found


def _renamed(name: str) -> str | None:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if name.startswith(_LEFT_OUT):
        return None
    base, _, kind = name.rpartition(".")
    return f"{base}.{ {'gamma': 'weight', 'beta': 'bias'}.get(kind, kind) }"
