"""A kernel with real workers and engines, driven without HTTP; and the same models run by hand."""

import contextlib
import ctypes
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import pytest
import pytest_asyncio

from corral_kernel.calls import CompletionCall, EncodeCall
from corral_kernel.contracts import Message
from corral_kernel.environment import Settings
from corral_kernel.frames import Accepted, Done, Text, TokenLogprob, ToolCall
from corral_kernel.service import Corral
from corral_kernel.store import CreateRequest, create_model

MODELS = Path(__file__).parent.parent / "models"
TINY, GPT2 = MODELS / "tiny-chat-f32.gguf", MODELS / "gpt2byte-f16.gguf"
# One thread each, since tests run beside others: an engine that spins on a busy core is ten times
# slower. Greedy and short, unless a test says otherwise.
OPTIONS = {"num_thread": 1, "temperature": 0, "num_predict": 40}
# What llama.cpp rounds to 16 bits to be quick moves a logit by hundredths when tokens are computed
# together, which draws and near ties show now and then.
EXACT = {
    "CORRAL_NUM_PARALLEL": "8",
    "CORRAL_KV_CACHE_TYPE": "f32",
    "CORRAL_FLASH_ATTENTION": "0",
}
FIELDS = frozenset(CompletionCall.__struct_fields__)


@dataclass(frozen=True)
class Answer:
    """All that came of one completion."""

    accepted: Accepted
    pieces: Sequence[Text]
    done: Done
    calls: Sequence[ToolCall] = ()

    @property
    def text(self) -> str:
        return "".join(piece.content for piece in self.pieces)

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [logprob for piece in self.pieces for logprob in piece.logprobs]

    @property
    def reason(self) -> str:
        return self.done.reason


def split(given: Mapping[str, Any]) -> dict[str, Any]:
    """Tell fields of a call from options."""
    fields = {name: value for name, value in given.items() if name in FIELDS}
    return {**fields, "options": {k: v for k, v in given.items() if k not in FIELDS}}


class Kernel:
    """A started kernel and short ways to ask it. Models are made by the digest of their file."""

    def __init__(self, corral: Corral) -> None:
        self.corral = corral

    def create(self, name: str, file: Path | bytes | None = None, **fields: Any) -> str:
        """Make a model of a file, or of another model by `base`; give its name."""
        if file is not None:
            fields["files"] = {"model.gguf": self.blob(file)}
        for _ in create_model(self.corral.store, CreateRequest(model=name, **fields)):
            pass
        return name

    def blob(self, file: Path | bytes) -> str:
        """Bring a file into the store; give its digest."""
        with self.corral.store.blobs.writer() as writer:
            writer.write(file if isinstance(file, bytes) else file.read_bytes())
            return writer.finish()

    async def complete(
        self, model: str, *, options: Mapping[str, Any] | None = None, **fields: Any
    ) -> Answer:
        """Run one completion to its end; its fields are those of `CompletionCall`."""
        pieces: list[Text] = []
        calls: list[ToolCall] = []
        call = CompletionCall(
            model=await self.corral.find(model), options={**OPTIONS, **(options or {})}, **fields
        )
        async with await self.corral.complete(call) as completion:
            async for event in completion:
                if isinstance(event, Done):
                    return Answer(completion.accepted, pieces, event, calls)
                if isinstance(event, Text):
                    pieces.append(event)
                else:
                    calls.append(event)
        raise AssertionError("a completion ends with Done")

    async def raw(self, model: str, prompt: str, **more: Any) -> Answer:
        """Continue a prompt as it stands; further keywords are options."""
        return await self.complete(model, prompt=prompt, raw=True, **split(more))

    async def generate(self, model: str, prompt: str, **more: Any) -> Answer:
        """Continue a prompt that is put into the template; further keywords are options."""
        return await self.complete(model, prompt=prompt, **split(more))

    async def chat(self, model: str, *turns: tuple[str, str] | str, **more: Any) -> Answer:
        """Answer a conversation; a turn that is a text is the user's."""
        pairs = [("user", turn) if isinstance(turn, str) else turn for turn in turns]
        messages = tuple(Message(role=role, content=content) for role, content in pairs)
        return await self.complete(model, messages=messages, **split(more))

    async def rendered(self, model: str, *turns: tuple[str, str] | str, **more: Any) -> str:
        """The prompt that a conversation comes to."""
        answer = await self.chat(model, *turns, render_only=True, **more)
        assert answer.accepted.rendered is not None
        return answer.accepted.rendered

    async def embed(self, model: str, *texts: str, **more: Any) -> np.ndarray:
        """Vectors `(n, dim)`."""
        options = {**OPTIONS, **more.pop("options", {})}
        call = EncodeCall(model=await self.corral.find(model), texts=texts, options=options, **more)
        made = await self.corral.encode(call)
        return np.frombuffer(made.data, "<f4").reshape(made.count, made.dim)


_SILENT = lib.llama_log_callback(lambda _level, _text, _data: None)


class ByHand:
    """The same model on the bare library: nothing cached, batched, chosen or cut unless told.

    Args:
        path: Of the GGUF file.
        context_tokens: Positions at most.
    """

    def __init__(self, path: Path, context_tokens: int) -> None:
        lib.llama_log_set(_SILENT, None)
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context_tokens
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = lib.GGML_TYPE_F32
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._model = lib.llama_model_load_from_file(
            str(path).encode(), lib.llama_model_default_params()
        )
        self._context = lib.llama_init_from_model(self._model, params)
        self._memory = lib.llama_get_memory(self._context)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._vocab_size = lib.llama_vocab_n_tokens(self._vocab)
        self._fed = 0

    def tokens(self, text: str) -> list[int]:
        """Ids of a text, a BOS before it where the model wants one."""
        ids = (lib.llama_token * (len(text) * 4 + 8))()
        data = text.encode()
        count = lib.llama_tokenize(self._vocab, data, len(data), ids, len(ids), True, True)  # noqa: FBT003 (native)
        return ids[:count]

    def piece(self, token_id: int) -> bytes:
        """The bytes of a token."""
        room = ctypes.create_string_buffer(64)
        count = lib.llama_token_to_piece(self._vocab, token_id, room, len(room), 0, True)  # noqa: FBT003 (native)
        return room.raw[:count]

    def restart(self) -> None:
        """Forget everything."""
        lib.llama_memory_clear(self._memory, True)  # noqa: FBT003 (native)
        self._fed = 0

    def feed(self, token_ids: Sequence[int], rows: int | None = None) -> np.ndarray:
        """Logits `(rows, vocab_size)` after the last of further tokens; by default after all."""
        rows = len(token_ids) if rows is None else rows
        batch = lib.llama_batch_init(len(token_ids), 0, 1)
        batch.n_tokens = len(token_ids)
        for i, token_id in enumerate(token_ids):
            batch.token[i], batch.pos[i] = token_id, self._fed + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 0
        for i in range(len(token_ids) - rows, len(token_ids)):
            batch.logits[i] = 1
        assert lib.llama_decode(self._context, batch) == 0
        lib.llama_batch_free(batch)
        self._fed += len(token_ids)
        flat = np.ctypeslib.as_array(
            lib.llama_get_logits(self._context), (rows * self._vocab_size,)
        )
        return flat.reshape(rows, self._vocab_size).copy()

    def cut(self, start: int, stop: int) -> None:
        """Forget positions of the middle, and move the rest down."""
        assert lib.llama_memory_seq_rm(self._memory, 0, start, stop)
        lib.llama_memory_seq_add(self._memory, 0, stop, -1, start - stop)
        self._fed -= stop - start

    def greedy(self, token_ids: Sequence[int], count: int) -> list[int]:
        """The likeliest tokens to follow, from the beginning."""
        self.restart()
        chosen: list[int] = []
        while len(chosen) < count:
            row = self.feed(chosen[-1:] or token_ids, rows=1)[0]
            chosen.append(int(row.argmax()))
        return chosen

    def close(self) -> None:
        lib.llama_free(self._context)
        lib.llama_model_free(self._model)


def with_value(data: bytes, key: str, kind: str, value: int) -> bytes:
    """Change a number in a GGUF's metadata.

    Args:
        data: The file.
        key: Of the metadata.
        kind: How `struct` packs the number: `I` or `?`.
        value: The new number.
    """
    number_type = {"I": 4, "?": 7}[kind]
    head = key.encode() + struct.pack("<I", number_type)
    at = data.index(head) + len(head)
    return data[:at] + struct.pack(f"<{kind}", value) + data[at + struct.calcsize(kind) :]


def with_template(data: bytes, template: str) -> bytes:
    """Put another Jinja template, no longer than the old one, into a GGUF."""
    at = data.index(b"tokenizer.chat_template") + len("tokenizer.chat_template") + 4
    (length,) = struct.unpack_from("<Q", data, at)
    fill = length - len(template.encode()) - len("{##}")
    assert fill >= 0, "a longer template would move everything behind it"
    padded = f"{template}{{#{' ' * fill}#}}".encode()
    return data[: at + 8] + padded + data[at + 8 + length :]


def endless(data: bytes) -> bytes:
    """Make a tiny model that knows no token to end with, but the byte 0."""
    for end in (b"<|im_end|>", b"<|endoftext|>"):
        data = data.replace(end, end.replace(b"|>", b"_>"))
    return with_value(data, "tokenizer.ggml.eos_token_id", "I", 0)


@contextlib.asynccontextmanager
async def running_kernel(home: Path, **settings: str) -> AsyncIterator[Kernel]:
    given = {"CORRAL_HOME": str(home), **settings}
    corral = Corral(Settings.from_environ(given))
    await corral.start()
    try:
        yield Kernel(corral)
    finally:
        await corral.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kernel(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kernel]:
    """One kernel for all tests of a file, with eight slots and some models.

    `tiny` chats, `gpt2` completes: both have a token for each byte, and 256 and 128 positions.
    `endless-tiny` and `endless-gpt2` are the same and never end an answer; `plain` is `tiny` with a
    template that leaves a prompt as it is.
    """
    async with running_kernel(tmp_path_factory.mktemp("home"), **EXACT) as kernel:
        create_models(kernel)
        yield kernel


def create_models(kernel: Kernel) -> None:
    kernel.create("tiny", TINY)
    kernel.create("gpt2", GPT2)
    plain = with_template(TINY.read_bytes(), "{{ messages[-1].content }}")
    kernel.create("plain", plain)
    for name, file in (("endless-tiny", TINY), ("endless-gpt2", GPT2)):
        kernel.create(name, endless(file.read_bytes()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def start_kernel(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Callable[..., Any]]:
    """Start kernels with settings of their own; all end with the file.

    `await start_kernel(models=True)` is like `kernel`, but for the settings that are given.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, models: bool = False, **settings: str) -> Kernel:
            home = tmp_path_factory.mktemp("home")
            given = {**EXACT, **settings} if models else settings
            kernel = await stack.enter_async_context(running_kernel(home, **given))
            if models:
                create_models(kernel)
            return kernel

        yield start


@pytest.fixture
def by_hand() -> Iterator[Callable[..., ByHand]]:
    """Open models on the bare library."""
    opened: list[ByHand] = []

    def open_model(path: Path, context_tokens: int = 256) -> ByHand:
        opened.append(ByHand(path, context_tokens))
        return opened[-1]

    yield open_model
    for model in opened:
        model.close()


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of tiny models."""
    return MODELS


@pytest.fixture(scope="session", name="with_value")
def with_value_fixture() -> Callable[..., bytes]:
    return with_value


@pytest.fixture(scope="session", name="with_template")
def with_template_fixture() -> Callable[..., bytes]:
    return with_template
