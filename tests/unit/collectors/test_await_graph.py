"""Tasks that wait for each other, on each kind of loop, read from another thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

from loopwatch._collectors.await_graph import AwaitGraph, await_graph
from loopwatch._collectors.deadlocks import stuck_in
from loopwatch._journal import Journal
from loopwatch._store.unread import Unread

Start = Callable[[], Coroutine[Any, Any, Any]]
Read = Callable[..., AwaitGraph]


@pytest.fixture
def read(loop_thread: Any) -> Iterator[Read]:
    """Start tasks named after their functions, and return the graph of all there are."""

    def read(*functions: Start) -> AwaitGraph:
        def start() -> None:
            kept.extend(
                loop_thread.loop.create_task(function(), name=function.__name__) for function in functions
            )

        loop_thread.call(start)
        return await_graph(asyncio.all_tasks(loop_thread.loop), Unread(Journal()))

    kept: list[Any] = []
    yield read
    kept.clear()


def told(graph: AwaitGraph) -> list[list[tuple[str, str]]]:
    """The deadlocks, each from its first name on, as names and what they wait for."""
    cycles = [[(waiter.name, waiter.waiting_on) for waiter in cycle] for cycle in graph.deadlocks]
    return sorted(cycle[cycle.index(min(cycle)) :] + cycle[: cycle.index(min(cycle))] for cycle in cycles)


async def forever() -> None:
    await asyncio.Event().wait()


def itself(lock: Any) -> Any:
    return lock


class Pair:
    """Two tasks that take two locks in opposite order."""

    def __init__(self, enter: Callable[[Any], Any] = itself, make: Callable[[], Any] = asyncio.Lock) -> None:
        self._enter = enter
        self._make = make

    @functools.cached_property
    def locks(self) -> tuple[Any, Any]:
        return self._make(), self._make()

    async def _take(self, first: int, second: int) -> None:
        async with self._enter(self.locks[first]):
            for _ in range(3):
                await asyncio.sleep(0)
            async with self._enter(self.locks[second]):
                await forever()

    async def one(self) -> None:
        await self._take(0, 1)

    async def two(self) -> None:
        await self._take(1, 0)


@contextlib.asynccontextmanager
async def from_generator(lock: Any) -> AsyncIterator[None]:
    async with lock:
        yield


@contextlib.asynccontextmanager
async def from_stack(lock: Any) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(from_generator(lock))
        yield


DEADLOCK = [
    ("one", "Lock.acquire, held by task 'two' (Pair.two)"),
    ("two", "Lock.acquire, held by task 'one' (Pair.one)"),
]


class TestLocks:
    """The owner of a lock is whose frame will release it."""

    @pytest.mark.parametrize("enter", [itself, from_generator, from_stack])
    def test_two_tasks_on_two_locks(self, read: Read, enter: Callable[[Any], Any]) -> None:
        pair = Pair(enter)
        assert told(read(pair.one, pair.two)) == [DEADLOCK]

    def test_locks_of_conditions(self, read: Read) -> None:
        pair = Pair(make=asyncio.Condition)
        assert told(read(pair.one, pair.two)) == [DEADLOCK]

    def test_locks_of_anyio(self, read: Read) -> None:
        pair = Pair(make=anyio.Lock)
        assert told(read(pair.one, pair.two)) == [DEADLOCK]

    def test_lock_taken_twice(self, read: Read) -> None:
        async def again() -> None:
            lock = asyncio.Lock()
            async with lock, lock:
                pass

        [[(_, waiting_on)]] = told(read(again))
        assert waiting_on.startswith("Lock.acquire, held by task 'again'")

    def test_lock_iterated_under(self, read: Read) -> None:
        lock = asyncio.Lock()

        async def items() -> AsyncIterator[int]:
            async with lock:
                yield 1

        async def iterating() -> None:
            async for _ in items():
                async with lock:
                    pass

        assert len(read(iterating).deadlocks) == 1

    def test_owner_that_goes_on(self, read: Read) -> None:
        lock = asyncio.Lock()

        async def owner() -> None:
            async with lock:
                await asyncio.sleep(1000)

        async def waiter() -> None:
            async with lock:
                pass

        found = read(owner, waiter)
        assert [len(needed) for needed in found.needs.values()] == [1]
        assert found.stuck == frozenset()

    def test_condition_that_waits_holds_nothing(self, read: Read) -> None:
        condition = asyncio.Condition()

        async def waits() -> None:
            async with condition:
                await condition.wait()

        async def holds() -> None:
            async with condition:
                await asyncio.sleep(1000)

        async def waits_too() -> None:
            async with condition:
                pass

        found = read(waits, holds, waits_too)
        assert len(found.needs) == 1

    def test_condition_taken_by_hand(self, read: Read) -> None:
        """Its wait has released a lock that no block of the frame would."""
        pair = Pair()

        async def one() -> None:
            condition = asyncio.Condition()
            await condition.acquire()
            async with pair.locks[0]:
                await condition.wait()

        async def two() -> None:
            async with pair.locks[0]:
                pass

        assert len(read(one, two).needs) == 1

    def test_owner_that_took_it_by_hand_is_unknown(self, read: Read) -> None:
        lock = asyncio.Lock()

        async def owner() -> None:
            await lock.acquire()
            await forever()

        async def waiter() -> None:
            async with lock:
                pass

        assert read(owner, waiter).needs == {}

    @pytest.mark.parametrize("where", ["here", "in a function", "in a manager"])
    def test_owner_that_let_go_of_it_by_hand_is_unknown(self, read: Read, where: str) -> None:
        """Whose it is within the block is then not to be seen, though the function has ended that did it."""
        lock = asyncio.Lock()

        def let_go() -> None:
            lock.release()

        @contextlib.contextmanager
        def unlocked() -> Iterator[None]:
            lock.release()
            yield

        async def other() -> None:
            await lock.acquire()
            await asyncio.sleep(1000)

        async def waiter() -> None:
            async with lock:
                pass

        async def wait() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            await asyncio.create_task(waiter())

        async def here() -> None:
            async with lock:
                lock.release()
                await wait()

        async def elsewhere() -> None:
            async with lock:
                with unlocked() if where == "in a manager" else contextlib.nullcontext(let_go()):
                    await wait()

        found = read(here if where == "here" else elsewhere, other)
        assert lock.locked()
        assert (found.deadlocks, len(found.needs)) == ((), 1)

    def test_owner_beside_one_who_takes_another_by_hand(self, read: Read) -> None:
        """The waiter itself, or who takes a lock that has nothing to do with it."""
        first, second = asyncio.Lock(), asyncio.Lock()

        async def one() -> None:
            async with first:
                for _ in range(3):
                    await asyncio.sleep(0)
                await second.acquire()

        async def two() -> None:
            async with second:
                for _ in range(3):
                    await asyncio.sleep(0)
                await first.acquire()

        async def other() -> None:
            await asyncio.Lock().acquire()
            await asyncio.sleep(1000)

        assert [len(cycle) for cycle in read(one, two, other).deadlocks] == [2]

    def test_a_timeout_breaks_it(self, read: Read) -> None:
        pair = Pair()

        async def one() -> None:
            async with asyncio.timeout(1000):
                await pair.one()

        assert read(one, pair.two).deadlocks == ()

    @pytest.mark.parametrize("scope", [anyio.fail_after, anyio.move_on_after])
    def test_a_timeout_of_anyio_breaks_it(self, read: Read, scope: Callable[[float], Any]) -> None:
        pair = Pair()

        async def one() -> None:
            with scope(1000):
                await pair.one()

        assert read(one, pair.two).deadlocks == ()


class TestTasks:
    """Tasks that wait for tasks."""

    @staticmethod
    def cycle_through(read: Read, wait: Callable[[Any], Any]) -> AwaitGraph:
        """Have a child wait for its parent in the given way, while the parent awaits it."""

        async def child(parent: Any) -> None:
            await asyncio.sleep(0)
            waited = wait(parent)
            await (forever_if(waited) if waited is None else waited)

        async def forever_if(waited: None) -> None:
            await forever()

        async def parent() -> None:
            me = asyncio.current_task()
            await asyncio.create_task(child(me), name="child")

        return read(parent)

    @pytest.mark.parametrize(
        ("wait", "text"),
        [
            (lambda parent: parent, "task 'parent'"),
            (lambda parent: asyncio.gather(parent, asyncio.sleep(1000)), "gather of 2, with task 'parent'"),
            (lambda parent: asyncio.gather(asyncio.gather(parent)), "gather of 1, with task 'parent'"),
            (asyncio.shield, "task 'parent'"),
            (lambda parent: asyncio.wait([parent]), "wait for 1, with task 'parent'"),
            (
                lambda parent: asyncio.wait(
                    [parent, asyncio.ensure_future(forever())], return_when=asyncio.ALL_COMPLETED
                ),
                "wait for 2, with task 'parent'",
            ),
        ],
    )
    def test_cycle(self, read: Read, wait: Callable[[Any], Any], text: str) -> None:
        [[(child, waiting_on), (parent, _)]] = told(self.cycle_through(read, wait))
        assert (child, parent) == ("child", "parent")
        assert waiting_on.startswith(text)

    @pytest.mark.parametrize(
        "wait",
        [
            lambda parent: asyncio.wait([parent], timeout=1000),
            lambda parent: asyncio.wait_for(parent, 1000),
            lambda parent: asyncio.wait(
                [parent, asyncio.ensure_future(asyncio.sleep(1000))], return_when=asyncio.FIRST_COMPLETED
            ),
            lambda parent: asyncio.wait(
                [parent, asyncio.get_running_loop().create_future()], return_when=asyncio.FIRST_COMPLETED
            ),
            lambda parent: None,
        ],
    )
    def test_no_cycle(self, read: Read, wait: Callable[[Any], Any]) -> None:
        assert self.cycle_through(read, wait).deadlocks == ()

    @pytest.mark.parametrize("make", [asyncio.TaskGroup, anyio.create_task_group])
    def test_task_group(self, read: Read, make: Callable[[], Any]) -> None:
        async def child(parent: Any) -> None:
            await asyncio.shield(parent)

        async def parent() -> None:
            async with make() as group:
                start = getattr(group, "start_soon", None)
                if start is None:
                    group.create_task(child(asyncio.current_task()), name="child")
                else:
                    start(child, asyncio.current_task(), name="child")

        [[child_told, parent_told]] = told(read(parent))
        assert child_told[1].startswith("task 'parent'")
        assert parent_told[1].startswith("TaskGroup of 1, with task 'child'")

    def test_those_behind_are_stuck_but_no_part_of_it(self, read: Read) -> None:
        pair = Pair()
        found: list[Any] = []

        async def one() -> None:
            found.append(asyncio.current_task())
            await pair.one()

        async def behind() -> None:
            await asyncio.gather(*found)

        graph = read(one, pair.two, behind)
        assert [len(cycle) for cycle in graph.deadlocks] == [2]
        assert len(graph.stuck) == 3

    def test_two_loops(self, read: Read) -> None:
        """Ids tell the tasks of all loops apart; a lock of one is never another's."""
        pair = Pair()
        first = read(pair.one, pair.two)
        other = asyncio.new_event_loop()
        alone = other.create_task(forever())
        other.run_until_complete(asyncio.sleep(0))
        graph = await_graph([alone], Unread(Journal()))
        alone.cancel()
        other.run_until_complete(asyncio.gather(alone, return_exceptions=True))
        other.close()
        assert (len(first.deadlocks), graph.deadlocks) == (1, ())

    def test_ended_tasks_and_others_are_no_nodes(self) -> None:
        assert await_graph([None, object(), 3], Unread(Journal())) == AwaitGraph(
            {}, frozenset(), (), frozenset()
        )

    def test_nothing_is_kept(self, loop_thread: Any) -> None:
        ref = loop_thread.start(forever)
        await_graph([ref()], Unread(Journal()))
        gc.collect()
        assert ref() is None


@pytest.mark.parametrize("seed", range(20))
def test_random_locks(read: Read, seed: int) -> None:
    """Tasks that take locks one inside the other, in any order: who is stuck is known from the locks."""
    chance = random.Random(seed)
    locks = [asyncio.Lock() for _ in range(5)]
    owner: dict[int, str] = {}
    waits: dict[str, int] = {}

    def taker(name: str, order: list[int]) -> Start:
        async def take(left: list[int]) -> None:
            if not left:
                await forever()
                return
            waits[name] = left[0]
            async with locks[left[0]]:
                owner[left[0]] = name
                waits.pop(name)
                await asyncio.sleep(0)
                await take(left[1:])

        async def start() -> None:
            await take(order)

        start.__name__ = name
        return start

    names = [f"task {number}" for number in range(8)]
    found = read(*(taker(name, chance.sample(range(5), chance.randint(1, 4))) for name in names))
    expected = {name: [owner[lock]] for name, lock in waits.items()}
    assert len(found.needs) == len(expected)
    assert len(found.stuck) == len(stuck_in_names(expected))
    assert {waiter.name for cycle in found.deadlocks for waiter in cycle} <= stuck_in_names(expected)


def stuck_in_names(needs: dict[str, list[str]]) -> set[str]:
    numbers = {name: number for number, name in enumerate({*needs, *(other for [other] in needs.values())})}
    stuck = stuck_in({numbers[name]: [numbers[other]] for name, [other] in needs.items()}, ())
    return {name for name, number in numbers.items() if number in stuck}
