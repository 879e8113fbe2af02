"""What the server tells a new worker on its command line."""

import msgspec

from corral_kernel.worker.outbox import INTERVAL_S


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """Everything before the first frame.

    Args:
        descriptor: Of the channel's socket.
        parent: Process id of the server.
        only: Plugins to load; None: all.
        disabled: Plugins to leave out.
        debug: Log more.
        text_deadline_s: What rendering, tokenizing and compiling may take for one request.
        sampler_timeout_s: What a request's samplers and constraint may take in one step.
        interval_s: Between two frames of text.
    """

    descriptor: int
    parent: int
    only: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    debug: bool = False
    text_deadline_s: float = 20.0
    sampler_timeout_s: float = 1.0
    interval_s: float = INTERVAL_S
