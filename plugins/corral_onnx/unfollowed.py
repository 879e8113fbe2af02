"""What of the load options ONNX Runtime does not follow, for those who set them."""

from corral_onnx.options import OnnxOptions


def unfollowed(options: OnnxOptions, *, encodes: bool = False) -> dict[str, str]:
    """Tell of options that change nothing.

    Args:
        options: As asked for.
        encodes: Whether it is an encoder that is loaded.

    Returns:
        By option, what `EngineInfo.warnings` has.
    """
    whole = "is ignored: ONNX Runtime puts the whole model where execution_provider says"
    reads = "is ignored: ONNX Runtime itself decides how it reads weights"
    texts = "is ignored: a text is encoded at once"
    asked = {
        "num_gpu": (options.num_gpu > 0, whole),
        "main_gpu": (options.main_gpu is not None, whole),
        "use_mmap": (options.use_mmap is not None, reads),
        "num_batch": (encodes and options.num_batch > 0, texts),
    }
    return {name: words for name, (is_asked, words) in asked.items() if is_asked}
