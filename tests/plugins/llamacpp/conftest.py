"""Engines over real and tiny models, and what to do with them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral_kernel.contracts import (
    Claim,
    Engine,
    FileRef,
    Job,
    LoadRequest,
    Prompt,
    TextPart,
    TokenEngine,
    TokenSegment,
)
from corral_llamacpp.loading import load
from corral_llamacpp.options import LlamaOptions

MODELS = Path(__file__).parents[2] / "models"
MANY_STEPS = 5000

Opener = Callable[..., Any]


class Greedy:
    """A loop like the worker's, that always takes the likeliest token.

    Attributes:
        fed: Positions that the engine fed, by job.
        texts: Ids that were chosen, by job.
        steps: Calls of `forward`.
    """

    def __init__(self, engine: TokenEngine) -> None:
        self.engine = engine
        self.fed: dict[int, int] = {}
        self.cached: dict[int, int] = {}
        self.texts: dict[int, list[int]] = {}
        self.last_row: dict[int, np.ndarray] = {}
        self.drafter: Callable[[list[int]], Sequence[int]] | None = None
        self.steps = 0
        self._limits: dict[int, int] = {}
        self._drafts: dict[int, Sequence[int]] = {}
        self._next_id = 0

    def job(self, prompt: str | Sequence[int], tokens: int = 60, **more: Any) -> Job:
        if isinstance(prompt, str):
            made = self.engine.prepare([TextPart(prompt)])
        else:
            made = Prompt((TokenSegment(list(prompt)),))
        self._next_id += 1
        return Job(id=self._next_id, prompt=made, max_tokens=tokens, **more)

    def admit(self, job: Job) -> bool:
        admission = self.engine.admit(job)
        if admission is None:
            return False
        self.cached[job.id] = admission.cached_tokens
        self.fed[job.id], self.texts[job.id] = 0, []
        self._limits[job.id], self._drafts[job.id] = job.max_tokens, ()
        return True

    def step(self) -> None:
        self.steps += 1
        assert self.steps < MANY_STEPS, "jobs that come to no end"
        for rows in self.engine.forward():
            assert rows.error is None
            self.fed[rows.job_id] += rows.fed
            if rows.logits is not None:
                self._choose(rows.job_id, rows.logits)

    def _choose(self, job_id: int, logits: np.ndarray) -> None:
        chosen: list[int] = []
        text, drafts = self.texts[job_id], self._drafts[job_id]
        for place, row in enumerate(logits):
            self.last_row[job_id] = row.copy()
            chosen.append(int(row.argmax()))
            text.append(chosen[-1])
            if chosen[-1] in self.engine.tokenizer.end_ids or len(text) >= self._limits[job_id]:
                self.release(job_id)
                return
            if place >= len(drafts) or drafts[place] != chosen[-1]:
                break
        self._drafts[job_id] = self.drafter(text) if self.drafter else ()
        self.engine.extend(job_id, chosen, self._drafts[job_id])

    def release(self, job_id: int) -> None:
        self.engine.release(job_id)
        del self._limits[job_id]

    def run(self, *jobs: Job) -> list[list[int]]:
        """Run jobs to their ends, as many at once as there is room; give what was chosen."""
        waiting = list(jobs)
        while waiting or self._limits:
            while waiting and self.admit(waiting[0]):
                waiting.pop(0)
            if self._limits:
                self.step()
        return [self.texts[job.id] for job in jobs]

    def answer(self, prompt: str | Sequence[int], tokens: int = 60, **more: Any) -> str:
        (ids,) = self.run(self.job(prompt, tokens, **more))
        return self.engine.tokenizer.decode(ids).decode()


@pytest.fixture
def open_engine() -> Iterator[Opener]:
    """Load a model as a worker does; closed after the test."""
    opened: list[Engine] = []

    def opener(path: Path, *, slots: int = 1, embeds: bool = False, **options: Any) -> Engine:
        options.setdefault("num_thread", 1)  # tests run beside others
        claim = Claim(
            backend="llamacpp",
            confidence=1.0,
            why="a test",
            capabilities=("embedding",) if embeds else ("completion",),
        )
        file = FileRef(role="weights", digest="sha256:0", size_bytes=0, path=str(path))
        request = LoadRequest(
            claim=claim,
            options=LlamaOptions(**options),
            files=(file,),
            slots=slots,
            report=lambda _share: True,
        )
        opened.append(load(request))
        return opened[-1]

    yield opener
    for engine in opened:
        engine.close()


@pytest.fixture
def greedy(open_engine: Opener) -> Callable[..., Greedy]:
    """Load a model, with the loop that takes the likeliest token."""
    return lambda path, **options: Greedy(open_engine(path, **options))


@pytest.fixture(scope="session")
def tiny_chat() -> Path:
    return MODELS / "tiny-chat-f32.gguf"


# ------------------------------------------------------------------------ models of random weights


class RandomModel(gguf.GGUFWriter):
    """A GGUF of random weights, with the vocabulary of tiny-chat: 259 tokens, a byte each."""

    width = 32
    vocabulary = 259
    spaced = False

    def __init__(
        self, path: Path, architecture: str, layers: int, norm: str = "output_norm"
    ) -> None:
        super().__init__(path, architecture)
        self.layers = layers
        self.random = np.random.default_rng(7)
        self.add_context_length(512)
        self.add_embedding_length(self.width)
        self.add_block_count(layers)
        self.add_layer_norm_rms_eps(1e-6)
        if self.spaced:
            self.add_spaced_vocabulary()
        else:
            self._add_vocabulary()
        self.weight("token_embd.weight", self.vocabulary, self.width)
        self.ones(f"{norm}.weight", self.width)

    def add_spaced_vocabulary(self) -> None:
        """One like Llama 2's: it begins every text with a space."""
        words = ["▁", "h", "i", "▁h", "hi", "▁hi"]
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
        kinds = [2, 3, 3, *[6] * 256, *[1] * len(words)]
        self.add_tokenizer_model("llama")
        self.add_token_list(tokens)
        self.add_token_scores([0.0] * 259 + [-10.0, -9.0, -9.0, -5.0, -4.0, -3.0])
        self.add_token_types(kinds)
        self.add_bos_token_id(1)
        self.add_eos_token_id(2)

    def _add_vocabulary(self) -> None:
        fields = gguf.GGUFReader(MODELS / "tiny-chat-f32.gguf").fields
        self.add_tokenizer_model("gpt2")
        self.add_tokenizer_pre("gpt-2")
        self.add_token_list(fields["tokenizer.ggml.tokens"].contents())
        self.add_token_types(fields["tokenizer.ggml.token_type"].contents())
        self.add_token_merges(fields["tokenizer.ggml.merges"].contents())
        for name in ("bos", "eos"):
            key = f"tokenizer.ggml.{name}_token_id"
            self.add_uint32(key, int(fields[key].contents()))
        self.add_bool("tokenizer.ggml.add_bos_token", val=False)

    def weight(self, name: str, *shape: int, scale: float = 1.0) -> None:
        values = self.random.normal(0, scale / np.sqrt(shape[-1]), shape)
        self.add_tensor(name, values.astype(np.float32))

    def ones(self, name: str, *shape: int) -> None:
        self.add_tensor(name, np.ones(shape, np.float32))

    def attention(self, layer: int, heads: int, head: int) -> None:
        """With one head of keys and values."""
        self.weight(f"blk.{layer}.attn_q.weight", heads * head, self.width, scale=2)
        self.weight(f"blk.{layer}.attn_k.weight", head, self.width, scale=2)
        self.weight(f"blk.{layer}.attn_v.weight", head, self.width)
        self.weight(f"blk.{layer}.attn_output.weight", self.width, heads * head)

    def feed_forward(self, layer: int, inner: int) -> None:
        self.weight(f"blk.{layer}.ffn_gate.weight", inner, self.width)
        self.weight(f"blk.{layer}.ffn_up.weight", inner, self.width)
        self.weight(f"blk.{layer}.ffn_down.weight", self.width, inner)

    def save(self) -> None:
        self.write_header_to_file()
        self.write_kv_data_to_file()
        self.write_tensors_to_file()
        self.close()


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Qwen3s of the same weights, that pool their rows in different ways or score them."""
    folder = tmp_path_factory.mktemp("encoders")
    paths = {kind.name: folder / f"{kind.name}.gguf" for kind in gguf.PoolingType}
    for kind in gguf.PoolingType:
        model = RandomModel(paths[kind.name], "qwen3", layers=2)
        heads, head, inner = 2, 16, 64
        model.add_head_count(heads)
        model.add_head_count_kv(1)
        model.add_feed_forward_length(inner)
        model.add_pooling_type(kind)
        for i in range(model.layers):
            model.ones(f"blk.{i}.attn_norm.weight", model.width)
            model.ones(f"blk.{i}.ffn_norm.weight", model.width)
            for norm in ("attn_q_norm", "attn_k_norm"):
                model.ones(f"blk.{i}.{norm}.weight", head)
            model.attention(i, heads, head)
            model.feed_forward(i, inner)
        if kind == gguf.PoolingType.RANK:
            model.add_classifier_output_labels(["yes", "no"])
            model.weight("cls.output.weight", 2, model.width)
        model.save()
    return paths


@pytest.fixture(scope="session")
def tiny_mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent model: two Mamba layers."""
    path = tmp_path_factory.mktemp("models") / "mamba.gguf"
    return fill_mamba(RandomModel(path, "mamba", layers=2), path)


def fill_mamba(model: RandomModel, path: Path) -> Path:
    inner, state, rank, kernel = 2 * model.width, 8, 2, 4
    model.add_ssm_conv_kernel(kernel)
    model.add_ssm_inner_size(inner)
    model.add_ssm_state_size(state)
    model.add_ssm_time_step_rank(rank)
    for i in range(model.layers):
        model.ones(f"blk.{i}.attn_norm.weight", model.width)
        model.weight(f"blk.{i}.ssm_in.weight", 2 * inner, model.width, scale=2)
        model.weight(f"blk.{i}.ssm_conv1d.weight", inner, kernel)
        model.weight(f"blk.{i}.ssm_conv1d.bias", inner)
        model.weight(f"blk.{i}.ssm_x.weight", rank + 2 * state, inner, scale=2)
        model.weight(f"blk.{i}.ssm_dt.weight", inner, rank)
        model.weight(f"blk.{i}.ssm_dt.bias", inner)
        decay = -np.tile(np.arange(1, state + 1, dtype=np.float32), (inner, 1)) / 20
        model.add_tensor(f"blk.{i}.ssm_a", decay)
        model.ones(f"blk.{i}.ssm_d", inner)
        model.weight(f"blk.{i}.ssm_out.weight", model.width, inner, scale=2)
    model.save()
    return path


@pytest.fixture(scope="session")
def tiny_hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LFM2: layers of short convolutions, whose state cannot go back, and of attention."""
    path = tmp_path_factory.mktemp("models") / "hybrid.gguf"
    model = RandomModel(path, "lfm2", layers=4, norm="token_embd_norm")
    heads, inner, kernel = 2, 64, 3
    kv_heads = [0, 1, 0, 1]  # none: a convolution
    model.add_head_count(heads)
    model.add_head_count_kv(kv_heads)
    model.add_feed_forward_length(inner)
    model.add_shortconv_l_cache(kernel)
    head = model.width // heads
    for i, count in enumerate(kv_heads):
        model.ones(f"blk.{i}.attn_norm.weight", model.width)
        model.ones(f"blk.{i}.ffn_norm.weight", model.width)
        model.feed_forward(i, inner)
        if count:
            for norm in ("attn_q_norm", "attn_k_norm"):
                model.ones(f"blk.{i}.{norm}.weight", head)
            model.attention(i, heads, head)
        else:
            model.weight(f"blk.{i}.shortconv.conv.weight", model.width, kernel)
            model.weight(f"blk.{i}.shortconv.in_proj.weight", 3 * model.width, model.width, scale=2)
            model.weight(f"blk.{i}.shortconv.out_proj.weight", model.width, model.width)
    model.save()
    return path


class SpacedModel(RandomModel):
    vocabulary = 265
    spaced = True


@pytest.fixture(scope="session")
def tiny_spaced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent model with a vocabulary that begins every text with a space."""
    path = tmp_path_factory.mktemp("models") / "spaced.gguf"
    return fill_mamba(SpacedModel(path, "mamba", layers=2), path)


@pytest.fixture(scope="session")
def tiny_windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 3 whose layers look back 16 tokens, but for every sixth."""
    path = tmp_path_factory.mktemp("models") / "windowed.gguf"
    model = RandomModel(path, "gemma3", layers=6)
    heads, head, inner = 2, 32, 64
    model.add_head_count(heads)
    model.add_head_count_kv(1)
    model.add_key_length(head)
    model.add_value_length(head)
    model.add_feed_forward_length(inner)
    model.add_sliding_window(16)
    for i in range(model.layers):
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            model.ones(f"blk.{i}.{norm}.weight", model.width)
        for norm in ("attn_q_norm", "attn_k_norm"):
            model.ones(f"blk.{i}.{norm}.weight", head)
        model.attention(i, heads, head)
        model.feed_forward(i, inner)
    model.save()
    return path
