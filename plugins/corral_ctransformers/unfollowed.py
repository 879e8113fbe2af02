"""What of the load options is not followed here, for those who set them."""

from corral_ctransformers.layouts import GGMF
from corral_ctransformers.options import GgmlOptions
from corral_ctransformers.room import Room
from corral_ctransformers.walk import GgmlFile

_MAPPED = frozenset({"llama", "falcon"})


def unfollowed(options: GgmlOptions, file: GgmlFile, room: Room) -> dict[str, str]:
    """Tell of options that change nothing, or not as they say.

    Args:
        options: As asked for.
        file: What the walk found.
        room: What fits.

    Returns:
        By option, what `EngineInfo.warnings` has.
    """
    told: dict[str, str] = {}
    if options.num_gpu > 0:
        told["num_gpu"] = "is ignored: this backend runs on the CPU alone"
    if options.main_gpu is not None:
        told["main_gpu"] = "is ignored: this backend runs on the CPU alone"
    if options.use_mmap and (file.layout.name not in _MAPPED or file.magic == GGMF):
        told["use_mmap"] = "is ignored: files of this kind are read, not mapped"
    if options.num_ctx > room.context_tokens:
        told["num_ctx"] = (
            f"is {options.num_ctx}; {room.context_tokens} is used: more does not fit this file "
            "or the library's buffers"
        )
    if options.num_batch > room.step_tokens:
        told["num_batch"] = (
            f"is {options.num_batch}; {room.step_tokens} is used: a cancel waits for a step's "
            "end, and its results must fit the library's buffers"
        )
    return told
