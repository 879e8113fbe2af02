"""Load options of the backend `echo`: faults, for tests of whoever runs it."""

from typing import Annotated

from msgspec import Meta

from corral_repeat.options import RepeatOptions

Count = Annotated[int, Meta(ge=0)]


class EchoOptions(RepeatOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be made to go wrong. Zero, empty or false: it does not.

    A number of a step counts calls of `forward` from 1, over all jobs of the worker.
    """

    echo_memory_bytes: Annotated[Count, Meta(description="memory that it claims to need")] = 0

    echo_load_ms: Annotated[Count, Meta(description="loading takes this long")] = 0
    echo_load_silent: Annotated[bool, Meta(description="loading reports no progress")] = False
    echo_load_fails: Annotated[bool, Meta(description="loading fails")] = False
    echo_load_dies: Annotated[bool, Meta(description="the worker kills itself in loading")] = False

    echo_step_ms: Annotated[Count, Meta(description="each step takes this much longer")] = 0
    echo_hang_at: Annotated[Count, Meta(description="this step never ends")] = 0
    echo_fail_at: Annotated[Count, Meta(description="this step raises")] = 0
    echo_die_at: Annotated[Count, Meta(description="the worker kills itself in this step")] = 0
    echo_die_prompt: Annotated[
        str, Meta(description="echo_die_at counts only steps that feed a prompt with this text")
    ] = ""
    echo_error_prompt: Annotated[
        str, Meta(description="a job whose prompt holds this text fails, the others go on")
    ] = ""
    echo_flood_bytes: Annotated[
        Count, Meta(description="the first step writes this much to standard output and error each")
    ] = 0
    echo_leak_bytes: Annotated[Count, Meta(description="each step keeps this much memory")] = 0
    echo_ignore_signals: Annotated[
        bool, Meta(description="SIGTERM, SIGINT and SIGHUP do nothing to the worker")
    ] = False
