"""How what a sampler, constraint or parser raises becomes its request's error."""

from typing import ClassVar

from corral_kernel.errors import (
    ConstraintFailedError,
    CorralError,
    ParserFailedError,
    SamplerFailedError,
)


class OverrunError(BaseException):
    """Raised in code that takes too long, from outside. No `Exception`: nothing swallows it."""

    limit_s: ClassVar[float] = 0.0

    def __str__(self) -> str:
        return f"it took over {self.limit_s:g} s (CORRAL_SAMPLER_TIMEOUT)"


ANYTHING = (Exception, OverrunError)
"""What a stranger's code may raise, and the worker outlives."""


def sampler_failed(name: str, error: BaseException) -> CorralError:
    """Make the error of a request whose sampler raised."""
    return SamplerFailedError(name, _words(error))


def constraint_failed(name: str, error: BaseException) -> CorralError:
    """Make the error of a request whose constraint raised; an error of the kernel's own stays."""
    return error if isinstance(error, CorralError) else ConstraintFailedError(name, _words(error))


def parser_failed(name: str, error: BaseException) -> CorralError:
    """Make the error of a request whose parser raised; an error of the kernel's own stays."""
    return error if isinstance(error, CorralError) else ParserFailedError(name, _words(error))


def _words(error: BaseException) -> str:
    if isinstance(error, OverrunError | CorralError):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
