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


class NoServerError(UnreachableError):
    """No server runs on this machine, and this command starts none."""

    def __init__(self) -> None:
        super().__init__(
            "could not connect to corral server, run 'corral serve' to start it "
            "('corral run MODEL' starts one in the background)"
        )


class ServerError(CorralError):
    """An error that the server reported; `status` is 0 for one inside a stream."""

    code = "server"

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class BrokenAnswerError(CorralError):
    """An answer that stops in the middle, or that is none."""

    code = "broken_answer"
