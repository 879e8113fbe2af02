"""Gemma of three generations: norms that say what differs from one, embeddings at both ends."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import gguf

from corral_kernel.errors import UnsupportedError
from corral_safetensors.families import Described
from corral_safetensors.layout import Expected, Layout
from corral_safetensors.notes import Note
from corral_safetensors.parts import (
    Sizes,
    Traits,
    check_activation,
    decoder_tensors,
    layer_tensors,
    sizes_of,
    tied,
    without_prefix,
    write_sizes,
)
from corral_safetensors.rope import rope_of
from corral_safetensors.settings import Settings
from corral_safetensors.tensors import Change

# The models of 27 billion parameters, which llama.cpp tells by their layers: it scales their
# attention by the width divided by the number of heads, that of others by the size of a head.
WIDE_LAYERS: Final = frozenset({46, 62})
_TOLERANCE: Final = 1e-6
_NORM_SHIFT: Final = Change(shift=1.0)  # what is stored is the difference from one

_THETAS: Final = {gguf.MODEL_ARCH.GEMMA3: (1_000_000.0, 10_000.0)}

GEMMA_DEFAULTS: Final = {
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "hidden_activation": "gelu_pytorch_tanh",
}
GEMMA2_DEFAULTS: Final = {
    **GEMMA_DEFAULTS,
    "num_key_value_heads": 4,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "query_pre_attn_scalar": 256,
}
GEMMA3_DEFAULTS: Final = {
    **GEMMA_DEFAULTS,
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
    "query_pre_attn_scalar": 256,
}


@dataclass(frozen=True, slots=True)
class Gemma:
    """Describes Gemma models.

    Args:
        arch: llama.cpp's name of the generation.
        step: Which layer of how many attends to all tokens.
    """

    arch: gguf.MODEL_ARCH
    step: int

    def __call__(self, config: Settings, writer: gguf.GGUFWriter, note: Note) -> Described:
        """Say in a GGUF file what a config says.

        Raises:
            CorralError: If it says what cannot be, or what llama.cpp does not do.
        """
        if config.has("text_config"):
            note("the parts of the model for images are left out")
            config = config.part("text_config").over(config)
        check_activation(config, "gelu_pytorch_tanh", field_name="hidden_activation")
        sizes = sizes_of(config)
        if self.arch is not gguf.MODEL_ARCH.GEMMA:
            _check_scale(config, sizes)
        write_sizes(config, sizes, writer)
        if self.arch is gguf.MODEL_ARCH.GEMMA2:
            _write_caps(config, writer)
        else:
            _refuse_caps(config)
        theta, local_theta = _THETAS.get(self.arch, (10_000.0, 0.0))
        rope_of(config, sizes.head, theta, local_theta).write(writer)
        self._write_windows(config, sizes, writer)
        return Described(
            layout=Layout(self.arch, sizes.layers, self._expected(config, sizes), _renamer(config)),
            vocabulary_size=sizes.vocabulary,
        )

    def _write_windows(self, config: Settings, sizes: Sizes, writer: gguf.GGUFWriter) -> None:
        usual = [(layer + 1) % self.step != 0 for layer in range(sizes.layers)]
        kinds = config.texts("layer_types", []) or _by_step(
            sizes.layers, config.count("sliding_window_pattern", self.step)
        )
        windows = [kind == "sliding_attention" for kind in kinds]
        if len(windows) != sizes.layers:
            raise UnsupportedError(
                f"layer_types of config.json has {len(windows)} entries for {sizes.layers} layers"
            )
        if any(windows):
            writer.add_sliding_window(config.count("sliding_window"))
        if windows != usual:
            writer.add_sliding_window_pattern(windows)

    def _expected(self, config: Settings, sizes: Sizes) -> dict[str, Expected]:
        gemma3 = self.arch is gguf.MODEL_ARCH.GEMMA3
        layer = layer_tensors(sizes, Traits(head_norms=gemma3))
        around = self.arch is not gguf.MODEL_ARCH.GEMMA
        for name in ("post_attention_norm", "post_ffw_norm") if around else ():
            layer[f"{name}.weight"] = Expected((sizes.width,))
        expected = decoder_tensors(sizes, layer)
        if gemma3 and not tied(config):
            expected["output.weight"] = Expected((sizes.vocabulary, sizes.width))
        return {
            name: Expected(one.shape, _NORM_SHIFT) if name.endswith("_norm.weight") else one
            for name, one in expected.items()
        }


def _by_step(layers: int, step: int) -> list[str]:
    return [
        "full_attention" if (layer + 1) % step == 0 else "sliding_attention"
        for layer in range(layers)
    ]


def _renamer(config: Settings) -> Callable[[str], str | None]:
    skips_head = tied(config)

    def rename(name: str) -> str | None:
        bare = name.replace("language_model.", "").replace("model.model.", "model.")
        if any(part in bare for part in ("vision_tower.", "multi_modal_projector.")):
            return None
        if skips_head and bare == "lm_head.weight":
            return None
        return without_prefix(bare)

    return rename


def _check_scale(config: Settings, sizes: Sizes) -> None:
    """Refuse a scale of attention other than the one in llama.cpp's code.

    Raises:
        UnsupportedError: Naming both.
    """
    said = config.number("query_pre_attn_scalar")
    wide = sizes.layers in WIDE_LAYERS
    taken = sizes.width // sizes.heads if wide else sizes.head
    if not math.isclose(said, taken, rel_tol=_TOLERANCE):
        raise UnsupportedError(
            f"query_pre_attn_scalar of config.json is {said:g}; "
            f"llama.cpp takes {taken} for a model of these sizes"
        )


def _write_caps(config: Settings, writer: gguf.GGUFWriter) -> None:
    writer.add_attn_logit_softcapping(config.number("attn_logit_softcapping"))
    writer.add_final_logit_softcapping(config.number("final_logit_softcapping"))


def _refuse_caps(config: Settings) -> None:
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.has(name):
            raise UnsupportedError(f"{name} of config.json: only Gemma 2 has that in llama.cpp")
