"""The same work on many things at once, in a few threads that nobody has to wait for."""

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS: Final = 4
_ENDING_S: Final = 2.0


def in_threads(work: Callable[[T], R], items: Iterable[T], stop: threading.Event) -> dict[T, R]:
    """Do some work on each item, a few at a time.

    The first failure, or an interruption, ends it: `stop` is set, which the work is to look at, and
    what does not end soon then is left behind as a daemon.

    Args:
        work: What to do; its exceptions are raised here.
        items: What to do it on.
        stop: Set when the work is to be given up.

    Returns:
        The results by item.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[T, R] | BaseException] = queue.SimpleQueue()
    count = 0
    for item in items:
        waiting.put(item)
        count += 1

    def run() -> None:
        while not stop.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((item, work(item)))
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                ended.put(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(count, MOST_THREADS))]
    for thread in threads:
        thread.start()
    results: dict[T, R] = {}
    try:
        while len(results) < count:
            found = ended.get()
            if isinstance(found, BaseException):
                raise found
            results[found[0]] = found[1]
    finally:
        stop.set()
        for thread in threads:
            thread.join(_ENDING_S)
    return results
