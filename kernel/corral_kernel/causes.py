"""What went wrong with another server, for plugins that ask one."""

import email.utils
import re
import time
from collections.abc import Iterator


def causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what it came from, the nearest first, groups opened, each once."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        cause = todo.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo.extend(c for c in (cause.__cause__, cause.__context__) if c is not None)
        if isinstance(cause, BaseExceptionGroup):
            todo.extend(cause.exceptions)


def retry_after(text: str) -> float | None:
    """Read a Retry-After header: seconds from now, by a number or a date; None: neither."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
