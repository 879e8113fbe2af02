"""Execution providers: where ONNX Runtime computes."""

from collections.abc import Sequence

import onnxruntime as ort

from corral_kernel.errors import InvalidOptionError

_SUFFIX = "ExecutionProvider"
_CPU = "cpu"
_GENAI = {  # by our names: what ONNX Runtime GenAI calls those that it can use
    "cuda": "cuda",
    "dml": "DML",
    "nvtensorrtrtx": "NvTensorRtRtx",
    "openvino": "OpenVINO",
    "qnn": "QNN",
    "rocm": "rocm",
    "vitisai": "VitisAI",
    "webgpu": "WebGPU",
}


def wanted(option: str) -> tuple[str, ...]:
    """Which providers to use, the first choice first, without the CPU's, which always follows.

    Args:
        option: `execution_provider`.

    Returns:
        Our names: ONNX Runtime's in small letters.

    Raises:
        InvalidOptionError: If this build has one of them not.
    """
    names = [name.strip().lower() for name in option.split(",") if name.strip()]
    names = [name.removesuffix(_SUFFIX.lower()) for name in names]
    have = available()
    for name in names:
        if name not in have:
            raise InvalidOptionError(
                f"execution_provider asks for {name!r}; the ONNX Runtime {ort.__version__} that is "
                f"installed has {', '.join(have)}: choose one of these, or install a build that "
                "has it"
            )
    return tuple(dict.fromkeys(name for name in names if name != _CPU))


def available() -> list[str]:
    """Our names of the providers that this build has.

    GenAI's own `is_cuda_available` and so on answer yes for builds that have them not.
    """
    names = [_our_name(name) for name in ort.get_available_providers()]
    return [name for name in names if name == _CPU or name in _GENAI]


def genai_names(names: Sequence[str]) -> list[str]:
    """What `og.Config.append_provider` calls them."""
    return [_GENAI[name] for name in names]


def session_names(names: Sequence[str]) -> list[str]:
    """What `onnxruntime.InferenceSession` calls them, the CPU's last."""
    theirs = {_our_name(name): name for name in ort.get_available_providers()}
    return [theirs[name] for name in (*names, _CPU)]


def _our_name(name: str) -> str:
    return name.removesuffix(_SUFFIX).lower()
