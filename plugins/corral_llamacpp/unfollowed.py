"""What of the load options llama.cpp does not follow here, for those who set them."""

from corral_llamacpp.binding import lib
from corral_llamacpp.options import LlamaOptions


def unfollowed(
    options: LlamaOptions, batch_tokens: int, why_batch: str, *, can_park: bool
) -> dict[str, str]:
    """Tell of options that change nothing, or not as they say.

    Args:
        options: As asked for.
        batch_tokens: Of one step, as it is.
        why_batch: Why it may be larger than what was asked for.
        can_park: Cached prompts may lie beside the context.

    Returns:
        By option, what `EngineInfo.warnings` has.
    """
    told: dict[str, str] = {}
    if not lib.llama_supports_gpu_offload():
        for_gpus = {
            "num_gpu": options.num_gpu > 0,
            "main_gpu": options.main_gpu is not None,
            "split_mode": bool(options.split_mode),
            "tensor_split": bool(options.tensor_split),
        }
        why = "is ignored: this build of llama.cpp uses no GPU"
        told |= {name: why for name, asked in for_gpus.items() if asked}
    for name, asked in (("num_batch", options.num_batch), ("num_ubatch", options.num_ubatch)):
        if 0 < asked < batch_tokens:
            told[name] = f"is {asked}; {batch_tokens} is used: {why_batch}"
    if options.cache_ram and not can_park:
        told["cache_ram"] = "is ignored: this model's state is cached in the context alone"
    return told
