"""Llama and its kin: decoders of pre-normalised layers with rotary positions and gated MLPs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_safetensors.families import Described
from corral_safetensors.layout import Expected, Layout
from corral_safetensors.notes import Note
from corral_safetensors.parts import (
    Traits,
    check_activation,
    decoder_tensors,
    layer_tensors,
    sizes_of,
    tied,
    without_prefix,
    write_sizes,
)
from corral_safetensors.rope import LLAMA3, LONG, Rope, long_factors, rope_of
from corral_safetensors.settings import Settings
from corral_safetensors.tensors import Made

_NO_ROPE_STEP: Final = 4  # llama.cpp has this number of SmolLM3 in its code

LLAMA: Final = Traits(
    turned=True,
    biases=("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"),
    dimensions=True,
)


QWEN2: Final = Traits(needed_biases=("attn_q", "attn_k", "attn_v"), free_heads=False)
QWEN3: Final = Traits(head_norms=True)
SMOLLM3: Final = Traits(turned=True, dimensions=True)
PHI3: Final = Traits(biases=(), fused=True, free_heads=False, dimensions=True)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Describes models of one architecture.

    Args:
        arch: llama.cpp's name of it.
        traits: How its layers are.
    """

    arch: gguf.MODEL_ARCH
    traits: Traits

    def __call__(self, config: Settings, writer: gguf.GGUFWriter, note: Note) -> Described:
        """Say in a GGUF file what a config says.

        Raises:
            CorralError: If it says what cannot be, or what llama.cpp does not do.
        """
        check_activation(config, "silu", "swish")
        sizes = sizes_of(config)
        if not self.traits.free_heads and sizes.head * sizes.heads != sizes.width:
            raise UnsupportedError(
                f"heads of {sizes.head} numbers where the width divided by their number is "
                f"{sizes.width // sizes.heads}: llama.cpp has no such model of this architecture"
            )
        write_sizes(config, sizes, writer)
        share = config.part("rope_parameters").number(
            "partial_rotary_factor", config.number("partial_rotary_factor", 1.0)
        )
        rotated = int(sizes.head * share)
        if rotated % 2 or not 0 < rotated <= sizes.head:
            raise InvalidModelError(
                f"config.json: of {sizes.head} numbers of a head {rotated} cannot be rotated"
            )
        rope = rope_of(config, rotated, config.number("rope_theta", 10_000.0))
        if self.traits.dimensions:
            writer.add_rope_dimension_count(rotated)
        phi3 = self.arch is gguf.MODEL_ARCH.PHI3
        rope.write(writer, LONG if phi3 else LLAMA3)
        self._check_windows(config, note)
        expected = decoder_tensors(sizes, layer_tensors(sizes, self.traits))
        is_tied = tied(config)
        if not is_tied:
            needed = config.has("tie_word_embeddings")
            expected["output.weight"] = Expected((sizes.vocabulary, sizes.width), needed=needed)
        return Described(
            layout=Layout(self.arch, sizes.layers, expected, _renamer(is_tied)),
            vocabulary_size=sizes.vocabulary,
            made=self._made(rope, writer),
        )

    def _made(self, rope: Rope, writer: gguf.GGUFWriter) -> list[Made]:
        if self.arch is gguf.MODEL_ARCH.PHI3:
            config = rope.config
            window = config.count("sliding_window") if config.has("sliding_window") else 0
            writer.add_sliding_window(window)  # 0 is how llama.cpp tells Phi-4 from Phi-3
            writer.add_rope_scaling_orig_ctx_len(rope.original_context())
            return long_factors(rope, writer, "its heads")
        return rope.frequency_factors()

    def _check_windows(self, config: Settings, note: Note) -> None:
        if self.arch is gguf.MODEL_ARCH.SMOLLM3:
            _check_rotated_layers(config)
        window = config.has("sliding_window") and config.flag("use_sliding_window", default=True)
        if window and config.count("sliding_window") < config.count("max_position_embeddings"):
            note(
                f"a sliding window of {config.count('sliding_window')} tokens is left out: "
                "llama.cpp attends to all tokens in models of this architecture"
            )


def _renamer(is_tied: bool) -> Callable[[str], str | None]:  # noqa: FBT001 - all there is to say
    def rename(name: str) -> str | None:
        if is_tied and name == "lm_head.weight":
            return None
        return without_prefix(name)

    return rename


def _check_rotated_layers(config: Settings) -> None:
    """Refuse a SmolLM3 whose layers without positions are others than llama.cpp takes.

    Raises:
        UnsupportedError: Naming what is wanted.
    """
    layers = config.count("num_hidden_layers")
    wanted = [int((layer + 1) % _NO_ROPE_STEP != 0) for layer in range(layers)]
    said = config.numbers("no_rope_layers") if config.has("no_rope_layers") else wanted
    step = config.count("no_rope_layer_interval", _NO_ROPE_STEP)
    if said != wanted or (step != _NO_ROPE_STEP and not config.has("no_rope_layers")):
        raise UnsupportedError(
            f"no_rope_layers of config.json: llama.cpp leaves positions out in each "
            f"{_NO_ROPE_STEP}th layer of a SmolLM3 model and in no other"
        )
