import random
import struct

import msgspec
import pytest

from corral_kernel import frames, framing
from corral_kernel.errors import FrameError
from corral_kernel.framing import FRAME_BYTES, Assembler, to_frames
from corral_kernel.options import RequestOptions

decode_to_worker = msgspec.msgpack.Decoder(frames.ToWorker).decode

LONG = bytes(range(256)) * (3 * FRAME_BYTES // 256) + b"end"


def frame(kind: int, body: bytes) -> bytes:
    return struct.pack("<IB", len(body) + 1, kind) + body


@pytest.mark.parametrize(
    "size",
    [0, 1, FRAME_BYTES - 6, FRAME_BYTES - 5, FRAME_BYTES - 1, FRAME_BYTES, 3 * FRAME_BYTES],
)
def test_a_message_of_any_size_comes_back_in_frames_within_the_bound(size: int) -> None:
    message = random.Random(size).randbytes(size)
    pieces = list(to_frames(message, stream=7))
    assert all(len(piece) <= FRAME_BYTES + 4 for piece in pieces)
    assert list(Assembler().feed(b"".join(pieces))) == [message]


@pytest.mark.parametrize("step", [1, 3, 1000, 1 << 18])
def test_messages_come_back_however_the_reads_are_cut(step: int) -> None:
    length = FRAME_BYTES + 9 if step >= 1000 else 5000
    messages = [b"", b"a", bytes(length), b"z" * 300]
    data = b"".join(f for n, m in enumerate(messages) for f in to_frames(m, n))
    assembler = Assembler()
    got = [m for at in range(0, len(data), step) for m in assembler.feed(data[at : at + step])]
    assert got == messages


def test_pieces_of_several_messages_may_be_interleaved_and_short_ones_pass() -> None:
    first, second = list(to_frames(LONG, 1)), list(to_frames(LONG[::-1], 2))
    (short,) = to_frames(b"cancel", 3)
    assembler = Assembler()
    mixed = [f for pair in zip(first[:-1], second[:-1], strict=True) for f in pair]
    assert list(assembler.feed(b"".join(mixed))) == []
    assert list(assembler.feed(short)) == [b"cancel"]
    assert list(assembler.feed(second[-1] + first[-1])) == [LONG[::-1], LONG]


def test_stream_numbers_begin_anew_when_they_run_out() -> None:
    pieces = list(to_frames(LONG, (1 << 32) + 5))
    assert list(Assembler().feed(b"".join(pieces))) == [LONG]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<IB", 0, 0),
        struct.pack("<IB", FRAME_BYTES + 1, 0),
        struct.pack("<IB", 0xFFFFFFFF, 0),
        frame(3, b"x"),
        frame(1, b"abc"),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=[
        "no length",
        "over the bound",
        "far over",
        "unknown kind",
        "no stream",
        "another protocol",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(Assembler().feed(data))


def test_a_message_before_garbage_comes_once() -> None:
    assembler, got = Assembler(), []
    with pytest.raises(FrameError):
        got.extend(assembler.feed(frame(0, b"good") + frame(9, b"bad")))
    with pytest.raises(FrameError):
        got.extend(assembler.feed(b""))
    assert got == [b"good"]


def test_messages_under_way_are_bounded_in_bytes() -> None:
    assembler = Assembler(limit_bytes=1000)
    piece = struct.pack("<I", 1) + bytes(600)
    assert list(assembler.feed(frame(1, piece))) == []
    with pytest.raises(FrameError, match="over 1000 bytes"):
        list(assembler.feed(frame(1, piece)))


def test_messages_under_way_are_bounded_in_number() -> None:
    data = b"".join(frame(1, struct.pack("<I", n)) for n in range(framing.STREAMS + 1))
    with pytest.raises(FrameError, match="under way"):
        list(Assembler().feed(data))


def test_a_message_that_is_too_long_is_refused_before_it_is_cut() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return framing.MESSAGE_BYTES + 1

    with pytest.raises(FrameError, match="over the"):
        next(to_frames(Huge(), 1))


@pytest.mark.parametrize(
    ("message", "decode"),
    [
        (
            frames.Generate(
                job_id=3,
                prompt=frames.PromptSpec(text="hi"),
                options=RequestOptions(stop=("a",)),
                format=b'"json"',
            ),
            decode_to_worker,
        ),
        (frames.Encode(job_id=1, texts=("a", "")), decode_to_worker),
        (frames.Cancel(job_id=1), decode_to_worker),
        (
            frames.Step(
                events=(
                    frames.Text(job_id=1, content="é", logprobs=()),
                    frames.Vectors(job_id=2, count=1, data=b"\0\0\x80?"),
                    frames.Done(job_id=1, reason="stop"),
                )
            ),
            frames.decode_from_worker,
        ),
        (frames.LoadFailed(code="x", message="y"), frames.decode_from_worker),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, frames.Frame) else "",
)
def test_messages_come_back_as_they_were(message: frames.Frame, decode: object) -> None:
    assert decode(frames.encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [{"op": "nothing"}, {"op": "cancel"}, {"op": "cancel", "job_id": 1, "more": 2}, [], 7],
    ids=["unknown", "field missing", "field unknown", "list", "number"],
)
def test_what_is_no_message_is_refused(data: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_to_worker(msgspec.msgpack.encode(data))
