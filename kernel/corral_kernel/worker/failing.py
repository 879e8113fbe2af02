"""What is told of a job by what was raised on its behalf."""

import logging

from corral_kernel.errors import CorralError, EngineError
from corral_kernel.frames import Failed

logger = logging.getLogger(__name__)


def failure(job_id: int, error: BaseException) -> Failed:
    """Make the end of a job; its author's traceback goes to the log."""
    if isinstance(error, CorralError):
        if error.__cause__ is not None:  # of a plugin, whose author wants to know where
            logger.warning("job %d failed", job_id, exc_info=error)
        return failed(job_id, error.code, str(error))
    logger.error("job %d failed", job_id, exc_info=error)
    return failed(job_id, EngineError.code, f"{type(error).__name__}: {error}")


def failed(job_id: int, code: str, message: str) -> Failed:
    """Make the end of a job, of any text: what is no Unicode in it has no way into a frame."""
    message = message.encode("utf-8", "replace").decode("utf-8")
    return Failed(job_id=job_id, code=code, message=message)
