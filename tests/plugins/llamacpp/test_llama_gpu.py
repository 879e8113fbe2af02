"""What is asked for on a GPU reaches the library, and what the library says of it the client.

No machine of the tests has one: the library's structs and its words are looked at.
"""

import llama_cpp.llama_cpp as lib
import pytest

from corral_llamacpp.loading import memory_bytes
from corral_llamacpp.native import NativeLog, NativeModel, model_params
from corral_llamacpp.options import LlamaOptions

MIB = 1 << 20


def test_options_of_gpus_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    params, _ = model_params(LlamaOptions())
    assert (params.n_gpu_layers, params.split_mode) == (-1, lib.LLAMA_SPLIT_MODE_LAYER)
    params, _ = model_params(LlamaOptions(num_gpu=7, split_mode="row", tensor_split="3,1"))
    assert (params.n_gpu_layers, params.split_mode) == (7, lib.LLAMA_SPLIT_MODE_ROW)
    assert params.tensor_split[:2] == [3.0, 1.0]
    params, _ = model_params(LlamaOptions(num_gpu=0, main_gpu=1))
    assert (params.n_gpu_layers, params.main_gpu) == (0, 0), "this build has none to choose"
    monkeypatch.setattr(lib, "llama_supports_gpu_offload", lambda: True)
    params, _ = model_params(LlamaOptions(main_gpu=1))
    assert (params.main_gpu, params.split_mode) == (1, lib.LLAMA_SPLIT_MODE_NONE)


@pytest.mark.parametrize(
    ("lines", "everywhere", "on_devices"),
    [
        (["load_tensors:   CPU_Mapped model buffer size =    92.00 MiB"], 92, 0),
        (
            [
                "load_tensors:        CUDA0 model buffer size =    60.00 MiB",
                "load_tensors:   CPU_Mapped model buffer size =    32.00 MiB",
                "llama_kv_cache:      CUDA0 KV buffer size =    90.00 MiB",
                "sched_reserve:      CUDA0 compute buffer size =    10.50 MiB",
                "sched_reserve:  CUDA_Host compute buffer size =     4.00 MiB",
                "llama_context:  CUDA_Host  output buffer size =     0.50 MiB",
            ],
            197,
            160.5,
        ),
        (
            [
                "load_tensors:      Vulkan0 model buffer size =     5.00 MiB",
                "load_tensors:      Vulkan1 model buffer size =     6.00 MiB",
                "load_tensors:  Vulkan_Host model buffer size =     1.00 MiB",
            ],
            12,
            11,
        ),
    ],
    ids=["no GPU", "some layers on one", "two of another kind"],
)
def test_memory_is_what_the_library_says(
    lines: list[str], everywhere: float, on_devices: float
) -> None:
    log = NativeLog()
    for line in lines:
        log._take(2, f"{line}\n".encode(), None)
    model = NativeModel(0, 0, log)
    assert memory_bytes(model) == everywhere * MIB
    assert memory_bytes(model, device=True) == on_devices * MIB
