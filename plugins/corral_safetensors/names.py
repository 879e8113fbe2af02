"""What is converted, by name: all that the server knows of it."""

from typing import Final

ARCHITECTURES: Final = frozenset(
    {
        "BertForMaskedLM",
        "BertModel",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Gemma3ForConditionalGeneration",
        "GemmaForCausalLM",
        "LlamaForCausalLM",
        "LlamaModel",
        "MistralForCausalLM",
        "MistralModel",
        "Phi3ForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen2Model",
        "Qwen3ForCausalLM",
        "Qwen3Model",
        "RobertaModel",
        "SmolLM3ForCausalLM",
        "XLMRobertaModel",
    }
)
# What a GGUF file calls the models that adapters are converted for.
BASES: Final = frozenset(
    {"bert", "gemma", "gemma2", "gemma3", "llama", "phi3", "qwen2", "qwen3", "smollm3"}
)
CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
FORMAT: Final = "safetensors"
