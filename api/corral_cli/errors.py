"""What a command can fail with; `main` prints the message behind `Error: ` and exits with 1."""

from corral_kernel.errors import CorralError


class UsageError(CorralError):
    """A command line that means nothing."""

    code = "usage"


class CommandError(CorralError):
    """Something that stands in the way of a command on this side of the wire."""

    code = "command"


class UnreachableError(CorralError):
    """No server answers, and none can be started from here."""

    code = "unreachable"

    def __init__(self, detail: str = "") -> None:
        super().__init__(
            detail or "could not connect to corral server, run 'corral serve' to start it"
        )


class ServerError(CorralError):
    """An error that the server reported; `status` is 0 for one inside a stream."""

    code = "server"

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message or "something went wrong, the server's log tells more")
        self.status = status


class BrokenAnswerError(CorralError):
    """An answer that stops in the middle, or that is none."""

    code = "broken_answer"
