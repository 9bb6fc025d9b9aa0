"""Leaks among healthy tasks, deadlocks and unheld tasks: named once, in time, with all there is to say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import loopwatch

Simulate = Callable[..., Any]

kept: list[Any] = []


@pytest.fixture(autouse=True)
def keep_nothing() -> Any:
    yield
    kept.clear()


class Mixed:
    """500 healthy tasks a second from one line, and from the same line one a second that hangs."""

    def __init__(self, *, reachable: bool) -> None:
        self.reachable = reachable
        self.last_at = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for second in range(55):
            for number in range(500):
                coroutine = self.hang() if number == 0 and second < 50 else self.work(number / 500)
                task = loop.create_task(coroutine)
                kept.append(task)
                task.add_done_callback(kept.remove)
                if number == 0 and second == 49:
                    self.last_at = loop.time()
            await asyncio.sleep(1.0)

    async def work(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def hang(self) -> None:
        future = asyncio.get_running_loop().create_future()
        if self.reachable:
            kept.append(future)
        await future


def test_50_leaks_among_25000_healthy_tasks_are_named_within_5_s(
    simulate: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    simulation = simulate()
    program = Mixed(reachable=False)
    simulation.run(program.run())
    found = simulation.lost()
    assert len(found) == 50
    assert {(lost.reason, lost.leak, lost.coroutine) for lost in found} == {
        ("leaked", "cancel_only", "Mixed.hang")
    }
    began = simulation.fake.wall() - simulation.fake.monotonic()
    assert 30 < found[0].lost_at - began - (program.last_at - 49) < 35
    assert found[-1].lost_at - began < program.last_at + 5
    assert "Mixed.hang" in caplog.messages[0]
    assert "will not finish: only a cancellation would end it; 31 such tasks piled up" in caplog.messages[0]


class Crowd:
    """Tasks that wait until somebody cancels them, on purpose or not."""

    def __init__(self) -> None:
        self.tasks: set[Any] = set()

    def start(self, hold: Callable[[Any], Any] | None = None, work: Any = None) -> None:
        task = asyncio.create_task(self.park() if work is None else work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if hold is not None:
            kept.append(hold(task))

    async def park(self) -> None:
        await asyncio.get_running_loop().create_future()


def test_what_a_start_up_or_a_few_connections_park_is_no_leak(simulate: Simulate) -> None:
    """However long: a hundred at once in one set; nine in another; two of each in twenty sets."""
    simulation = simulate()

    async def main() -> None:
        at_once, few, many = Crowd(), Crowd(), [Crowd() for _ in range(20)]
        kept.extend([at_once, few, many])
        for _ in range(100):
            at_once.start()
        for second in range(60):
            if second % 7 == 0:
                few.start()
            many[second % 20].start()
            await asyncio.sleep(1.0)
        await asyncio.sleep(3600.0)

    simulation.run(main())
    assert len(kept[1].tasks) == 9
    assert [lost for lost in simulation.lost() if lost.leak != "site_growth"] == []


@pytest.mark.parametrize("hold", [lambda task: {"task": task}, lambda task: task.cancel])
def test_what_somebody_has_for_himself_is_no_leak(simulate: Simulate, hold: Callable[[Any], Any]) -> None:
    """Before half an hour has shown that its number rises and rises."""
    simulation = simulate()

    async def main() -> None:
        kept.append(Crowd())
        for _ in range(300):
            kept[0].start(hold)
            await asyncio.sleep(1.0)

    simulation.run(main())
    assert simulation.lost() == []


def test_one_that_is_cancelled_excuses_its_kind(simulate: Simulate) -> None:
    """Among others that end well at the same site: that they were cancelled is not seen from its counts."""
    simulation = simulate()

    async def main() -> None:
        crowd = Crowd()
        kept.append(crowd)
        for second in range(600):
            crowd.start()
            if second < 50:
                crowd.start(work=asyncio.sleep(0.5))
            if second == 20:
                oldest = min(crowd.tasks, key=lambda task: int(task.get_name().removeprefix("Task-")))
                oldest.cancel()
                del oldest
            await asyncio.sleep(1.0)

    simulation.run(main())
    assert simulation.lost() == []


def test_leaks_that_could_be_woken_are_named_within_3_times_what_is_usual(simulate: Simulate) -> None:
    simulation = simulate()
    program = Mixed(reachable=True)
    began = simulation.fake.wall() - simulation.fake.monotonic()
    simulation.run(program.run())
    found = simulation.lost()
    assert len(found) == 50
    assert {(lost.reason, lost.leak, lost.coroutine) for lost in found} == {
        ("leaked", "overage", "Mixed.hang")
    }
    usual = found[0].evidence["usual_p99_s"]
    assert 0.9 < usual < 1.1
    assert found[0].lost_at - began < program.last_at
    assert found[-1].lost_at - began < program.last_at + 3 * usual + simulation.every


def test_a_leak_is_seen_among_1000_tasks_of_long_life(simulate: Simulate) -> None:
    """Though each look at a task costs 100 us, of which half a percent of a core pays for 25 a second."""
    simulation = simulate()

    async def wait_for_event(event: asyncio.Event) -> None:
        await event.wait()

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        kept.append(asyncio.Event())
        kept.extend(asyncio.create_task(wait_for_event(kept[0])) for _ in range(1000))
        await asyncio.sleep(0.5)
        for _ in range(2):
            loopwatch.spawn(hang())
        await asyncio.sleep(5.0)

    simulation.each_look_costs(100e-6)
    simulation.run(main())
    assert [lost.coroutine.rpartition(".")[2] for lost in simulation.lost()] == ["hang", "hang"]


async def lock_both(first: asyncio.Lock, second: asyncio.Lock) -> None:
    async with first:
        await asyncio.sleep(0.1)
        async with second:
            pass


def test_a_deadlock_is_told_once_with_who_holds_what(
    simulate: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    simulation = simulate()

    async def main() -> None:
        kept.extend([asyncio.Lock(), asyncio.Lock()])
        one, two = kept
        kept.append(asyncio.create_task(lock_both(one, two), name="there"))
        kept.append(asyncio.create_task(lock_both(two, one), name="back"))
        kept.extend(asyncio.create_task(lock_both(one, two)) for _ in range(3))
        await asyncio.sleep(60.0)

    simulation.run(main())
    found = {lost.task_name: lost for lost in simulation.lost()}
    assert found.keys() == {"there", "back"}
    assert {lost.reason for lost in found.values()} == {"deadlock"}
    assert found["there"].waiting_on == "Lock.acquire, held by task 'back' (lock_both)"
    assert found["back"].waiting_on == "Lock.acquire, held by task 'there' (lock_both)"
    assert found["there"].await_stack[0].function == "lock_both"
    assert found["there"].evidence == {"tasks_in_cycle": 2, "tasks_behind": 3, "live_at_site": 1.0}
    assert all(lost.age < 5 for lost in found.values())
    (line,) = caplog.messages
    assert "task 'there' (lock_both), created " in line
    assert "Lock.acquire, held by task 'back' (lock_both)" in line
    assert "Lock.acquire, held by task 'there' (lock_both)" in line


def test_a_deadlock_that_a_timer_breaks_is_none(simulate: Simulate) -> None:
    """As the lease of a lock does, which ends whoever waits too long."""
    simulation = simulate()
    ended: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two = asyncio.Lock(), asyncio.Lock()
        tasks = [asyncio.create_task(lock_both(one, two)), asyncio.create_task(lock_both(two, one))]
        loop.call_later(20.0, tasks[0].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        ended.append(loop.time())

    began = simulation.fake.monotonic()
    simulation.run(main())
    assert ended[0] - began == pytest.approx(20.0)
    assert simulation.lost() == []


def test_a_deadlock_that_nothing_else_holds_is_one_all_the_same(simulate: Simulate) -> None:
    """Who is in it could be collected, too: that it is a deadlock says more."""
    simulation = simulate()

    def forget() -> None:
        one, two = asyncio.Lock(), asyncio.Lock()
        asyncio.create_task(lock_both(one, two))  # noqa: RUF006
        asyncio.create_task(lock_both(two, one))  # noqa: RUF006

    async def main() -> None:
        forget()
        await asyncio.sleep(10.0)

    simulation.run(main())
    assert [lost.reason for lost in simulation.lost()] == ["deadlock", "deadlock"]


def test_what_nothing_holds_is_told_of_once(simulate: Simulate) -> None:
    simulation = simulate()

    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        asyncio.create_task(forgotten())  # noqa: RUF006
        await asyncio.sleep(100.0)

    simulation.run(main())
    (lost,) = simulation.lost()
    assert (lost.reason, lost.leak, lost.waiting_on) == ("unreferenced", "unreferenced", "future")
    assert lost.await_stack[-1].function.endswith("forgotten")
    assert lost.age < 5


def test_daemons_are_no_leaks(simulate: Simulate) -> None:
    """Declared ones; those alone at their site since start-up; those of a kind that gets cancelled."""
    simulation = simulate()

    async def park() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        kept.append(asyncio.create_task(park()))
        await asyncio.sleep(60.0)
        kept.extend(loopwatch.daemon(asyncio.create_task(park())) for _ in range(3))
        for _ in range(3):
            kept.append(asyncio.create_task(park()))
            await asyncio.sleep(0.5)
            kept[-1].cancel()
            await asyncio.sleep(0.5)
        await asyncio.sleep(60.0)

    simulation.run(main())
    assert simulation.lost() == []


def test_a_loop_that_does_not_run_is_left_alone(simulate: Simulate) -> None:
    simulation = simulate()

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        kept.extend(asyncio.create_task(hang()) for _ in range(2))
        await asyncio.sleep(0.1)

    simulation.run(main())
    simulation.state.leave(simulation.fake.monotonic(), 0.0)
    for _ in range(10):
        simulation.fake.advance(1.0)
        simulation.finder.look()
    assert simulation.lost() == []


def test_a_task_that_ends_after_all_is_no_longer_counted(simulate: Simulate) -> None:
    simulation = simulate()

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        for _ in range(2):
            loopwatch.spawn(hang())
        await asyncio.sleep(5.0)
        assert simulation.log.leaked["never_wakes"] == 2
        (asyncio.all_tasks() - {asyncio.current_task()}).pop().cancel()
        await asyncio.sleep(5.0)

    simulation.run(main())
    assert simulation.log.leaked["never_wakes"] == 1
