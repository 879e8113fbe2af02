"""Rotary positions: what config.json says of them, in either of the forms that are in use."""

import math
from dataclasses import dataclass
from typing import Final

import gguf
import numpy as np

from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_safetensors.settings import Settings
from corral_safetensors.tensors import Made

_FULL: Final = "full_attention"
_SLIDING: Final = "sliding_attention"
LLAMA3: Final = frozenset({"llama3"})
LONG: Final = frozenset({"longrope", "su"})
_BETAS: Final = {"beta_fast": 32.0, "beta_slow": 1.0}
# Scalings that are nothing at the lengths which a model was trained for.
_PLAIN: Final = frozenset({"default", "dynamic"})


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions of a model.

    Args:
        config: Of the model; for lengths that the scaling does not repeat.
        said: The scaling's own fields.
        theta: Base of the frequencies.
        local_theta: The same for layers with a sliding window; 0, if it is no other.
        dimensions: Numbers of a head that are rotated.
    """

    config: Settings
    said: Settings
    theta: float
    local_theta: float
    dimensions: int

    @property
    def kind(self) -> str:
        """The scaling's name."""
        return self.said.text("rope_type", self.said.text("type", "default")).lower()

    def write(self, writer: gguf.GGUFWriter, factors: frozenset[str] = frozenset()) -> None:
        """Say it in a GGUF file.

        Args:
            writer: Of the file.
            factors: Scalings that the architecture has as tensors.

        Raises:
            UnsupportedError: If llama.cpp has no such scaling.
        """
        writer.add_rope_freq_base(self.theta)
        if self.local_theta:
            writer.add_rope_freq_base_swa(self.local_theta)
        if self.kind == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(self.said.number("factor"))
        elif self.kind == "yarn":
            self._write_yarn(writer)
        elif self.kind not in _PLAIN and self.kind not in factors:
            known = ", ".join(sorted({*_PLAIN, "linear", "yarn", *factors}))
            raise UnsupportedError(
                f"unsupported rope scaling {self.kind!r}; known for this architecture are {known}"
            )

    def _write_yarn(self, writer: gguf.GGUFWriter) -> None:
        for name in ("mscale", "mscale_all_dim"):
            if self.said.has(name):
                raise UnsupportedError(f"rope scaling yarn with {name} is not converted")
        factor = self.said.number("factor")
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(factor)
        writer.add_rope_scaling_orig_ctx_len(self.original_context())
        if self.said.has("attention_factor"):
            # This is the whole factor; llama.cpp multiplies its own by what the file says.
            own = 0.1 * math.log(factor) + 1.0 if factor > 1.0 else 1.0
            whole = self.said.number("attention_factor")
            writer.add_rope_scaling_attn_factors(whole / own)
        for name, taken in _BETAS.items():
            if self.said.number(name, taken) != taken:
                raise UnsupportedError(
                    f"{name} of the rope scaling is {self.said.number(name):g}; "
                    f"llama.cpp takes {taken:g} for models of this architecture"
                )

    def original_context(self) -> int:
        """Tokens of the context before it was extended."""
        name = "original_max_position_embeddings"
        default = self.config.count(name, self.config.count("max_position_embeddings"))
        return self.said.count(name, default)

    def frequency_factors(self) -> list[Made]:
        """What Llama 3 divides each frequency by, as the tensor that llama.cpp looks for."""
        if self.kind != "llama3":
            return []
        factor = self.said.number("factor", 8.0)
        low, high = (
            self.said.number("low_freq_factor", 1.0),
            self.said.number("high_freq_factor", 4.0),
        )
        if high <= low:
            raise InvalidModelError("high_freq_factor of the rope scaling must be over the low one")
        context = self.said.count("original_max_position_embeddings", 8192)
        steps = np.arange(0, self.dimensions, 2, dtype=np.float64) / self.dimensions
        waves = 2 * math.pi * self.theta**steps
        smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
        factors = 1 / ((1 - smooth) / factor + smooth)
        return [Made("rope_freqs.weight", factors.astype(np.float32))]


def rope_of(config: Settings, dimensions: int, theta: float, local_theta: float = 0.0) -> Rope:
    """Read a model's rotary positions.

    Args:
        config: Of the model.
        dimensions: Numbers of a head that are rotated.
        theta: What its architecture takes, if the config names no base.
        local_theta: The same for layers with a sliding window.
    """
    said = config.part("rope_parameters").over(config.part("rope_scaling"))
    local = said.part(_SLIDING).number(
        "rope_theta", config.number("rope_local_base_freq", local_theta or 1.0)
    )
    if said.has(_FULL):
        said = said.part(_FULL)
    base = said.number("rope_theta", config.number("rope_theta", theta))
    return Rope(config, said, base, local if local_theta else 0.0, dimensions)


def long_factors(rope: Rope, writer: gguf.GGUFWriter, heads_text: str) -> list[Made]:
    """Phi-3's two tables of frequency factors, and the attention factor that goes with them.

    Raises:
        InvalidModelError: If a table is of another length than half of the rotated numbers.
    """
    if not rope.said.has("long_factor"):
        return []
    original = rope.original_context()
    scale = rope.config.count("max_position_embeddings") / original
    attention = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    writer.add_rope_scaling_attn_factors(attention)
    tables = []
    for name in ("long", "short"):
        numbers = rope.said.numbers(f"{name}_factor")
        if len(numbers) * 2 != rope.dimensions:
            raise InvalidModelError(
                f"{name}_factor of the rope scaling has {len(numbers)} numbers; "
                f"{heads_text} need {rope.dimensions // 2}"
            )
        tables.append(Made(f"rope_factors_{name}.weight", np.array(numbers, np.float32)))
    return tables
