"""Which architectures are converted, by the name that config.json gives."""

from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError
from corral_safetensors import bert, gemma
from corral_safetensors.bert import Bert
from corral_safetensors.decoders import LLAMA, PHI3, QWEN2, QWEN3, SMOLLM3, Decoder
from corral_safetensors.families import Family
from corral_safetensors.gemma import Gemma
from corral_safetensors.settings import Settings

_ARCH = gguf.MODEL_ARCH
_LLAMA: Final = Family(
    _ARCH.LLAMA,
    Decoder(_ARCH.LLAMA, LLAMA),
    {"rms_norm_eps": 1e-6, "max_position_embeddings": 2048},
)
_MISTRAL: Final = Family(
    _ARCH.LLAMA,
    Decoder(_ARCH.LLAMA, LLAMA),
    {"rms_norm_eps": 1e-6, "max_position_embeddings": 131_072, "num_key_value_heads": 8},
)
_QWEN2: Final = Family(
    _ARCH.QWEN2,
    Decoder(_ARCH.QWEN2, QWEN2),
    {"rms_norm_eps": 1e-6, "max_position_embeddings": 32_768, "use_sliding_window": False},
)
_QWEN3: Final = Family(
    _ARCH.QWEN3,
    Decoder(_ARCH.QWEN3, QWEN3),
    {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32_768,
        "head_dim": 128,
        "use_sliding_window": False,
    },
)
_SMOLLM3: Final = Family(
    _ARCH.SMOLLM3,
    Decoder(_ARCH.SMOLLM3, SMOLLM3),
    {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32_768,
        "num_key_value_heads": 4,
        "rope_theta": 2_000_000.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
    },
)
_PHI3: Final = Family(
    _ARCH.PHI3,
    Decoder(_ARCH.PHI3, PHI3),
    {
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
    },
)
_GEMMA: Final = Family(_ARCH.GEMMA, Gemma(_ARCH.GEMMA, step=1), gemma.GEMMA_DEFAULTS)
_GEMMA2: Final = Family(_ARCH.GEMMA2, Gemma(_ARCH.GEMMA2, step=2), gemma.GEMMA2_DEFAULTS)
_GEMMA3: Final = Family(_ARCH.GEMMA3, Gemma(_ARCH.GEMMA3, step=6), gemma.GEMMA3_DEFAULTS)
_BERT: Final = Family(_ARCH.BERT, Bert(), bert.DEFAULTS)
_ROBERTA: Final = Family(_ARCH.BERT, Bert(padded=True), bert.ROBERTA_DEFAULTS)

FAMILIES: Final = {
    "BertForMaskedLM": _BERT,
    "BertModel": _BERT,
    "Gemma2ForCausalLM": _GEMMA2,
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "GemmaForCausalLM": _GEMMA,
    "LlamaForCausalLM": _LLAMA,
    "LlamaModel": _LLAMA,
    "MistralForCausalLM": _MISTRAL,
    "MistralModel": _MISTRAL,
    "Phi3ForCausalLM": _PHI3,
    "Qwen2ForCausalLM": _QWEN2,
    "Qwen2Model": _QWEN2,
    "Qwen3ForCausalLM": _QWEN3,
    "Qwen3Model": _QWEN3,
    "RobertaModel": _ROBERTA,
    "SmolLM3ForCausalLM": _SMOLLM3,
    "XLMRobertaModel": _ROBERTA,
}


def architecture_of(config: Settings) -> str:
    """The name that a config gives.

    Raises:
        InvalidModelError: If it gives none.
    """
    names = config.texts("architectures", [])
    if not names:
        raise InvalidModelError("unknown architecture: config.json names none in architectures")
    return names[0]


def family_of(config: Settings) -> tuple[Family, Settings]:
    """A model's family, and its config with what the family's configs leave out.

    Raises:
        InvalidModelError: If none of them is converted.
    """
    name = architecture_of(config)
    family = FAMILIES.get(name)
    if family is None:
        known = ", ".join(FAMILIES)
        raise InvalidModelError(f'unsupported architecture "{name}"; converted are {known}')
    return family, config.over(Settings(family.defaults))
