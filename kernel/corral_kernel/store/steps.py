"""What creating a model gives on its way: progress, and work for a process of its own.

Creating is a generator whose steps run in threads. Where a converter or quantizer is to work, it
gives a `NeedsTask`, and is sent the files that were made: `tasks.creating` sees to that.
"""

from collections.abc import Generator
from typing import TypeVar

import msgspec

from corral_kernel.contracts import MadeFile
from corral_kernel.tasks.messages import AnyTask

T = TypeVar("T")


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of long work; byte counts where there is something to count."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class NeedsTask(msgspec.Struct, frozen=True):
    """Work for a task process.

    Args:
        task: To be done.
        doing: That in words: `converting m:latest`.
        shown: What the client is told meanwhile; `total` are the bytes that it is told of.
    """

    task: AnyTask
    doing: str
    shown: Progress

    def progress(self, completed: int, total: int) -> Progress:
        """Give what to tell when so much of the work is done."""
        whole = self.shown.total
        done = min(whole, whole * completed // total) if total > 0 else 0
        return msgspec.structs.replace(self.shown, completed=done)


Steps = Generator[Progress | NeedsTask, tuple[MadeFile, ...] | None, T]
