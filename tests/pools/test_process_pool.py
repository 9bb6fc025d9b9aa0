"""``ProcessPoolExecutor``: what its processes work at, and what waits for one of them."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, Listener
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Pool
from tests.machine import cpu_waited

from .experiment import collect_pools

KIND = "process_pool"
TIMEOUT = 120

# The processes import nothing of ours: they are given builtins to call.
CALL = "__import__('multiprocessing.connection').connection.Client({!r}).recv()"


@pytest.fixture(autouse=True)
def no_others() -> None:
    gc.collect()


class Calls:
    """What is submitted: each says that it runs, and ends when it is told to."""

    def __init__(self) -> None:
        self._listener = Listener(family="AF_UNIX")
        self.code = CALL.format(self._listener.address)
        self._running: list[Connection] = []

    def until_running(self, count: int) -> None:
        for _ in range(count):
            self._running.append(self._listener.accept())

    def let_go(self, count: int) -> None:
        for _ in range(count):
            with self._running.pop(0) as call:
                call.send(None)

    def close(self) -> None:
        for call in self._running:
            call.close()
        self._listener.close()


@pytest.fixture
def calls() -> Iterator[Calls]:
    found = Calls()
    yield found
    found.close()


def executor_of(workers: int) -> ProcessPoolExecutor:
    # Not a fork: there are threads here. And with all processes started, which takes its time.
    executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    calls = Calls()
    started = [executor.submit(eval, calls.code) for _ in range(workers)]
    calls.until_running(workers)
    calls.let_go(workers)
    calls.close()
    for future in started:
        future.result(TIMEOUT)
    return executor


def pool_of(agent: Agent) -> Pool:
    [found] = [pool for pool in agent.pools() if pool.kind == KIND]
    return found


def booked_pool_of(agent: Agent) -> Pool:
    """Return it once the executor's thread has booked what its processes took: it does so right after."""
    until = time.monotonic() + TIMEOUT
    while len((pool := pool_of(agent)).borrowers or ()) != pool.used and time.monotonic() < until:
        pass
    return pool


def test_ten_calls_for_two_processes(agent: Agent, calls: Calls) -> None:
    clock = agent._engine._clock.monotonic
    line = executor_of.__code__.co_firstlineno + 2
    with executor_of(2) as executor:
        before = pool_of(agent)
        assert (before.max, before.used, before.idle, before.pending) == (2, 0, 2, 0)
        assert (before.wait_count, before.instances, before.created) == (2, 1, 1)
        assert before.label == f"{__name__}:{line}"
        busy, asked = cpu_waited(), clock()
        futures = [executor.submit(eval, calls.code) for _ in range(10)]
        all_asked = clock()
        calls.until_running(2)
        least, most = 0.0, 2 * (clock() - asked)
        full = booked_pool_of(agent)
        assert (full.max, full.used, full.idle, full.pending) == (2, 2, 0, 8)
        assert (len(full.borrowers or ()), len(full.waiters or ())) == (2, 8)
        never = multiprocessing.get_context("spawn").Event()
        for turn in range(8):
            if turn % 2 == 0:
                never.wait(0.1)  # under test: for this long each keeps its process
            least += clock() - all_asked  # the next one waits still
            calls.let_go(1)
            calls.until_running(1)
            most += clock() - asked  # it runs, which the executor's thread may yet have to see
        calls.let_go(2)
        for future in futures:
            future.result(TIMEOUT)
        done = pool_of(agent)
        assert (done.used, done.idle, done.pending, done.wait_count) == (0, 2, 0, 12)
        assert done.wait_sum is not None
        assert before.wait_sum is not None
        assert least > 1.9
        assert least < done.wait_sum - before.wait_sum < 1.1 * most + 10 * (cpu_waited() - busy)


def test_it_is_known_which_task_waits(agent: Agent, calls: Calls) -> None:
    async def main(executor: ProcessPoolExecutor) -> None:
        loop = asyncio.get_running_loop()

        async def call() -> None:
            await loop.run_in_executor(executor, eval, calls.code)

        tasks = [asyncio.create_task(call(), name=f"caller-{number}") for number in range(3)]
        await asyncio.sleep(0)
        calls.until_running(1)
        pool = booked_pool_of(agent)
        assert [one.task_name for one in pool.borrowers or ()] == ["caller-0"]
        assert [one.task_name for one in pool.waiters or ()] == ["caller-1", "caller-2"]
        for _ in range(2):
            calls.let_go(1)
            calls.until_running(1)
        calls.let_go(1)
        await asyncio.gather(*tasks)

    with executor_of(1) as executor:
        asyncio.run(main(executor))


def test_those_that_are_cancelled_are_counted(agent: Agent, calls: Calls) -> None:
    with executor_of(1) as executor:
        first = executor.submit(eval, calls.code)
        calls.until_running(1)
        futures = [executor.submit(int) for _ in range(50)]
        assert all(future.cancel() for future in futures[5:45])
        assert pool_of(agent).pending == 10
        calls.let_go(1)
        first.result(TIMEOUT)
        for future in (*futures[:5], *futures[45:]):
            assert future.result(TIMEOUT) == 0
        pool = pool_of(agent)
        assert (pool.cancelled, pool.timeouts, pool.rejected) == (40, 0, 0)
        assert (pool.used, pool.pending, pool.wait_count) == (0, 0, 1 + 51)


def test_those_that_a_shutdown_cancels_are_counted(agent: Agent, calls: Calls) -> None:
    executor = executor_of(1)
    first = executor.submit(eval, calls.code)
    calls.until_running(1)
    futures = [executor.submit(int) for _ in range(9)]
    manager: Any = executor._executor_manager_thread
    executor.shutdown(wait=False, cancel_futures=True)
    calls.let_go(1)
    first.result(TIMEOUT)
    manager.join(TIMEOUT)
    cancelled = sum(future.cancelled() for future in futures)
    assert cancelled >= 9 - 3  # what is in the queue of the processes cannot be cancelled
    pool = pool_of(agent)
    assert (pool.cancelled, pool.used, pool.pending) == (cancelled, 0, 0)
    assert pool.wait_count == 1 + 10


def test_those_that_no_process_is_left_for_have_waited_too(agent: Agent, calls: Calls) -> None:
    executor = executor_of(1)
    futures = [executor.submit(eval, calls.code) for _ in range(5)]
    calls.until_running(1)
    for process in list(executor._processes.values()):
        process.kill()
    for future in futures:
        with pytest.raises(BrokenProcessPool):
            future.result(TIMEOUT)
    assert (pool_of(agent).used, pool_of(agent).idle) == (0, 0)  # its processes have ended
    executor.shutdown()
    pool = pool_of(agent)
    assert (pool.wait_count, pool.cancelled, pool.used, pool.pending) == (1 + 5, 0, 0, 0)


def test_executors_from_before_are_found_by_their_threads(calls: Calls) -> None:
    with executor_of(1) as executor:
        futures = [executor.submit(eval, calls.code) for _ in range(3)]
        calls.until_running(1)
        agent = loopwatch.install(prometheus_port=None)
        try:
            found = pool_of(agent)
            assert (found.max, found.used, found.pending, found.wait_count) == (1, 1, 2, 0)
            for _ in range(2):
                calls.let_go(1)
                calls.until_running(1)
            calls.let_go(1)
            for future in futures:
                future.result(TIMEOUT)
            assert executor.submit(int).result(TIMEOUT) == 0
            assert pool_of(agent).wait_count == 1  # of those submitted since
        finally:
            loopwatch.uninstall()


def test_an_executor_for_each_request_makes_one_series(agent: Agent) -> None:
    for number in range(1, 4):
        with executor_of(1):
            pass
        collect_pools(agent, KIND)
        pool = pool_of(agent)
        assert (pool.instances, pool.created, pool.wait_count, pool.used) == (0, number, number, 0)


def test_a_subclass_is_counted_once(agent: Agent) -> None:
    class Executor(ProcessPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            return super().submit(*args, **kwargs)

    line = sys._getframe().f_lineno + 1
    with Executor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert executor.submit(int, "3").result(TIMEOUT) == 3
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(TIMEOUT)
        pool = pool_of(agent)
        assert (pool.label, pool.created, pool.wait_count) == (f"{__name__}:{line}", 1, 2)
