"""Legacy GGML files of random weights, of every architecture; and engines over them."""

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_ctransformers.engine import GgmlEngine
from corral_ctransformers.layouts import FLOATS, GGJT, GGMF, LAYOUTS, VERSIONS
from corral_ctransformers.loading import load
from corral_ctransformers.options import GgmlOptions
from corral_ctransformers.tensors import FILE_TYPES, TYPES, expected
from corral_kernel.contracts import Claim, FileRef, Job, LoadRequest, Prompt, TextPart, TokenSegment

MODELS = Path(__file__).parents[2] / "models"
GPT2 = MODELS / "gpt2byte-f16.ggml.bin"
CHILD = Path(__file__).with_name("loading_child.py")

BYTES = [bytes([i]) for i in range(256)]
WORDS = [b" the", b"th", b"he", b" t", b"in", b"ing", b" a", b"12", b"  ", b"\n\n", b"er"]
END = b"<|endoftext|>"
SPACE = "\u2581".encode()
SIZES = {
    "n_ctx": 96, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_rot": 4, "par_res": 1, "n_mult": 16,
    "n_head_kv": 1, "falcon_type": 7, "ftype": 1, "alibi_bias_max": 8.0, "clip_qkv": 0.0,
}  # fmt: skip


def latin(piece: bytes) -> bytes:
    """A token as files of mpt write it: a character for each byte."""
    return piece.decode("latin-1").encode()


def tokens(architecture: str) -> list[tuple[bytes, float]]:  # noqa: PLR0911 (one each)
    """A vocabulary with a token for each byte, and scores that prefer longer ones."""
    plain = [*BYTES, *WORDS]
    match architecture:
        case "llama":
            named = [(b"", 0.0), (b"", 0.0), (b"", 0.0)]
            return named + [(p, -50.0 if len(p) == 1 else -float(i)) for i, p in enumerate(plain)]
        case "falcon":
            marks = [f">>MARK{i}<<".encode() for i in range(11)]
            return [(piece, 0.0) for piece in [*marks, END, *plain]]
        case "replit":
            # Its texts have no single bytes of 0x80 and more: only whole characters.
            letters = ["Ü", "ï", "🦙"]
            pieces = [
                *BYTES[:0x20], *BYTES[0x21:0x80], *[letter.encode() for letter in letters], SPACE,
                *[word.replace(b" ", SPACE) for word in WORDS],
            ]  # fmt: skip
            scored = [(p, -9.0 * len(p) / (1 + 0.1 * len(p))) for p in pieces]
            return [(b"<unk>", 0.0), (END, 0.0), *scored]
        case "mpt":
            return [(latin(piece), 0.0) for piece in [*plain, END]]
        case "gpt_bigcode":
            return [(piece, 0.0) for piece in [*plain, END, b"<|end|>", b"<|user|>"]]
        case "dolly-v2":
            return [(piece, 0.0) for piece in [*plain, END, b"### End", b"### Instruction:"]]
        case _:
            return [(piece, 0.0) for piece in [*plain, END]]


MERGES = [
    ("t", "h"), ("Ġ", "t"), ("h", "e"), ("i", "n"), ("Ġt", "he"), ("in", "g"), ("Ġ", "a"),
    ("1", "2"), ("Ġ", "Ġ"), ("Ċ", "Ċ"), ("e", "r"),
]  # fmt: skip


@dataclass
class Made:
    """A file and what is in it.

    Attributes:
        data: The whole file.
        places: Where in it the parts lie: fields of the head by name, `vocabulary`, `tensors`.
        weights: From where to where each tensor's numbers lie.
        heads: From where to where the head of each tensor lies.
    """

    data: bytes
    places: dict[str, int] = field(default_factory=dict)
    weights: list[tuple[int, int]] = field(default_factory=list)
    heads: list[tuple[int, int]] = field(default_factory=list)


def make(architecture: str, *, magic: bytes = b"", version: int = 0, **given: Any) -> Made:
    """Write a file of random weights.

    Args:
        architecture: Its layout.
        magic: If the architecture has several.
        version: Of the magic; 0: the newest.
        **given: Fields of the head, in place of `SIZES`; and `shared_heads`, for llama.
    """
    layout = LAYOUTS[architecture]
    magic = magic or (GGJT if GGJT in layout.magics else min(layout.magics))
    version = version or max(VERSIONS[magic], default=0)
    vocabulary = tokens(architecture)
    sizes = {**SIZES, "n_vocab": len(vocabulary), "n_merges": len(MERGES), **given}
    if architecture == "llama":
        sizes["n_rot"] = given.get("n_rot", sizes["n_embd"] // sizes["n_head"])
    out = bytearray(magic + (struct.pack("<i", version) if VERSIONS[magic] else b""))
    made = Made(b"")
    for name in layout.fields:
        made.places[name] = len(out)
        out += struct.pack("<f" if name in FLOATS else "<i", sizes[name])
    made.places["vocabulary"] = len(out)
    _write_vocabulary(out, architecture, vocabulary)
    made.places["tensors"] = len(out)
    aligned = magic not in (b"lmgg", GGMF)
    _write_tensors(out, made, architecture, sizes, aligned=aligned)
    made.data = bytes(out)
    return made


def _write_vocabulary(out: bytearray, architecture: str, vocabulary: list[Any]) -> None:
    layout = LAYOUTS[architecture]
    if layout.counted:
        out += struct.pack("<i", len(vocabulary))
    for piece, score in vocabulary:
        out += struct.pack("<i", len(piece)) + piece
        if layout.scored:
            out += struct.pack("<f", score)
    if architecture == "falcon":
        out += struct.pack("<i", len(MERGES))
        for side in (side.encode() for pair in MERGES for side in pair):
            out += struct.pack("<i", len(side)) + side


def _write_tensors(
    out: bytearray, made: Made, architecture: str, sizes: Mapping[str, Any], *, aligned: bool
) -> None:
    random = np.random.default_rng(5)
    matrix = FILE_TYPES[sizes["ftype"] % 1000]
    for name, tensor in expected(architecture, {"shared_heads": 1, **sizes}).items():
        if tensor.optional:
            continue
        kind = matrix if tensor.kind == "matrix" else 0
        at = len(out)
        out += struct.pack("<3i", len(tensor.shape), len(name), kind)
        out += struct.pack(f"<{len(tensor.shape)}i", *tensor.shape) + name.encode()
        made.heads.append((at, len(out)))
        if aligned:
            out += bytes(-len(out) % 32)
        start = len(out)
        out += _numbers(random, kind, tensor.shape, norm="norm" in name or "ln_" in name)
        made.weights.append((start, len(out)))


def _numbers(random: Any, kind: int, shape: Sequence[int], *, norm: bool) -> bytes:
    count = int(np.prod(shape))
    if norm:
        return np.ones(count, np.float32).tobytes()
    if kind <= 1:
        values = random.normal(0, 0.3, count)
        return bytes(values.astype(np.float16 if kind else np.float32).tobytes())
    # Blocks begin with one or two scales of 16 bits; all else may be anything.
    block = TYPES[kind]
    blocks = random.integers(0, 256, (count // block.block, block.block_bytes), np.uint8)
    blocks[:, :] &= 0x3F  # of which no two bytes read as a large float16, wherever scales lie
    blocks[:, 1] &= 0x1F
    return bytes(blocks.tobytes())


class Greedy:
    """A loop like the worker's, that always takes the likeliest token."""

    def __init__(self, engine: GgmlEngine) -> None:
        self.engine = engine
        self.cached = 0
        self.steps = 0
        self.last_row = np.empty(0, np.float32)
        self._next_id = 0

    def ids(self, prompt: str | Sequence[int], count: int = 40, **more: Any) -> list[int]:
        """What it chooses, up to an end."""
        engine = self.engine
        if isinstance(prompt, str):
            made = engine.prepare([TextPart(prompt)])
        else:
            made = Prompt((TokenSegment(list(prompt)),))
        self._next_id += 1
        job = Job(id=self._next_id, prompt=made, max_tokens=count, **more)
        admission = engine.admit(job)
        assert admission is not None
        self.cached = admission.cached_tokens
        chosen: list[int] = []
        while True:
            (rows,) = engine.forward()
            self.steps += 1
            assert rows.fed <= engine.info.batch_tokens
            if rows.logits is None:
                continue
            self.last_row = rows.logits[0].copy()
            chosen.append(int(self.last_row.argmax()))
            if chosen[-1] in engine.tokenizer.end_ids or len(chosen) == count:
                engine.release(job.id)
                return chosen
            engine.extend(job.id, chosen[-1:])

    def answer(self, prompt: str, count: int = 40, **more: Any) -> str:
        ids = self.ids(prompt, count, **more)
        shown = [i for i in ids if i not in self.engine.tokenizer.end_ids]
        return self.engine.tokenizer.decode(shown).decode()


Opener = Callable[..., GgmlEngine]


@pytest.fixture
def open_engine() -> Iterator[Opener]:
    """Load a file as a worker does; closed after the test."""
    opened: list[GgmlEngine] = []

    def opener(path: Path, **options: Any) -> GgmlEngine:
        opened.append(load(request_for(path, **options)))
        return opened[-1]

    yield opener
    for engine in opened:
        engine.close()


def request_for(path: Path, **options: Any) -> LoadRequest:
    options.setdefault("num_thread", 1)  # tests run beside others
    return LoadRequest(
        claim=Claim(
            backend="ctransformers", confidence=1.0, why="a test", capabilities=("completion",)
        ),
        options=GgmlOptions(**options),
        files=(FileRef(role="weights", digest="sha256:0", size_bytes=0, path=str(path)),),
        slots=1,
        report=lambda _share: True,
    )


@pytest.fixture(name="request_for")
def request_for_fixture() -> Callable[..., LoadRequest]:
    return request_for


@pytest.fixture
def greedy(open_engine: Opener) -> Callable[..., Greedy]:
    """Load a file, with the loop that takes the likeliest token."""
    return lambda path, **options: Greedy(open_engine(path, **options))


@pytest.fixture(scope="session", name="make")
def make_fixture() -> Callable[..., Made]:
    return make


@pytest.fixture(scope="session", name="tokens")
def tokens_fixture() -> Callable[[str], list[tuple[bytes, float]]]:
    return tokens


@pytest.fixture(scope="session")
def gpt2() -> Path:
    """The byte GPT-2: 257 tokens, 128 positions."""
    return GPT2


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of an architecture, or of given bytes; give its path."""

    def write(architecture: str, data: bytes | None = None, **sizes: Any) -> Path:
        path = tmp_path / f"{architecture}-{len(list(tmp_path.iterdir()))}.bin"
        path.write_bytes(make(architecture, **sizes).data if data is None else data)
        return path

    return write


@dataclass(frozen=True)
class Fate:
    """What became of a file in a process of its own.

    Attributes:
        outcome: `text`, `refused`, `hung` or `died`.
        words: The answer, the refusal, or how it ended.
    """

    outcome: str
    words: str


@pytest.fixture(scope="session")
def load_apart() -> Iterator[Callable[..., Fate]]:
    """Load files, each in a process of its own that is bounded in time, and feed some tokens."""
    with subprocess.Popen(
        [sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip

        def load_in_child(path: Path, model_type: str, *, walk: bool = True) -> Fate:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{'walk' if walk else 'bare'}\t{model_type}\t{path}\n")
            process.stdin.flush()
            outcome, _, words = process.stdout.readline().rstrip("\n").partition("\t")
            return Fate(outcome, words)

        yield load_in_child
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def child_module(load_module: Callable[[Path, str], Any]) -> Any:
    """The program of `load_apart`, imported."""
    return load_module(CHILD, "loading_child")
