"""Who waits for locks and their like, on each kind of loop, read from another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from loopwatch._agent_records import Waiting
from loopwatch._collectors.waits import SHOWN, waits
from loopwatch._journal import Journal
from loopwatch._store.unread import Unread


class Desk:
    """Starts tasks and asks who waits."""

    def __init__(self, loop_thread: Any) -> None:
        self._thread = loop_thread
        self._kept: list[Any] = []

    def start(self, function: Any, *args: Any, times: int = 1) -> None:
        def start() -> None:
            for number in range(times):
                name = f"{function.__name__}-{number}"
                self._kept.append(self._thread.loop.create_task(function(*args), name=name))

        self._thread.call(start)

    def waits(self) -> list[Waiting]:
        return list(waits((task for task in self._kept if not task.done()), Unread(Journal())))

    def end(self) -> None:
        def cancel() -> None:
            for task in self._kept:
                task.cancel()

        self._thread.call(cancel)
        self._kept.clear()


@pytest.fixture
def desk(loop_thread: Any) -> Iterator[Desk]:
    desk = Desk(loop_thread)
    yield desk
    desk.end()


async def within(lock: Any) -> None:
    async with lock:
        await asyncio.sleep(60)


async def acquire(lock: Any) -> None:
    await lock.acquire()
    await asyncio.sleep(60)


async def get(queue: Any) -> None:
    await queue.get()


async def put(queue: Any) -> None:
    while True:
        await queue.put(1)


async def wait(event: Any) -> None:
    await event.wait()


async def wait_for_one_of_its_own() -> None:
    await asyncio.Event().wait()


async def notified(condition: Any) -> None:
    async with condition:
        await condition.wait()


def brief(found: list[Waiting]) -> list[tuple[str, str, int, int]]:
    return [(one.primitive, one.site.function, one.count, one.objects) for one in found]


@pytest.mark.parametrize(("make", "inside"), [(asyncio.Lock, 1), (lambda: asyncio.Semaphore(3), 3)])
def test_owners_are_those_inside_of_the_block(desk: Desk, make: Any, inside: int) -> None:
    lock = make()
    desk.start(within, lock, times=inside + 20)
    [found] = desk.waits()
    assert found.primitive == f"{type(lock).__name__}.acquire"
    assert (found.site.function, found.count, found.objects) == ("within", 20, 1)
    assert found.owners == tuple(f"task 'within-{number}' (within)" for number in range(inside))
    assert len(found.tasks) == SHOWN
    assert found.tasks[0] == f"task 'within-{inside}' (within)"


def test_an_owner_that_took_the_lock_without_a_block_is_not_known(desk: Desk) -> None:
    desk.start(acquire, asyncio.Lock(), times=3)
    [found] = desk.waits()
    assert (found.count, found.owners) == (2, ())


def test_a_lock_of_anyio_says_who_owns_it(desk: Desk) -> None:
    desk.start(acquire, anyio.Lock(), times=3)
    [found] = desk.waits()
    assert (found.primitive, found.count, found.owners) == (
        "Lock.acquire",
        2,
        ("task 'acquire-0' (acquire)",),
    )


def test_they_are_grouped_by_what_they_called_and_where(desk: Desk) -> None:
    queue, full, event = asyncio.Queue[int](), asyncio.Queue[int](1), asyncio.Event()
    desk.start(wait_for_one_of_its_own, times=9)
    desk.start(get, queue, times=4)
    desk.start(put, full, times=3)
    desk.start(wait, event, times=2)
    desk.start(notified, asyncio.Condition(), times=1)
    desk.start(asyncio.sleep, 60)
    assert brief(desk.waits()) == [
        ("Event.wait", "wait_for_one_of_its_own", 9, 9),
        ("Queue.get", "get", 4, 1),
        ("Queue.put", "put", 3, 1),
        ("Event.wait", "wait", 2, 1),
        ("Condition.wait", "notified", 1, 1),
    ]
    assert all(found.owners == () for found in desk.waits())


def test_nobody_waits_where_nobody_does(desk: Desk) -> None:
    desk.start(asyncio.sleep, 60, times=5)
    assert desk.waits() == []
