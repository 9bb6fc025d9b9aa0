"""``ThreadPoolExecutor``: those of the program, and the default ones of event loops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, thread
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Pool

from .experiment import collect, collect_pools

KIND = "thread_pool"
TIMEOUT = 120


@pytest.fixture
def agent() -> Iterator[Agent]:
    yield loopwatch.install(prometheus_port=None)
    loopwatch.uninstall()


@pytest.fixture(autouse=True)
def no_others() -> None:
    """Executors of earlier tests are gone, which a reader would find."""
    gc.collect()


class Work:
    """What is submitted: says that it runs, and ends when it is told to."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.end = threading.Semaphore(0)

    def __call__(self) -> None:
        self.started.release()
        assert self.end.acquire(timeout=TIMEOUT)

    def until_running(self, count: int) -> None:
        for _ in range(count):
            assert self.started.acquire(timeout=TIMEOUT)

    def let_go(self, count: int) -> None:
        for _ in range(count):
            self.end.release()


def pool_of(agent: Agent, label: str) -> Pool:
    [found] = [pool for pool in agent.pools() if (pool.kind, pool.label) == (KIND, label)]
    return found


def test_ten_items_for_two_threads(agent: Agent) -> None:
    work = Work()
    with ThreadPoolExecutor(2, thread_name_prefix="reports") as executor:
        futures = [executor.submit(work) for _ in range(10)]
        work.until_running(2)
        full = pool_of(agent, "reports")
        assert (full.max, full.used, full.idle, full.pending) == (2, 2, 0, 8)
        assert (len(full.borrowers or ()), len(full.waiters or ())) == (2, 8)
        assert full.oldest_wait is not None
        assert full.waiters is not None
        assert full.oldest_wait == pytest.approx(full.waiters[0].waited, abs=1.0)
        work.let_go(10)
        for future in futures:
            future.result(TIMEOUT)
        done = pool_of(agent, "reports")
        assert (done.pending, done.wait_count, done.oldest_wait) == (0, 10, 0.0)
        assert (done.instances, done.created) == (1, 1)


def test_the_waits_are_those_of_the_callers_clocks(agent: Agent) -> None:
    clock = agent._engine._clock.monotonic
    waited = []

    def work(asked: float, held: threading.Event) -> None:
        waited.append(clock() - asked)
        held.wait(0.1)  # under test: for this long each keeps its thread

    never = threading.Event()
    with ThreadPoolExecutor(2, thread_name_prefix="reports") as executor:
        for _ in range(10):
            executor.submit(work, clock(), never)
    pool = pool_of(agent, "reports")
    assert (pool.wait_count, len(waited)) == (10, 10)
    assert sum(waited) > 1.0
    assert pool.wait_sum == pytest.approx(sum(waited), rel=0.1)


def test_the_default_executor_says_which_task_it_works_for(agent: Agent) -> None:
    work = Work()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="asyncio"))
        tasks = [asyncio.create_task(asyncio.to_thread(work), name=f"caller-{n}") for n in range(3)]
        await asyncio.sleep(0)  # each has submitted its work by then
        read: asyncio.Future[Pool] = loop.create_future()

        def look() -> None:
            work.until_running(1)
            found = pool_of(agent, "default")
            loop.call_soon_threadsafe(read.set_result, found)

        threading.Thread(target=look).start()
        pool = await read
        assert (pool.max, pool.used, pool.pending) == (1, 1, 2)
        assert [borrower.task_name for borrower in pool.borrowers or ()] == ["caller-0"]
        assert [waiter.task_name for waiter in pool.waiters or ()] == ["caller-1", "caller-2"]
        assert all(waiter.coroutine == "to_thread" for waiter in pool.waiters or ())
        work.let_go(3)
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_executors_from_before_are_found_by_their_threads() -> None:
    work = Work()
    executor = ThreadPoolExecutor(2, thread_name_prefix="early")
    futures = [executor.submit(work) for _ in range(3)]
    work.until_running(2)
    agent = loopwatch.install(prometheus_port=None)
    try:
        found = pool_of(agent, "early")
        assert (found.max, found.used, found.pending, found.wait_count) == (2, 2, 1, 0)
        work.let_go(3)
        for future in futures:
            future.result(TIMEOUT)
        executor.submit(int).result(TIMEOUT)
        assert pool_of(agent, "early").wait_count == 1  # of those submitted since
    finally:
        loopwatch.uninstall()
        executor.shutdown()


def test_without_a_prefix_the_line_of_creation_is_the_label(agent: Agent) -> None:
    line = sys._getframe().f_lineno + 1
    with ThreadPoolExecutor(3) as executor:
        executor.submit(int).result(TIMEOUT)
        assert pool_of(agent, f"{__name__}:{line}").max == 3


def test_a_prefix_may_be_anything(agent: Agent) -> None:
    prefixes: list[Any] = [7, ("reports",), 3.5, b"reports"]
    executors = [ThreadPoolExecutor(1, thread_name_prefix=prefix) for prefix in prefixes]
    for executor, prefix in zip(executors, prefixes, strict=True):
        assert executor.submit(lambda: threading.current_thread().name).result() == f"{prefix}_0"
        assert pool_of(agent, str(prefix)).max == 1
        executor.shutdown()


def test_an_executor_for_each_request_makes_one_series(agent: Agent) -> None:
    for number in range(1, 21):
        with ThreadPoolExecutor(1, thread_name_prefix="one-off") as executor:
            executor.submit(int).result(TIMEOUT)
        del executor
        collect_pools(agent, KIND)
        pool = pool_of(agent, "one-off")
        assert (pool.instances, pool.created, pool.wait_count) == (0, number, number)


def test_what_is_submitted_runs_as_it_would(agent: Agent) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    def fail() -> None:
        raise LookupError("its own")

    with ThreadPoolExecutor(1) as executor:
        error: Any = executor.submit(fail).exception(TIMEOUT)
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        assert [frame for frame in frames if "loopwatch/_" in frame] == []
        assert frames[-1] == __file__
        context = contextvars.copy_context()
        context.run(variable.set, 3)
        assert executor.submit(context.run, variable.get).result(TIMEOUT) == 3
        item = thread._WorkItem
        assert {"future"} <= set(item.__init__.__wrapped__.__code__.co_varnames)


def test_an_executor_that_is_forgotten_is_collected(agent: Agent) -> None:
    executor = ThreadPoolExecutor(1, thread_name_prefix="forgotten")
    executor.submit(int).result(TIMEOUT)
    [worker] = executor._threads
    ref = weakref.ref(executor)
    pool_of(agent, "forgotten")
    del executor
    collect(lambda: ref() is None)
    worker.join(TIMEOUT)
    assert not worker.is_alive()


def test_items_that_are_cancelled_are_not_waited_for(agent: Agent) -> None:
    work = Work()
    with ThreadPoolExecutor(1, thread_name_prefix="reports") as executor:
        executor.submit(work)
        work.until_running(1)
        waiting = [executor.submit(int) for _ in range(4)]
        for future in waiting:
            assert future.cancel()
        pool = pool_of(agent, "reports")
        assert (pool.used, pool.waiters) == (1, ())
        assert (pool.pending, pool.oldest_wait) == (0, 0.0)
        work.let_go(1)
    assert pool_of(agent, "reports").cancelled == 4


@pytest.mark.parametrize("early", [0, 3], ids=["none", "three"])
def test_items_that_a_shutdown_cancels_have_waited(agent: Agent, early: int) -> None:
    """``early``: those that were cancelled before."""
    work = Work()
    clock = agent._engine._clock.monotonic
    executor = ThreadPoolExecutor(2, thread_name_prefix="reports")
    running = [executor.submit(work) for _ in range(2)]
    work.until_running(2)
    before = pool_of(agent, "reports").wait_sum or 0.0
    asked = clock()
    waiting = [executor.submit(int) for _ in range(9)]
    for future in waiting[:early]:
        assert future.cancel()
    threading.Event().wait(0.2)  # under test: for so long each has waited
    executor.shutdown(wait=False, cancel_futures=True)
    waited = clock() - asked
    assert all(future.cancelled() for future in waiting)
    pool = pool_of(agent, "reports")
    assert (pool.cancelled, pool.wait_count, pool.pending) == (9, 11, 0)
    assert pool.wait_sum is not None
    assert 9 * 0.2 <= pool.wait_sum - before <= 9 * waited
    again = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
    again.start()
    work.let_go(2)
    again.join(TIMEOUT)
    assert [future.result(TIMEOUT) for future in running] == [None] * 2
    assert (pool_of(agent, "reports").cancelled, pool_of(agent, "reports").wait_count) == (9, 11)


def test_how_long_a_shutdown_waits_is_not_counted(agent: Agent) -> None:
    work = Work()
    executor = ThreadPoolExecutor(1, thread_name_prefix="reports")
    executor.submit(work)
    work.until_running(1)
    before = pool_of(agent, "reports").wait_sum or 0.0
    clock = agent._engine._clock.monotonic
    asked = clock()
    waiting = [executor.submit(int) for _ in range(5)]
    let_go = threading.Timer(1.0, work.let_go, (1,))  # under test: for so long the shutdown waits
    let_go.start()
    begun = clock()
    executor.shutdown(cancel_futures=True)
    ended = clock()
    assert all(future.cancelled() for future in waiting)
    pool = pool_of(agent, "reports")
    assert (pool.cancelled, pool.wait_count) == (5, 6)
    assert pool.wait_sum is not None
    assert pool.wait_sum - before < 5 * (begun - asked + (ended - begun) / 2)
    let_go.join()


def test_items_of_an_executor_that_breaks_have_waited(agent: Agent) -> None:
    submitted = threading.Event()

    def fail() -> None:
        assert submitted.wait(TIMEOUT)
        raise LookupError("its own")

    executor = ThreadPoolExecutor(1, thread_name_prefix="broken", initializer=fail)
    waiting = [executor.submit(int) for _ in range(5)]
    submitted.set()
    for future in waiting:
        with pytest.raises(thread.BrokenThreadPool):
            future.result(TIMEOUT)
    executor.shutdown()
    pool = pool_of(agent, "broken")
    assert (pool.wait_count, pool.cancelled, pool.pending) == (5, 0, 0)


def test_the_arguments_of_other_threads_that_run_items_are_left_alone(agent: Agent) -> None:
    """An executor of the program's may run items in threads of its own, started with what it likes."""
    called: list[None] = []
    before_contexts = sys.version_info < (3, 14)

    class Own(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            future: Any = Future()
            task = fn, args, kwargs
            item = thread._WorkItem(future, *(task if before_contexts else (task,)))
            threading.Thread(target=self._run, args=(lambda: called.append(None), item)).start()
            return future

        def _run(self, notify: Any, item: Any) -> None:
            item.run(*(() if before_contexts else (thread.WorkerContext(None, ()),)))
            notify()

    with Own(1) as executor:
        assert [executor.submit(int).result(TIMEOUT) for _ in range(5)] == [0] * 5
    for one in threading.enumerate():
        if one.name.endswith("(_run)"):
            one.join(TIMEOUT)
    assert len(called) == 5
    with ThreadPoolExecutor(1, thread_name_prefix="standard") as executor:
        executor.submit(int).result(TIMEOUT)
    assert pool_of(agent, "standard").wait_count == 1


def test_an_item_that_takes_no_attributes_is_run(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, name: str, value: Any) -> None:
        if name.startswith("_loopwatch"):
            raise AttributeError(name)
        object.__setattr__(self, name, value)

    monkeypatch.setattr(thread._WorkItem, "__setattr__", refuse, raising=False)
    with ThreadPoolExecutor(1, thread_name_prefix="slots") as executor:
        assert [executor.submit(int).result(TIMEOUT) for _ in range(5)] == [0] * 5
    assert pool_of(agent, "slots").wait_count is None
