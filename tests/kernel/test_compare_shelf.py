"""What a comparison keeps in a file for a while."""

import asyncio
import threading
from typing import Any

import pytest

from corral_kernel.tasks.shelf import Shelf

LIMIT_S = 60.0


async def test_what_was_put_is_given_back_by_its_number() -> None:
    with Shelf() as shelf:
        for data in (b"one", b"", b"three"):
            await shelf.put(data)
        assert [await shelf.get(number) for number in (2, 0, 1)] == [b"three", b"one", b""]


async def test_who_is_cancelled_closes_no_file_that_is_still_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []
    write = Shelf._write

    def slow(self: Shelf, data: bytes) -> None:
        begun.set()
        assert go_on.wait(LIMIT_S)
        write(self, data)
        order.append("written")

    async def keep() -> None:
        with Shelf() as shelf:
            await shelf.put(b"x")

    monkeypatch.setattr(Shelf, "_write", slow)
    task: Any = asyncio.create_task(keep())
    task.add_done_callback(lambda _: order.append("closed"))
    assert await asyncio.to_thread(begun.wait, LIMIT_S)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, LIMIT_S)
    assert order == ["written", "closed"]
