"""The standard experiment: a pool of two, ten callers, read from another thread while they are at it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import loopwatch
from loopwatch import Pool
from tests.machine import cpu_waited

CALLERS = 10
SIZE = 2
HOLD = 0.1
"""Seconds for which each pair of callers holds."""
LEAST = HOLD * SIZE * sum(range(CALLERS // SIZE))
"""Seconds that all callers together have to wait at least: each pair for those before it."""
READS = 20_000
"""Of the library's objects, and a twentieth as many of all that is made of that."""
USES = 50
"""Of the pool meanwhile, at least. On a busy machine there are more reads until then."""


async def pool_of(agent: loopwatch.Agent, kind: str, label: str | None = None) -> Pool:
    """Return the one pool of a kind, and of a label if it is given, read in another thread."""
    # Not asyncio.to_thread: the default executor is itself a pool that is read.
    read: asyncio.Future[tuple[Pool, ...]] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        pools = agent.pools()
        loop.call_soon_threadsafe(read.set_result, pools)

    thread = threading.Thread(target=ask, name="asks-for-pools")
    thread.start()
    pools = await read
    thread.join()
    found = [pool for pool in pools if pool.kind == kind and label in (None, pool.label)]
    assert len(found) == 1, f"{kind} {label}: {[(pool.kind, pool.label) for pool in pools]}"
    return found[0]


def collect(until: Callable[[], object]) -> None:
    """Collect garbage until it is so. Once may not do: the watchdog may be looking at what is to go."""
    gives_up = time.monotonic() + 120
    gc.collect()
    while not until():
        assert time.monotonic() < gives_up, "something holds it"
        gc.collect()


def collect_pools(agent: loopwatch.Agent, kind: str) -> None:
    """Have all pools of a kind collected, of which nobody else holds any."""
    collect(lambda: not any(pool.instances for pool in agent.pools() if pool.kind == kind))


class Callers:
    """Ten tasks that want a connection, and give it back when they are told to."""

    def __init__(self, acquire: Callable[[], Any], release: Callable[[Any], Any]) -> None:
        self._acquire = acquire
        self._release = release
        self._got = 0
        self._changed = asyncio.Condition()
        self._leave = asyncio.Semaphore(0)
        self.waited: list[float] = []
        """Seconds each waited, by its own clock."""
        self.tasks = [asyncio.create_task(self._call(), name=f"caller-{n}") for n in range(CALLERS)]

    async def _call(self) -> None:
        clock = asyncio.get_running_loop().time
        asked = clock()
        connection = await self._acquire()
        self.waited.append(clock() - asked)
        async with self._changed:
            self._got += 1
            self._changed.notify_all()
        await self._leave.acquire()
        given_back = self._release(connection)
        if inspect.isawaitable(given_back):
            await given_back

    async def until_holding(self, count: int) -> None:
        """Wait until so many have got theirs, of all so far."""
        async with asyncio.timeout(120), self._changed:
            await self._changed.wait_for(lambda: self._got >= count)

    def ended(self) -> bool:
        """Whether any of them has ended, none of whom was told to yet."""
        return any(task.done() for task in self.tasks)

    def let_go(self, count: int) -> None:
        """Have so many give theirs back."""
        for _ in range(count):
            self._leave.release()


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[int, Callable[[int], Awaitable[None]]]]:
    """Give the port of a server that takes connections and says nothing, and what waits for so many."""
    connected: asyncio.Queue[None] = asyncio.Queue()
    end = asyncio.Event()

    async def be_silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.put_nowait(None)
        await end.wait()
        writer.close()

    async def until_connected(count: int) -> None:
        for _ in range(count):
            await connected.get()

    server = await asyncio.start_server(be_silent, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], until_connected
    server.close()
    end.set()


async def ten_callers_of_two(
    agent: loopwatch.Agent,
    kind: str,
    acquire: Callable[[], Any],
    release: Callable[[Any], Any],
    *,
    label: str | None = None,
    before: int = 0,
    by_tasks: bool = True,
) -> Pool:
    """Do the experiment on a pool that nobody uses, and return the pool as it is read in the end.

    ``before``: acquires that were counted already. ``by_tasks``: whether those who have and wait are tasks.
    The sum of the waits is ``LEAST`` and more, against which what is lost between two clocks is little. A
    machine that is busy otherwise may stop each caller in between.
    """
    busy = cpu_waited()
    callers = Callers(acquire, release)
    earlier = (await pool_of(agent, kind, label)).wait_sum or 0.0 if before else 0.0
    await callers.until_holding(SIZE)
    for _ in range(50):
        await asyncio.sleep(0)  # the others get to where they wait, through as many awaits as that takes
    full = await pool_of(agent, kind, label)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(120):  # nobody moves meanwhile but threads, which take the time they take
            while (full.pending, len(full.borrowers or ())) != (CALLERS - SIZE, SIZE) and not callers.ended():
                full = await pool_of(agent, kind, label)
    assert (full.max, full.used, full.pending) == (SIZE, SIZE, CALLERS - SIZE)
    assert full.borrowers is not None
    assert full.waiters is not None
    assert (len(full.borrowers), len(full.waiters)) == (SIZE, CALLERS - SIZE)
    names = {f"caller-{n}" for n in range(CALLERS)}
    holding = {borrower.task_name for borrower in full.borrowers}
    waiting = {waiter.task_name for waiter in full.waiters}
    assert holding | waiting == (names if by_tasks else {None})
    assert not any(borrower.gone for borrower in full.borrowers)
    for turn in range(SIZE, CALLERS + 1, SIZE):
        await callers.until_holding(turn)
        await asyncio.sleep(HOLD)  # under test: this is for how long they hold
        callers.let_go(SIZE)
    await asyncio.gather(*callers.tasks)
    done = await pool_of(agent, kind, label)
    async with asyncio.timeout(120):
        while done.used:  # a thread is busy still when its work is done
            done = await pool_of(agent, kind, label)
    assert (done.used, done.pending, done.borrowers, done.waiters) == (0, 0, (), ())
    assert done.wait_count == before + CALLERS
    assert done.wait_sum is not None
    by_callers, busy = sum(callers.waited), cpu_waited() - busy
    least = max(LEAST, by_callers - CALLERS * busy)
    assert 0.9 * least < done.wait_sum - earlier < 1.1 * by_callers
    return done


async def read_under_churn(
    agent: loopwatch.Agent, kind: str, use: Callable[[], Any], size: int = SIZE
) -> None:
    """Read a pool from another thread while ``use`` takes and returns connections all the time.

    Nothing may raise, and no value be seen that cannot be.
    """
    callers = 3 * size
    uses = 0
    wrong: list[Any] = []
    done, failed = threading.Event(), threading.Event()
    [binding] = agent._engine._hub.of(kind)
    [anchor] = [pool.anchor() for pool in agent._engine._pools.live() if pool.kind == kind]

    def look_closely() -> None:
        reads = 0
        while (reads < READS or uses < USES) and not failed.is_set():
            reads += 1
            sample = binding.reader.read(anchor)
            values = (sample.used, sample.idle, sample.pending)
            if any(value is None or not -1 <= value <= callers for value in values):
                wrong.append(sample)  # one beside the mark: its numbers are not of one moment

    def look() -> None:
        try:
            look_closely()
            for _ in range(READS // 20):
                pools = [pool for pool in agent.pools() if pool.kind == kind]
                wrong.extend(pool for pool in pools if not possible(pool))
        except Exception as error:
            wrong.append(error)
        finally:
            done.set()

    def possible(pool: Pool) -> bool:
        people = (*(pool.borrowers or ()), *(pool.waiters or ()))
        return (
            pool.used in range(size + 1) and pool.pending in range(callers + 1) and len(people) <= callers * 2
        )

    async def churn() -> None:
        nonlocal uses
        while not done.is_set():
            await use()
            uses += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        await asyncio.gather(*(churn() for _ in range(callers)))
    finally:
        failed.set()  # or it is done
        thread.join()
    assert not wrong, wrong[:3]
    points = (await asyncio.to_thread(agent.snapshot)).points
    assert not [point for point in points["internal_errors"] if point.value]
    assert all(point.value for point in points["reader_up"] if kind in point.labels)
