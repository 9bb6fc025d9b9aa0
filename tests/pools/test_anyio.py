"""anyio's ``CapacityLimiter``: the default one of each loop, and those of the program."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

from .experiment import pool_of, read_under_churn

anyio = pytest.importorskip("anyio", reason="needs: anyio")
to_thread = pytest.importorskip("anyio.to_thread", reason="needs: anyio")

KIND = "anyio"
THREADS = 40


class Work:
    """What runs in the threads, until it is told to end."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.end = threading.Event()

    def __call__(self) -> None:
        self.started.release()
        assert self.end.wait(30)


async def all_busy(work: Work, count: int) -> None:
    for _ in range(count):
        while not work.started.acquire(blocking=False):
            await asyncio.sleep(0)


def test_sixty_calls_for_forty_threads(agent: Agent) -> None:
    async def main() -> None:
        work = Work()
        tasks = [asyncio.create_task(to_thread.run_sync(work), name=f"call-{n}") for n in range(60)]
        await all_busy(work, THREADS)
        full = await pool_of(agent, KIND, "default")
        assert (full.max, full.used, full.idle, full.pending) == (THREADS, THREADS, 0, 20)
        assert full.waiters is not None
        assert {one.task_name for one in full.waiters} == {f"call-{n}" for n in range(40, 60)}
        assert full.borrowers is not None
        assert {one.task_name for one in full.borrowers} <= {f"call-{n}" for n in range(40)}
        work.end.set()
        await asyncio.gather(*tasks)
        done = await pool_of(agent, KIND, "default")
        assert (done.used, done.pending, done.wait_count, done.created) == (0, 0, 60, 1)

    asyncio.run(main())


def test_the_default_limiters_of_two_loops_are_added_up(agent: Agent) -> None:
    work = Work()

    async def one() -> None:
        await asyncio.gather(*(to_thread.run_sync(work) for _ in range(2)))

    async def main() -> None:
        await all_busy(work, 4)
        both = await pool_of(agent, KIND, "default")
        assert (both.max, both.used, both.instances, both.created) == (2 * THREADS, 4, 2, 2)
        work.end.set()

    threads = [threading.Thread(target=asyncio.run, args=(one(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        asyncio.run(main())
    finally:
        work.end.set()
        for thread in threads:
            thread.join()


def test_the_default_limiter_from_before_is_found_though_nobody_uses_it() -> None:
    async def main() -> None:
        await to_thread.run_sync(int)
        agent = loopwatch.install(prometheus_port=None)
        try:
            found = await pool_of(agent, KIND, "default")
            assert (found.max, found.used, found.wait_count, found.created) == (THREADS, 0, 0, 1)
            await to_thread.run_sync(int)
            assert (await pool_of(agent, KIND, "default")).wait_count == 1
        finally:
            loopwatch.uninstall()

    asyncio.run(main())


def test_a_limiter_of_the_program_is_known_by_its_line(agent: Agent) -> None:
    async def main() -> None:
        line = sys._getframe().f_lineno + 1
        limiter = anyio.CapacityLimiter(3)
        limiter.total_tokens = 7
        async with limiter:
            assert (await pool_of(agent, KIND, f"{__name__}:{line}")).max == 7
        limiter.total_tokens = float("inf")
        limiter.acquire_nowait()
        free = await pool_of(agent, KIND, f"{__name__}:{line}")
        assert (free.max, free.used, free.idle, free.wait_count) == (None, 1, None, 1)

    asyncio.run(main())


def test_a_limiter_made_outside_of_a_loop_is_made_in_earnest_when_it_is_used(agent: Agent) -> None:
    synchronization = pytest.importorskip("anyio._core._synchronization", reason="needs: anyio")
    if not hasattr(synchronization, "CapacityLimiterAdapter"):
        with pytest.raises(Exception, match="async"):
            anyio.CapacityLimiter(5)
        return
    early = anyio.CapacityLimiter(5)

    async def main() -> None:
        line = sys._getframe().f_lineno + 1
        await to_thread.run_sync(int, limiter=early)
        assert (await pool_of(agent, KIND, f"{__name__}:{line}")).max == 5

    asyncio.run(main())


def test_a_subclass_is_counted_once(agent: Agent) -> None:
    async def main() -> None:
        base: Any = type(anyio.CapacityLimiter(1))

        class Limiter(base):  # type: ignore[misc]
            async def acquire_on_behalf_of(self, borrower: object) -> None:
                await super().acquire_on_behalf_of(borrower)

        line = sys._getframe().f_lineno + 1
        async with Limiter(1):
            found = await pool_of(agent, KIND, f"{__name__}:{line}")
            assert (found.max, found.used, found.wait_count) == (1, 1, 1)

    asyncio.run(main())


def test_a_refusal_is_the_callers_own(agent: Agent) -> None:
    async def main() -> None:
        limiter = anyio.CapacityLimiter(2)
        async with limiter:
            with pytest.raises(RuntimeError, match="already holding") as refused:
                await limiter.acquire()
        files = [str(entry.path) for entry in refused.traceback]
        assert not [file for file in files if "_collectors" in file]

    asyncio.run(main())


def test_reading_does_not_trip_over_what_goes_on(agent: Agent) -> None:
    async def main() -> None:
        limiter = anyio.CapacityLimiter(2)

        async def use() -> None:
            async with limiter:
                await asyncio.sleep(0)

        await read_under_churn(agent, KIND, use)

    asyncio.run(main())
