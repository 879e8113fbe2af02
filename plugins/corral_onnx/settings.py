"""What a folder may set of ONNX Runtime: a model is data, and neither runs code nor writes files.

Keys that do harm are refused at any depth of any JSON file. Of the options that GenAI hands on to
ONNX Runtime as they are, lists of what is harmful would never be whole: by some of their hundreds
providers open libraries (`backend_path`, `op_packages`, `trt_extra_plugin_lib_paths`), call
addresses (`gpu_external_alloc`) and write files (`cache_dir`, `trt_engine_cache_enable`), and so do
sessions (`session.collect_node_memory_stats_to_file`, `session.node_partition_config_file`). So
of those a folder may set what is listed here, which names no file.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from corral_kernel.errors import InvalidModelError
from corral_kernel.foldernames import GENAI_CONFIG

_FORBIDDEN: Final = {
    "custom_ops_library": "would have ONNX Runtime run that library's code",
    "library_path": "would have ONNX Runtime run that library's code",
    "enable_profiling": "would have ONNX Runtime write files wherever the model says",
    "optimized_model_filepath": "would have ONNX Runtime write a file wherever the model says",
    "ep.context_file_path": "would have ONNX Runtime write a file wherever the model says",
}
_SESSION: Final = frozenset(
    {
        "disable_cpu_ep_fallback",
        "enable_cpu_mem_arena",
        "enable_mem_pattern",
        "ep.cuda.fpa_intb_gemm",
        "graph_optimization_level",
        "inter_op_num_threads",
        "intra_op_num_threads",
        "log_id",
        "log_severity_level",
        "log_verbosity_level",
        "optimization.disable_specified_optimizers",
        "optimization.enable_gelu_approximation",
        "provider_options",
        "session.disable_cpu_ep_fallback",
        "session.disable_prepacking",
        "session.disable_quant_qdq",
        "session.enable_quant_qdq_cleanup",
        "session.inter_op.allow_spinning",
        "session.intra_op.allow_spinning",
        "session.set_denormal_as_zero",
        "session.use_device_allocator_for_initializers",
        "session.use_env_allocators",
        "use_env_allocators",
    }
)
_RUN: Final = frozenset(
    {
        "disable_synchronize_execution_providers",
        "gpu_graph_id",
        "memory.enable_memory_arena_shrinkage",
        "qnn.htp_perf_mode",
        "qnn.htp_perf_mode_post_run",
        "qnn.rpc_control_latency",
    }
)
_PROVIDER: Final = frozenset(
    {
        "enableGraphCapture",
        "enable_cuda_graph",
        "enable_graph_capture",
        "enable_skip_layer_norm_strict_mode",
        "multiRotaryCacheConcatOffset",
        "multi_rotary_cache_concat_offset",
        "validationMode",
    }
)
_MAY: Final = {"session_options": _SESSION, "run_options": _RUN, "provider_options": _PROVIDER}


def check_key(file: str, key: str, value: Any) -> None:
    """Look at one key of an object, wherever that stands in a JSON file of a model.

    Args:
        file: Its name.
        key: The key.
        value: Decoded, its own keys looked at.

    Raises:
        InvalidModelError: Saying what is refused and why.
    """
    if key in _FORBIDDEN:
        raise InvalidModelError(f"{file} holds {key!r}, which {_FORBIDDEN[key]}: refused")
    if file != GENAI_CONFIG or key not in _MAY:
        return
    for settings in _settings(file, key, value):
        for name in sorted(settings.keys() - _MAY[key]):
            raise InvalidModelError(
                f"{file} sets {name!r:.99} in {key!r}, by which ONNX Runtime might open a library "
                f"or write a file: refused; a model may set {', '.join(sorted(_MAY[key]))}"
            )


def _settings(file: str, key: str, value: Any) -> Iterator[Mapping[str, Any]]:
    """Of a session, of a run, or of each provider in `[{"cuda": {"enable_cuda_graph": "1"}}]`."""
    found = [value]
    if key == "provider_options":
        providers = value if isinstance(value, list) else [value]
        if not all(isinstance(provider, dict) for provider in providers):
            raise InvalidModelError(f"{file} holds {key!r} that are none: refused")
        found = [settings for provider in providers for settings in provider.values()]
    for settings in found:
        if not isinstance(settings, dict):
            raise InvalidModelError(f"{file} holds {key!r} that are none: refused")
        yield settings
