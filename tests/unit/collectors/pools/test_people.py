"""Who has the connections, who waits, and who has had one for too long."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from loopwatch._collectors.pools.overdue import EVERY
from loopwatch._collectors.pools.people import Held, borrowers, still_held
from loopwatch._context.reader import ContextReader

from .conftest import TOO_LONG, Desk, Reader, run

MANY = 3_000
"""More than the tuples that Python keeps at hand, which it makes without the collector's notice."""


async def borrow_and_end(pool: Any) -> None:
    await pool.acquire()


async def borrow(pool: Any) -> None:
    await pool.acquire()
    await asyncio.Event().wait()


def test_a_borrower_that_ended_is_gone_and_named(library: Any, desk: Desk) -> None:
    async def main() -> None:
        pool = library.Pool(2, name="x")
        await asyncio.create_task(borrow_and_end(pool), name="short")
        task = asyncio.create_task(borrow(pool), name="long")
        await asyncio.sleep(0)
        borrowers = desk.one().borrowers or ()
        told = {(one.gone, one.coroutine, one.waiting_on) for one in borrowers}
        assert told == {(True, "borrow_and_end", None), (False, "borrow", "Event.wait")}
        gone = next(one for one in borrowers if one.gone)
        assert gone.site is not None
        assert (gone.site.function, gone.await_stack) == ("borrow_and_end", ())
        task.cancel()

    run(main())


def test_who_gives_back_and_ends_meanwhile_took_nothing_along(library: Any, desk: Desk) -> None:
    """The library has said that it is in use; by the time the task is looked at, that has ended."""

    async def main() -> None:
        pool = library.Pool(2, name="x")
        leave = asyncio.Event()

        async def borrows() -> None:
            connection = await pool.acquire()
            await leave.wait()
            pool.release(connection)

        task = asyncio.create_task(borrows())
        await asyncio.sleep(0)
        [watched] = desk.pools.live()
        in_use = list(pool.used)
        leave.set()
        await task

        def before() -> list[Any]:
            return in_use

        (_, record, since), *_ = watched.held.values()
        held = {1: Held(record, since, gone=False, overdue=False)}  # as it was when the library was asked
        assert borrowers(held.values(), desk.fake.monotonic(), ContextReader(desk.journal)) == ()
        found = still_held(watched, before, desk.fake.monotonic())
        assert found is not None
        assert [one.gone for one in found.values()] == [True]  # it had ended before the library was asked

    run(main())


def test_somebody_may_acquire_while_they_are_copied(library: Any, desk: Desk) -> None:
    """Up to Python 3.11 the collector may run within a C call that makes tuples, and then another thread."""
    pool = library.Pool(MANY, name="x")

    async def main() -> None:
        for _ in range(MANY):
            await pool.acquire()

    def acquire(phase: str, info: dict[str, int]) -> None:
        watched.held[-len(watched.held)] = (watched, None, desk.fake.monotonic())

    run(main())
    [watched] = desk.pools.live()
    usual = gc.get_threshold()
    gc.callbacks.append(acquire)
    gc.set_threshold(1)
    try:
        found = still_held(watched, lambda: list(pool.used), desk.fake.monotonic())
    finally:
        gc.set_threshold(*usual)
        gc.callbacks.remove(acquire)
    assert found is not None
    assert len(found) == MANY


def test_what_was_given_back_is_forgotten(library: Any, desk: Desk) -> None:
    async def main() -> None:
        pool = library.Pool(2, name="x")
        for _ in range(100):
            pool.release(await pool.acquire())
        desk.fake.advance(EVERY)
        desk.overdue.look()
        [watched] = desk.pools.live()
        assert watched.held == {}

    run(main())


def test_a_snapshot_names_them_where_somebody_waits(library: Any, desk: Desk) -> None:
    async def main() -> None:
        quiet, full = library.Pool(2, name="quiet"), library.Pool(1, name="full")
        await quiet.acquire()
        await full.acquire()
        waiting = asyncio.create_task(full.acquire(), name="patient")
        await asyncio.sleep(0)
        found = {pool.label: pool for pool in desk.census.records(all_people=False)}
        assert (found["quiet"].borrowers, found["quiet"].waiters) == (None, None)
        assert len(found["full"].borrowers or ()) == 1
        assert [waiter.task_name for waiter in found["full"].waiters or ()] == ["patient"]
        waiting.cancel()

    run(main())


def test_what_is_held_for_too_long_is_told_once(
    library: Any, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        pool = library.Pool(3, name="x")
        task = asyncio.create_task(borrow(pool), name="long")
        await asyncio.create_task(borrow_and_end(pool))
        desk.overdue.look()
        desk.fake.advance(TOO_LONG - 1)
        desk.overdue.look()
        assert caplog.records == []
        desk.fake.advance(EVERY)
        for _ in range(3):
            desk.overdue.look()
            desk.fake.advance(EVERY)
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert "the fake pool x has been held for 64 s by task 'long' (borrow), created by" in lines[0]
        assert "waiting for Event.wait" in lines[0]
        assert "was acquired 64 s ago by task borrow_and_end, created by" in lines[1]
        assert "holder gone" in lines[1]
        caplog.clear()
        await pool.acquire()
        desk.fake.advance(TOO_LONG)
        desk.overdue.look()
        assert len(caplog.records) == 1  # a new one
        task.cancel()

    run(main())


def test_what_is_overdue_is_shown_though_nobody_waits(library: Any, desk: Desk) -> None:
    async def main() -> None:
        pool = library.Pool(3, name="x")
        task = asyncio.create_task(borrow(pool))
        await asyncio.sleep(0)
        desk.fake.advance(TOO_LONG - 1)
        connection = await pool.acquire()
        desk.overdue.look()
        assert desk.census.records(all_people=False)[0].borrowers is None
        desk.fake.advance(EVERY)
        desk.overdue.look()
        [found] = desk.census.records(all_people=False)
        assert [(one.coroutine, one.overdue) for one in found.borrowers or ()] == [
            ("borrow", True),
            ("test_what_is_overdue_is_shown_though_nobody_waits.<locals>.main", False),
        ]
        pool.release(connection)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        pool.release(pool.used[0])
        desk.fake.advance(EVERY)
        desk.overdue.look()
        assert desk.census.records(all_people=False)[0].borrowers is None

    run(main())


def test_a_threshold_of_none_tells_nothing_and_forgets(
    library: Any, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        overdue = desk.make_overdue(None)
        pool = library.Pool(2, name="x")
        await pool.acquire()
        pool.release(await pool.acquire())
        desk.fake.advance(1_000_000)
        overdue.look()
        [watched] = desk.pools.live()
        assert len(watched.held) == 1

    run(main())
    assert caplog.records == []


def test_a_short_threshold_is_looked_at_as_often(
    library: Any, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        overdue = desk.make_overdue(2.0)
        overdue.look()
        pool = library.Pool(2, name="x")
        await pool.acquire()
        desk.fake.advance(1.9)
        overdue.look()
        assert caplog.records == []
        desk.fake.advance(0.2)
        overdue.look()
        assert "has been held for 2 s" in caplog.text

    run(main())


def test_what_is_meant_to_be_held_is_not_told(
    library: Any, make_desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture
) -> None:
    class Lasting(Reader):
        def lasting(self, anchor: Any) -> list[object]:
            return [one for one in anchor.used if hasattr(one, "listens")]

    desk = make_desk(Lasting())
    desk.hub.install()

    async def main() -> None:
        pool = library.Pool(2, name="x")
        listening, plain = await pool.acquire(), await pool.acquire()
        listening.listens = True
        desk.fake.advance(TOO_LONG)
        desk.overdue.look()
        assert len(caplog.records) == 1
        plain.listens = True
        del listening.listens
        desk.fake.advance(EVERY)
        desk.overdue.look()
        assert len(caplog.records) == 2

    run(main())


def test_nobody_is_kept_alive(library: Any, desk: Desk) -> None:
    pool = library.Pool(2, name="x")
    connection = run(pool.acquire())
    kept = [weakref.ref(pool), weakref.ref(connection)]
    desk.one()
    desk.overdue.look()
    del pool, connection
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
