"""What the server and a task process tell each other, in the frames of `corral_kernel.frames`."""

import msgspec

from corral_kernel.contracts import FileRef, MadeFile, Source
from corral_kernel.frames import Frame


class Task(Frame, frozen=True, kw_only=True):
    """Work for one converter or quantizer; answered by `Working` frames, then `Made` or `Failed`.

    Args:
        plugin: That gives it.
        maker: Its name.
        source: What is to be worked on, as the offer knew it.
        private: What the offer told.
        files: Of the source.
        folder: Where to put what is made.
    """

    plugin: str
    maker: str
    source: Source
    private: dict[str, str]
    files: tuple[FileRef, ...]
    folder: str


class Convert(Task, frozen=True, kw_only=True, tag="convert"):
    """Have a converter work."""


class Quantize(Task, frozen=True, kw_only=True, tag="quantize"):
    """Have a quantizer work.

    Args:
        type_name: What to make.
        imatrix: Path of an importance matrix; empty: none.
    """

    type_name: str
    imatrix: str = ""


class Working(Frame, frozen=True, kw_only=True, tag="working"):
    """The work goes on: so many bytes of all are done."""

    completed: int
    total: int


class Made(Frame, frozen=True, kw_only=True, tag="made"):
    """The work is done."""

    files: tuple[MadeFile, ...]


class TaskFailed(Frame, frozen=True, kw_only=True, tag="task_failed"):
    """It cannot be done."""

    code: str
    message: str


AnyTask = Convert | Quantize
FromTask = Working | Made | TaskFailed

decode_from_task = msgspec.msgpack.Decoder(FromTask).decode
