"""Bids, load options, damaged files, and what a load tells."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import corral_llamacpp
from corral_kernel.contracts import Claim, FileRef, LoadRequest
from corral_kernel.errors import InvalidModelError, InvalidOptionError, LoadError
from corral_kernel.gguf import read_header
from corral_kernel.models import WEIGHTS_TYPE, Model, ModelConfig, ModelFile
from corral_kernel.names import ModelName
from corral_kernel.options import Given, OptionTable
from corral_llamacpp.claim import ENVIRONMENT as BID_ENVIRONMENT
from corral_llamacpp.claim import claim
from corral_llamacpp.loading import load
from corral_llamacpp.machine import physical_cores
from corral_llamacpp.options import LlamaOptions
from corral_llamacpp.pacing import Pacing

Loop = Callable[..., Any]


def model_of(path: Path, **config: Any) -> Model:
    size = path.stat().st_size
    weights = ModelFile(media_type=WEIGHTS_TYPE, digest="sha256:0", size_bytes=size, path=path)
    return Model(
        name=ModelName.parse("test"),
        digest="0",
        size_bytes=size,
        modified_ns=0,
        config=ModelConfig(model_format="gguf", **config),
        files=(weights,),
        gguf=read_header(path),
    )


# ------------------------------------------------------------------------------------------ bids


def test_a_text_model_is_claimed_for_completion(tiny_chat: Path) -> None:
    bid = claim(model_of(tiny_chat))
    assert bid is not None
    assert bid.capabilities == ("completion",)
    assert bid.context_tokens == 256
    assert bid.slots == 0
    assert bid.memory.base_bytes > tiny_chat.stat().st_size
    # 2 layers, 2 heads of 16 keys and 16 values, 2 bytes a number
    assert bid.memory.per_token_bytes == 2 * 2 * (16 + 16) * 2
    assert "llama" in bid.why


def test_a_hybrid_of_a_single_slot_family_is_claimed_for_one(tiny_hybrid: Path) -> None:
    bid = claim(model_of(tiny_hybrid))
    assert bid is not None
    assert bid.slots == 1
    # Only two of its four layers cache positions.
    assert bid.memory.per_token_bytes == 2 * 2 * 16 * 2


def test_an_adapter_is_no_model() -> None:
    lora = Path(__file__).parents[2] / "models" / "lora-zorblax-f16.gguf"
    assert claim(model_of(lora)) is None


def test_a_remote_stub_is_not_claimed(tiny_chat: Path) -> None:
    stub = model_of(tiny_chat, remote_host="https://ollama.com", remote_model="big")
    assert claim(stub) is None


def test_the_entry_module_loads_no_library() -> None:
    code = (
        "import sys, corral_llamacpp; corral_llamacpp.corral_backends();"
        "print([m for m in ('llama_cpp', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "llama_cpp" not in out.stdout


def test_the_backend_names_its_options() -> None:
    (backend,) = corral_llamacpp.corral_backends()
    given = {"flash_attention": True, "kv_cache_type": "q8_0", "num_ubatch": 64.0, "num_gpu": 0}
    assert OptionTable(backend.options, {}).sort(given) == Given(load=given)


# --------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kv_cache_type": "q9_9"}, "kv_cache_type"),
        ({"split_mode": "diagonal"}, "split_mode"),
        ({"tensor_split": "a,b"}, "tensor_split"),
        ({"tensor_split": "1,inf"}, "tensor_split"),
        ({"tensor_split": ",".join("1" * 999)}, "tensor_split"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_option_that_cannot_be_followed_is_named(
    greedy: Loop, tiny_chat: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidOptionError, match=says):
        greedy(tiny_chat, num_ctx=64, **options)


def request_for(path: Path, report: Callable[[float], bool]) -> LoadRequest:
    return LoadRequest(
        claim=Claim(backend="llamacpp", confidence=1.0, why="", capabilities=("completion",)),
        options=LlamaOptions(num_ctx=64, num_thread=1),
        files=(FileRef(role="weights", digest="", size_bytes=0, path=str(path)),),
        slots=1,
        report=report,
    )


def test_a_load_tells_how_far_it_is(tiny_chat: Path) -> None:
    shares: list[float] = []
    engine = load(request_for(tiny_chat, lambda share: not shares.append(share)))
    engine.close()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_load_that_nobody_wants_any_more_ends(tiny_chat: Path) -> None:
    with pytest.raises(LoadError, match="given up"):
        load(request_for(tiny_chat, lambda _share: False))


@pytest.mark.parametrize("options", [{"use_mmap": True}, {"use_mmap": False}, {"main_gpu": 0}])
def test_ways_to_load_give_the_same_answers(
    greedy: Loop, tiny_chat: Path, options: dict[str, Any]
) -> None:
    loop = greedy(tiny_chat, num_ctx=128, **options)
    assert loop.answer("<|im_start|>user\ncapital of Italy?<|im_end|>\n<|im_start|>assistant\n")


def test_what_the_library_can_do_is_told(greedy: Loop, tiny_chat: Path) -> None:
    details = greedy(tiny_chat, num_ctx=64).engine.info.details
    assert details["threads"] == 1
    assert details["gpu_offload"] in ("yes", "no")
    assert details["llama.cpp"]
    assert "CPU" in str(details["system"])


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused(
    greedy: Loop, tiny_chat: Path, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "short.gguf"
    data = tiny_chat.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((InvalidModelError, LoadError)):
        greedy(path, num_ctx=64)


DAMAGED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from corral_kernel.errors import CorralError
from test_llama_loading import request_for
from corral_llamacpp.loading import load
for path in sorted(Path(sys.argv[1]).glob("*.gguf")):
    child = os.fork()
    if not child:
        try:
            load(request_for(path, lambda share: True)).close()
            os._exit(1)
        except CorralError:
            os._exit(0)
    print(os.waitpid(child, 0)[1])
"""


def test_damaged_heads_give_errors_at_worst_a_worker_that_aborts(
    tiny_chat: Path, tmp_path: Path
) -> None:
    dice = random.Random(5)
    data = tiny_chat.read_bytes()
    head = read_header(tiny_chat).data_offset
    for number in range(60):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[dice.randrange(head)] ^= 1 << dice.randrange(8)
        (tmp_path / f"{number:02}.gguf").write_bytes(damaged)
    child = subprocess.run(
        [sys.executable, "-c", DAMAGED, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env={**os.environ, **BID_ENVIRONMENT},
    )
    ends = [int(line) for line in child.stdout.splitlines()]
    assert len(ends) == 60, child.stderr[-2000:]
    refused, loaded, aborted = (ends.count(end) for end in (0, 1 << 8, signal.SIGABRT))
    assert refused + loaded + aborted == 60  # no wild reads, no other exceptions
    assert refused > 50
    if aborted:  # such as for a token that is there twice, which only the library looks for
        assert "GGML_ASSERT" in child.stderr


# --------------------------------------------------------------------------- threads and pacing


def test_a_core_counts_once_and_a_cgroup_limits(tmp_path: Path) -> None:
    cpus = range((os.cpu_count() or 1) + 64)
    for cpu in cpus:
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"0-{cpus[-1]}\n")
    limit = tmp_path / "cpu.max"
    assert physical_cores(tmp_path, limit) == 1
    limit.write_text("150000 100000\n")
    assert physical_cores(tmp_path / "none", limit) <= 2
    limit.write_text("max 100000\n")
    assert physical_cores(tmp_path / "none", limit) >= 1


def test_a_prompt_alone_takes_whole_micro_batches_and_beside_others_little() -> None:
    clock = Clock()
    pacing = Pacing(512, clock=clock)
    assert pacing.prompt_tokens(running=False) == 512
    clock.step(pacing, 1.0, prompt_tokens=512, running=False)  # 2 ms a token
    clock.step(pacing, 0.01, prompt_tokens=0, running=True)
    assert pacing.prompt_tokens(running=False) == 512
    assert pacing.prompt_tokens(running=True) == pytest.approx(45, abs=1)  # 100 ms in all


def test_a_step_may_last_three_of_a_slow_models() -> None:
    clock = Clock()
    pacing = Pacing(512, clock=clock)
    clock.step(pacing, 512 * 0.005, prompt_tokens=512, running=False)
    clock.step(pacing, 0.2, prompt_tokens=0, running=True)
    assert pacing.prompt_tokens(running=True) == pytest.approx(80, abs=1)  # 0.4 s more


def test_a_very_slow_model_never_takes_a_step_of_many_seconds() -> None:
    clock = Clock()
    pacing = Pacing(512, cautious=True, clock=clock)
    first = pacing.prompt_tokens(running=False)
    assert first == 128
    clock.step(pacing, first * 0.5, prompt_tokens=first, running=False)
    for _ in range(20):
        clock.step(pacing, 16.0, prompt_tokens=32, running=False)
    assert pacing.prompt_tokens(running=False) == 32


class Clock:
    """Time that goes on when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def step(self, pacing: Pacing, seconds: float, *, prompt_tokens: int, running: bool) -> None:
        pacing.start()
        self.now += seconds
        pacing.stop(prompt_tokens, running=running)
