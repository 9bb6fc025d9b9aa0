"""What stands in place of a library's function returns and raises what that does, and counts."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from loopwatch._collectors.pools.acquires import Form
from loopwatch._collectors.pools.binding import Binding
from loopwatch._context.reader import ContextReader
from loopwatch._probes.tasks import TaskProbe
from loopwatch._store.pauses import Pauses
from loopwatch._store.pools import WaitCell
from loopwatch._store.tasks import LoopTasks

from .conftest import Desk, Reader, run


@dataclass(frozen=True)
class FrozenError(Exception):
    """Refuses to have attributes set, as an exception of the program's may."""

    said: str


class Sync(Reader):
    """Times the functions that are no coroutines."""

    def bind(self, module: ModuleType, binding: Binding) -> None:
        with binding.feature("gauges"):
            binding.cls("Pool")
        with binding.feature("waits"):
            pool = binding.cls("Pool")
            binding.acquires(pool, "take", Form(awaited=False))
            binding.acquires(pool, "checkout", Form(awaited=False, pool="pool"))


class Known(Reader):
    """Knows pools from before by their use."""

    def bind(self, module: ModuleType, binding: Binding) -> None:
        with binding.feature("gauges"):
            for method in ("acquire", "release"):
                binding.uses(binding.cls("Pool"), method)


def test_what_pools_are_known_by_is_as_it_was(library: Any, make_desk: Callable[..., Desk]) -> None:
    pool = library.Pool(name="x")
    desk = make_desk(Known())
    desk.hub.install()
    assert inspect.iscoroutinefunction(library.Pool.acquire) or sys.version_info < (3, 12)
    assert not inspect.iscoroutinefunction(library.Pool.release)
    connection = run(pool.acquire())
    assert pool.release(connection) is None
    assert desk.one().label == "x"


def test_a_coroutine_function_is_as_it_was(library: Any, desk: Desk) -> None:
    acquire = library.Pool.acquire
    original = acquire.__wrapped__
    assert acquire is not original
    assert inspect.iscoroutinefunction(acquire)
    assert inspect.signature(acquire, follow_wrapped=False) == inspect.signature(original)
    assert (acquire.__name__, acquire.__qualname__) == (original.__name__, original.__qualname__)


def test_all_kinds_of_parameters_are_passed_on(library: Any, make_desk: Callable[..., Desk]) -> None:
    pool = library.Pool(name="x")
    calls = [
        ((1,), {"third": 3}),
        ((1, 5, 6, 7), {"third": 3, "fourth": 8, "first": 9, "fifth": 10}),
        ((1,), {"third": 3, "second": 0}),
    ]
    expected = [pool.take(*args, **kwargs) for args, kwargs in calls]
    original = library.Pool.take
    desk = make_desk(Sync())
    desk.hub.install()
    assert library.Pool.take is not original
    signature = inspect.signature(library.Pool.take, follow_wrapped=False)
    assert signature == inspect.signature(original)
    assert [pool.take(*args, **kwargs) for args, kwargs in calls] == expected
    with pytest.raises(TypeError, match=r"take\(\) missing 1 required keyword-only argument: 'third'"):
        pool.take(1)
    assert desk.one().wait_count == len(calls)


def test_a_class_method_stays_one_and_names_its_pool(library: Any, make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(Sync())
    desk.hub.install()
    pool = library.Pool(name="x")
    assert library.Subclass.checkout(pool) == (library.Subclass, pool)
    assert (desk.one().label, desk.one().wait_count) == ("x", 1)
    desk.hub.remove()
    assert isinstance(vars(library.Pool)["checkout"], classmethod)
    assert library.Pool.checkout(pool) == (library.Pool, pool)
    assert desk.all() == ()


def test_waits_are_timed_from_asking_to_getting(library: Any, desk: Desk) -> None:
    async def main() -> None:
        pool = library.Pool(1, name="x")
        first = await pool.acquire()
        second = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        desk.fake.advance(2.0)
        found = desk.one()
        assert (found.used, found.pending, found.oldest_wait, found.wait_count) == (1, 1, 2.0, 1)
        pool.release(first)
        await second
        desk.fake.advance(3.0)
        found = desk.one()
        assert (found.wait_count, found.wait_sum, found.oldest_wait) == (2, 2.0, 0.0)
        assert desk.points("database_wait")[("x",)].counts == (1, *[0] * 9, 1, 0, 0, 0)
        assert found.borrowers is not None
        assert [borrower.held for borrower in found.borrowers] == [3.0]

    run(main())


async def watch_tasks(desk: Desk) -> None:
    """Have the running loop carry what it does under an agent."""
    probe = TaskProbe(LoopTasks(Pauses()), ContextReader(desk.journal), desk.fake.clock, desk.journal)
    loop: Any = asyncio.get_running_loop()
    loop._loopwatch_tasks = probe
    probe.adopt_all(loop)


def cells(desk: Desk) -> list[WaitCell]:
    return [cell for pool in desk.pools.live() if (cell := pool.cell) is not None]


def test_those_that_need_not_wait_are_written_down_in_place(library: Any, desk: Desk) -> None:
    async def main() -> None:
        await watch_tasks(desk)
        pool = library.Pool(5, name="x")
        for number in range(5):
            await pool.acquire()
            desk.fake.advance(1.0)
            assert [cell.at_once for cell in cells(desk)] == [number]  # the first one shows whose loop it is
        found = desk.one()
        assert (found.wait_count, found.wait_sum, found.oldest_wait, found.waiters) == (5, 0.0, 0.0, ())
        assert found.borrowers is not None
        assert [borrower.held for borrower in found.borrowers] == [5.0, 4.0, 3.0, 2.0, 1.0]
        assert {borrower.coroutine for borrower in found.borrowers} == {main.__qualname__}
        assert desk.points("database_wait")[("x",)].counts == (5, *[0] * 13)

    run(main())


def test_all_that_wait_are_known_though_one_has_the_place(library: Any, desk: Desk) -> None:
    async def main() -> None:
        await watch_tasks(desk)
        pools = [library.Pool(1, name="x") for _ in range(2)]  # of one label, so with one place
        held = [await pool.acquire() for pool in pools]
        asking = []
        for pool in (*pools, *pools):
            asking.append(asyncio.create_task(pool.acquire()))
            await asyncio.sleep(0)
            desk.fake.advance(1.0)
        found = desk.one()
        assert (found.pending, found.oldest_wait, found.wait_count) == (4, 4.0, 2)
        assert [waiter.waited for waiter in found.waiters or ()] == [4.0, 3.0, 2.0, 1.0]
        asking[3].cancel()  # it has the place, the others had to make way
        await asyncio.wait([asking[3]])
        for pool, connection in zip(pools, held, strict=True):
            pool.release(connection)
        await asyncio.wait(asking[:2])
        found = desk.one()
        assert [waiter.waited for waiter in found.waiters or ()] == [2.0]
        assert (found.wait_count, found.wait_sum, found.cancelled) == (5, 8.0, 1)
        pools[0].release(asking[0].result())
        await asking[2]
        found = desk.one()
        assert (found.waiters, found.wait_count, found.wait_sum) == ((), 6, 10.0)

    run(main())


def test_another_loop_has_no_part_in_the_place(library: Any, desk: Desk) -> None:
    pool = library.Pool(9, name="x")

    async def main() -> None:
        await watch_tasks(desk)
        for _ in range(3):
            await pool.acquire()

    run(main())
    [before] = [cell.at_once for cell in cells(desk)]
    run(main())
    assert desk.one().wait_count == 6
    assert [cell.at_once for cell in cells(desk)] == [before + 2]  # without the first in each
    with ThreadPoolExecutor(1) as thread:
        thread.submit(run, main()).result()
    assert desk.one().wait_count == 9
    assert [cell.at_once for cell in cells(desk)] == [2]  # that of the thread


def test_a_copy_of_a_pool_is_another_pool(library: Any, desk: Desk) -> None:
    async def main() -> None:
        await watch_tasks(desk)
        pool = library.Pool(3, name="x")
        await pool.acquire()
        pool.used = []
        other = copy.deepcopy(pool)
        for _ in range(2):
            await other.acquire()
        assert (desk.one().instances, desk.one().used, desk.one().wait_count) == (2, 2, 3)

    run(main())


def test_nothing_is_left_on_a_pool(library: Any, desk: Desk) -> None:
    pool = library.Pool(1, name="x")
    run(pool.acquire())
    assert "_loopwatch_watched" in vars(pool)
    desk.hub.remove()
    assert [name for name in vars(pool) if "loopwatch" in name] == []


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        ("Late", (1, 0, 0)),
        ("Full", (0, 1, 0)),
        (asyncio.CancelledError, (0, 0, 1)),
        (GeneratorExit, (0, 0, 1)),
        (LookupError, (0, 0, 0)),
        (KeyboardInterrupt, (0, 0, 0)),
        (FrozenError, (0, 0, 0)),
    ],
)
def test_what_fails_is_raised_as_it_was_and_counted(
    library: Any, desk: Desk, error: Any, counted: tuple[int, ...]
) -> None:
    raised = (getattr(library, error) if isinstance(error, str) else error)("its own")
    acquire = library.Pool(name="x").acquire(error=raised)
    with pytest.raises(type(raised)) as caught:
        acquire.send(None)
    assert caught.value is raised
    assert caught.value.__context__ is None
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames == [test_what_fails_is_raised_as_it_was_and_counted.__name__, "acquire"]
    found = desk.one()
    assert (found.timeouts, found.rejected, found.cancelled) == counted
    assert (found.wait_count, found.oldest_wait) == (1, 0.0)


def test_a_wait_that_is_thrown_away_is_over(library: Any, desk: Desk) -> None:
    async def main() -> None:
        pool = library.Pool(1, name="x")
        await pool.acquire()
        waiting = pool.acquire()
        waiting.send(None)
        assert len(desk.one().waiters or ()) == 1
        waiting.close()
        assert (desk.one().waiters, desk.one().cancelled) == ((), 1)

    run(main())


class Broken(Reader):
    """Its books fail."""

    def anchor(self, pool: Any) -> Any:
        raise LookupError("postgres://user:secret@host")


def test_books_that_fail_three_times_are_closed(
    library: Any, make_desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture
) -> None:
    original = library.Pool.acquire
    desk = make_desk(Broken())
    desk.hub.install()

    async def main() -> None:
        for number in range(1, 6):
            pool = library.Pool(9, name="x")
            assert isinstance(await pool.acquire(), library.Connection)
            assert (library.Pool.acquire is original) == (number >= 3)

    run(main())
    assert desk.points("reader_up") == {("fake", "gauges"): 0, ("fake", "waits"): 0, ("fake", "holders"): 1}
    assert len(caplog.records) == 1  # for both features, of five failures of each
    assert "LookupError" in caplog.text
    assert "secret" not in caplog.text


def test_after_removal_what_others_wrapped_passes_through(library: Any, desk: Desk) -> None:
    ours = library.Pool.acquire

    async def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await ours(self, *args, **kwargs)

    library.Pool.acquire = theirs
    desk.hub.remove()
    assert library.Pool.acquire is theirs
    assert isinstance(run(library.Pool(name="x").acquire()), library.Connection)
    assert desk.pools.live() == []


def test_what_others_wrapped_does_not_count_for_the_next_agent(
    library: Any, desk: Desk, make_desk: Callable[..., Desk]
) -> None:
    ours = library.Pool.acquire

    @functools.wraps(ours)
    async def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await ours(self, *args, **kwargs)

    library.Pool.acquire = theirs
    desk.hub.remove()
    following = make_desk()
    following.hub.install()

    async def main() -> None:
        await watch_tasks(following)
        pool = library.Pool(9, name="x")
        for _ in range(5):
            await pool.acquire()
        assert following.one().wait_count == 5

    run(main())
