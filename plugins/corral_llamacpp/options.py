"""What can be set when a model is loaded with llama.cpp."""

from typing import Annotated

from msgspec import Meta

from corral_kernel.contracts import LoadOptions


class LlamaOptions(LoadOptions, frozen=True, kw_only=True):
    """Load options of the llama.cpp backend."""

    flash_attention: Annotated[
        bool | None, Meta(description="fused attention; unset: wherever the device has it")
    ] = None
    kv_cache_type: Annotated[
        str,
        Meta(description="type of the cached keys and values: f16, q8_0, q4_0, …; empty: f16"),
    ] = ""
    num_ubatch: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 20,
            description="tokens computed at once; a cancel waits this long; 0: automatic",
        ),
    ] = 0
    cache_ram: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=1 << 30,
                description="MiB beside the context for cached prompts; unset: automatic",
            ),
        ]
        | None
    ) = None
    split_mode: Annotated[
        str, Meta(description="how several GPUs share a model: layer, row or none; empty: layer")
    ] = ""
    tensor_split: Annotated[
        str, Meta(description="share of each GPU, such as 3,1; empty: by free memory")
    ] = ""
