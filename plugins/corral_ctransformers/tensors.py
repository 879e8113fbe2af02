"""Which tensors a model of each architecture has, of which shapes; and what a tensor's type takes.

Shapes are ggml's: the length of a row comes first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["matrix", "vector", "table"]


@dataclass(frozen=True)
class TensorType:
    """A type of numbers.

    Attributes:
        name: For people.
        block: Numbers that are stored together.
        block_bytes: Which they take.
    """

    name: str
    block: int
    block_bytes: int


F32: Final = 0
F16: Final = 1
TYPES: Final[Mapping[int, TensorType]] = {
    F32: TensorType("F32", 1, 4),
    F16: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
}
FILE_TYPES: Final[Mapping[int, int]] = {
    0: F32, 1: F16, 2: 2, 3: 3, 7: 8, 8: 6, 9: 7, 10: 10, 11: 11, 12: 12, 13: 13, 14: 14,
}  # fmt: skip
"""The type of all matrices, by the file's, of files that have one."""


@dataclass(frozen=True)
class Tensor:
    """One that is expected.

    Attributes:
        shape: Length of a row, and rows if it has several.
        kind: A `matrix` is of the file's type; a `vector`, or a `table` of positions, of F32.
        optional: It may be missing.
    """

    shape: tuple[int, ...]
    kind: Kind = "matrix"
    optional: bool = False


Fields = Mapping[str, int]
Named = Iterator[tuple[str, Tensor]]


def expected(architecture: str, fields: Fields) -> dict[str, Tensor]:
    """The tensors of a model of these sizes, by name."""
    return dict(_MODELS[architecture](fields))


def feed_forward_length(width: int, multiple: int, scale: float = 1.0) -> int:
    """How wide llama's middle is, which its files do not tell."""
    raw = int(scale * (2 * (4 * width) // 3))
    return (raw + multiple - 1) // multiple * multiple


def _vectors(width: int, *names: str) -> Named:
    for name in names:
        yield name, Tensor((width,), "vector")


def _gpt2(fields: Fields) -> Named:
    width, vocab = fields["n_embd"], fields["n_vocab"]
    yield from _vectors(width, "model/ln_f/g", "model/ln_f/b")
    yield "model/wte", Tensor((width, vocab))
    yield "model/wpe", Tensor((width, fields["n_ctx"]), "table")
    yield "model/lm_head", Tensor((width, vocab), optional=True)  # else it is the embedding
    for i in range(fields["n_layer"]):
        at = f"model/h{i}/"
        yield from _vectors(width, f"{at}ln_1/g", f"{at}ln_1/b", f"{at}ln_2/g", f"{at}ln_2/b")
        yield f"{at}attn/c_attn/w", Tensor((width, 3 * width))
        yield f"{at}attn/c_proj/w", Tensor((width, width))
        yield f"{at}mlp/c_fc/w", Tensor((width, 4 * width))
        yield f"{at}mlp/c_proj/w", Tensor((4 * width, width))
        yield from _vectors(3 * width, f"{at}attn/c_attn/b")
        yield from _vectors(width, f"{at}attn/c_proj/b", f"{at}mlp/c_proj/b")
        yield from _vectors(4 * width, f"{at}mlp/c_fc/b")


def _gptj(fields: Fields) -> Named:
    width, vocab = fields["n_embd"], fields["n_vocab"]
    yield "transformer.wte.weight", Tensor((width, vocab))
    yield from _vectors(width, "transformer.ln_f.weight", "transformer.ln_f.bias")
    yield "lm_head.weight", Tensor((width, vocab))
    yield from _vectors(vocab, "lm_head.bias")
    for i in range(fields["n_layer"]):
        at = f"transformer.h.{i}."
        yield from _vectors(width, f"{at}ln_1.weight", f"{at}ln_1.bias", f"{at}mlp.fc_out.bias")
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{at}attn.{part}.weight", Tensor((width, width))
        yield f"{at}mlp.fc_in.weight", Tensor((width, 4 * width))
        yield from _vectors(4 * width, f"{at}mlp.fc_in.bias")
        yield f"{at}mlp.fc_out.weight", Tensor((4 * width, width))


def _neox(fields: Fields) -> Named:
    width, vocab = fields["n_embd"], fields["n_vocab"]
    yield "gpt_neox.embed_in.weight", Tensor((width, vocab))
    yield "embed_out.weight", Tensor((width, vocab))
    final = "gpt_neox.final_layer_norm"
    yield from _vectors(width, f"{final}.weight", f"{final}.bias")
    for i in range(fields["n_layer"]):
        at = f"gpt_neox.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield from _vectors(width, f"{at}{norm}.weight", f"{at}{norm}.bias")
        yield f"{at}attention.query_key_value.weight", Tensor((width, 3 * width))
        yield f"{at}attention.dense.weight", Tensor((width, width))
        yield f"{at}mlp.dense_h_to_4h.weight", Tensor((width, 4 * width))
        yield f"{at}mlp.dense_4h_to_h.weight", Tensor((4 * width, width))
        yield from _vectors(3 * width, f"{at}attention.query_key_value.bias")
        yield from _vectors(width, f"{at}attention.dense.bias", f"{at}mlp.dense_4h_to_h.bias")
        yield from _vectors(4 * width, f"{at}mlp.dense_h_to_4h.bias")


def _mpt(fields: Fields) -> Named:
    width = fields["n_embd"]
    yield "transformer.wte.weight", Tensor((width, fields["n_vocab"]))
    yield from _vectors(width, "transformer.norm_f.weight")
    for i in range(fields["n_layer"]):
        at = f"transformer.blocks.{i}."
        yield from _vectors(width, f"{at}norm_1.weight", f"{at}norm_2.weight")
        yield f"{at}attn.Wqkv.weight", Tensor((width, 3 * width))
        yield f"{at}attn.out_proj.weight", Tensor((width, width))
        yield f"{at}ffn.up_proj.weight", Tensor((width, 4 * width))
        yield f"{at}ffn.down_proj.weight", Tensor((4 * width, width))


def _falcon(fields: Fields) -> Named:
    width, vocab = fields["n_embd"], fields["n_vocab"]
    head = width // fields["n_head"]
    joined = (2 * fields["n_head_kv"] + fields["n_head"]) * head
    yield "transformer.word_embeddings.weight", Tensor((width, vocab))
    yield "lm_head.weight", Tensor((width, vocab))
    yield from _vectors(width, "transformer.ln_f.weight", "transformer.ln_f.bias")
    norms = ("ln_mlp", "ln_attn") if fields["falcon_type"] == 40 else ("input_layernorm",)  # noqa: PLR2004 (falcon-40b)
    for i in range(fields["n_layer"]):
        at = f"transformer.h.{i}."
        for norm in norms:
            yield from _vectors(width, f"{at}{norm}.weight", f"{at}{norm}.bias")
        yield f"{at}self_attention.query_key_value.weight", Tensor((width, joined))
        yield f"{at}self_attention.dense.weight", Tensor((width, width))
        yield f"{at}mlp.dense_h_to_4h.weight", Tensor((width, 4 * width))
        yield f"{at}mlp.dense_4h_to_h.weight", Tensor((4 * width, width))


def _llama(fields: Fields) -> Named:
    width, vocab, shared = fields["n_embd"], fields["n_vocab"], fields["shared_heads"]
    # The 70B model's middle is wider, and only that of 80 layers.
    scale = 1.3 if shared > 1 else 1.0
    middle = feed_forward_length(width, fields["n_mult"], scale)
    yield "tok_embeddings.weight", Tensor((width, vocab))
    yield "output.weight", Tensor((width, vocab))
    yield from _vectors(width, "norm.weight")
    for i in range(fields["n_layer"]):
        at = f"layers.{i}."
        yield from _vectors(width, f"{at}attention_norm.weight", f"{at}ffn_norm.weight")
        yield f"{at}attention.wq.weight", Tensor((width, width))
        yield f"{at}attention.wk.weight", Tensor((width, width // shared))
        yield f"{at}attention.wv.weight", Tensor((width, width // shared))
        yield f"{at}attention.wo.weight", Tensor((width, width))
        yield f"{at}feed_forward.w1.weight", Tensor((width, middle))
        yield f"{at}feed_forward.w2.weight", Tensor((middle, width))
        yield f"{at}feed_forward.w3.weight", Tensor((width, middle))


_MODELS: Final = {
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt2,
    "gptj": _gptj,
    "gpt_neox": _neox,
    "dolly-v2": _neox,
    "mpt": _mpt,
    "replit": _mpt,
    "falcon": _falcon,
    "llama": _llama,
}
