"""What decoders have in common: their numbers, and the tensors these make."""

from dataclasses import dataclass
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_safetensors.layout import Expected
from corral_safetensors.settings import Settings
from corral_safetensors.tensors import Change

MOST_LAYERS: Final = 1024
_MOST_HEAD: Final = 65_536
_MOST_VOCABULARY: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers that a decoder's tensors are made of."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int


def sizes_of(config: Settings) -> Sizes:
    """Read them.

    Raises:
        InvalidModelError: If they cannot be.
    """
    width, heads = config.count("hidden_size"), config.count("num_attention_heads")
    kv_heads = config.count("num_key_value_heads", heads)
    if heads % kv_heads or (not config.has("head_dim") and width % heads):
        raise InvalidModelError(
            f"config.json: {heads} attention heads of a width of {width} "
            f"with {kv_heads} key and value heads do not go together"
        )
    head = config.count("head_dim", width // heads, most=_MOST_HEAD)
    if head % 2:
        raise InvalidModelError(f"config.json: heads of {head} numbers cannot be rotated by pairs")
    return Sizes(
        layers=config.count("num_hidden_layers", most=MOST_LAYERS),
        width=width,
        inner=config.count("intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head=head,
        vocabulary=config.count("vocab_size", most=_MOST_VOCABULARY),
    )


def write_sizes(config: Settings, sizes: Sizes, writer: gguf.GGUFWriter) -> None:
    """Say a decoder's numbers in a GGUF file."""
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_context_length(config.count("max_position_embeddings"))
    writer.add_embedding_length(sizes.width)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.inner)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_layer_norm_rms_eps(config.number("rms_norm_eps"))
    writer.add_key_length(sizes.head)
    writer.add_value_length(sizes.head)


def check_activation(config: Settings, *known: str, field_name: str = "hidden_act") -> None:
    """Refuse an activation that llama.cpp would not compute.

    Raises:
        UnsupportedError: Naming it.
    """
    found = config.text(field_name, known[0])
    if found not in known:
        raise UnsupportedError(
            f"unsupported activation {found!r}; llama.cpp computes {' or '.join(known)} here"
        )


@dataclass(frozen=True, slots=True)
class Traits:
    """Where one decoder differs from another.

    Args:
        turned: Whether rows of queries and keys are brought from halves to pairs.
        biases: Projections that may have a bias.
        needed_biases: Those that must have one.
        head_norms: Whether queries and keys are normalised for each head.
        free_heads: Whether a head may be of another size than the width divided by their number.
        fused: Whether queries, keys and values are one matrix, and gate and up another.
        dimensions: Whether the number of rotated dimensions is said.
    """

    turned: bool = False
    biases: tuple[str, ...] = ("attn_q", "attn_k", "attn_v")
    needed_biases: tuple[str, ...] = ()
    head_norms: bool = False
    free_heads: bool = True
    fused: bool = False
    dimensions: bool = False


def tied(config: Settings) -> bool:
    """Whether the last matrix is the embeddings'."""
    return config.flag("tie_word_embeddings", default=False)


def layer_tensors(sizes: Sizes, traits: Traits) -> dict[str, Expected]:
    """What each layer has, by the names that follow `blk.N.`."""
    queries, keys = sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    turned = traits.turned
    matrices = {
        "attn_q": Expected((queries, sizes.width), Change(heads=sizes.heads * turned)),
        "attn_k": Expected((keys, sizes.width), Change(heads=sizes.kv_heads * turned)),
        "attn_v": Expected((keys, sizes.width)),
        "attn_output": Expected((sizes.width, queries)),
        "ffn_gate": Expected((sizes.inner, sizes.width)),
        "ffn_up": Expected((sizes.inner, sizes.width)),
        "ffn_down": Expected((sizes.width, sizes.inner)),
    }
    if traits.fused:
        for name in ("attn_q", "attn_k", "attn_v", "ffn_gate"):
            del matrices[name]
        matrices["attn_qkv"] = Expected((queries + 2 * keys, sizes.width))
        matrices["ffn_up"] = Expected((2 * sizes.inner, sizes.width))
    found = {f"{name}.weight": matrix for name, matrix in matrices.items()}
    for name in traits.biases:
        matrix = matrices[name]
        found[f"{name}.bias"] = Expected(
            matrix.shape[:1], matrix.change, needed=name in traits.needed_biases
        )
    for name in ("attn_norm", "ffn_norm"):
        found[f"{name}.weight"] = Expected((sizes.width,))
    if traits.head_norms:
        for name in ("attn_q_norm", "attn_k_norm"):
            found[f"{name}.weight"] = Expected((sizes.head,))
    return found


def decoder_tensors(sizes: Sizes, layer: dict[str, Expected]) -> dict[str, Expected]:
    """All tensors of a decoder but its last matrix."""
    found = {
        "token_embd.weight": Expected((sizes.vocabulary, sizes.width)),
        "output_norm.weight": Expected((sizes.width,)),
    }
    for number in range(sizes.layers):
        found |= {f"blk.{number}.{name}": one for name, one in layer.items()}
    return found


def without_prefix(name: str) -> str | None:
    """A name as a model with a language head has it; `None` for what is computed anyway."""
    if name.endswith(".rotary_emb.inv_freq"):
        return None
    return name if name.startswith(("model.", "lm_head.")) else f"model.{name}"
