"""What can be set when a legacy GGML file is loaded."""

from typing import Annotated

from msgspec import Meta

from corral_kernel.contracts import LoadOptions


class GgmlOptions(LoadOptions, frozen=True, kw_only=True):
    """Load options of the ctransformers backend."""

    model_type: Annotated[
        str,
        Meta(
            description="the architecture of a GGML file that does not tell it: gpt2, gptj, "
            "gpt_neox, dolly-v2, mpt, replit, gpt_bigcode (starcoder), falcon or llama"
        ),
    ] = ""
