"""Which task a record is about, which others it waits for, and whether it is a job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Task

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def forever() -> None:
    await asyncio.Event().wait()


async def grouped(tasks: list[asyncio.Task[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        tasks += [group.create_task(forever(), name="grouped") for _ in range(2)]


async def gathered(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def shielded(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


async def in_time(task: asyncio.Task[None]) -> None:
    await asyncio.wait_for(task, 3600)


async def waiting(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks, timeout=3600)


async def at_once(task: asyncio.Task[None]) -> None:
    await task


def test_the_tasks_that_one_waits_for_are_told(agent: Agent, run: Run) -> None:
    async def main() -> tuple[Task, ...]:
        first, second = (asyncio.create_task(forever(), name=name) for name in ("first", "second"))
        members: list[asyncio.Task[None]] = []
        tops = [
            asyncio.create_task(at_once(first), name="at once"),
            asyncio.create_task(gathered([first, second]), name="gathered"),
            asyncio.create_task(shielded(second), name="shielded"),
            asyncio.create_task(in_time(asyncio.create_task(forever(), name="timed")), name="in time"),
            asyncio.create_task(waiting([first, second]), name="waiting"),
            asyncio.create_task(grouped(members), name="group"),
        ]
        await asyncio.sleep(0.05)
        found = await asyncio.to_thread(agent.tasks)
        for task in [*tops, first, second]:
            task.cancel()
        await asyncio.gather(*tops, first, second, return_exceptions=True)
        return found

    by_id = {task.id: task for task in run(main()) if task.state == "pending"}
    awaits = {task.name: sorted(str(by_id[key].name) for key in task.awaits) for task in by_id.values()}
    assert {name: awaited for name, awaited in awaits.items() if awaited} == {
        "at once": ["first"],
        "gathered": ["first", "second"],
        "shielded": ["second"],
        "in time": ["timed"],
        "waiting": ["first", "second"],
        "group": ["grouped", "grouped"],
    }


def test_an_id_stays_and_is_no_other_tasks(agent: Agent, run: Run) -> None:
    """Of 2,000 tasks, some of which end between two readings."""

    async def end(gate: asyncio.Event) -> None:
        await gate.wait()

    async def main() -> tuple[tuple[Task, ...], tuple[Task, ...]]:
        gate = asyncio.Event()
        tasks = [asyncio.create_task(end(gate), name=f"ends-{at}") for at in range(500)]
        tasks += [asyncio.create_task(forever(), name=f"stays-{at}") for at in range(1500)]
        await asyncio.sleep(0.05)
        before = await asyncio.to_thread(agent.tasks)
        gate.set()
        await asyncio.sleep(0.05)
        after = await asyncio.to_thread(agent.tasks)
        for task in tasks:
            task.cancel()
        return before, after

    before, after = ({task.name: task for task in tasks} for tasks in run(main()))
    mine = [name for name in before if name is not None and name.startswith(("ends-", "stays-"))]
    assert len(mine) == 2000
    assert len({before[name].id for name in mine}) == 2000
    stays = [name for name in mine if name.startswith("stays-")]
    assert [before[name].id for name in stays] == [after[name].id for name in stays]


def test_an_id_outlives_its_task(agent: Agent, run: Run) -> None:
    async def fail(gate: asyncio.Event) -> None:
        await gate.wait()
        raise ValueError("as it is meant to")

    async def main() -> tuple[Task, Task]:
        gate = asyncio.Event()
        task = asyncio.create_task(fail(gate), name="fails")
        await asyncio.sleep(0)
        [live] = [one for one in await asyncio.to_thread(agent.tasks) if one.name == "fails"]
        gate.set()
        with pytest.raises(ValueError, match="as it is meant to"):
            await task
        await asyncio.sleep(0)
        [ended] = [one for one in await asyncio.to_thread(agent.tasks) if one.name == "fails"]
        return live, ended

    live, ended = run(main())
    assert (live.state, ended.state) == ("pending", "error")
    assert live.id == ended.id != 0


def test_jobs_are_told_from_other_tasks(agent: Agent, run: Run) -> None:
    async def main() -> tuple[Task, ...]:
        job, other = loopwatch.spawn(forever(), name="job"), asyncio.create_task(forever(), name="other")
        await asyncio.sleep(0)
        found = await asyncio.to_thread(agent.tasks)
        for task in (job, other):
            task.cancel()
        await asyncio.gather(job, other, return_exceptions=True)
        return found

    jobs = {task.name: task.job for task in run(main())}
    assert (jobs["job"], jobs["other"]) == (True, False)


def test_a_stall_keeps_its_id_when_it_is_over(
    agent: Agent, run: Run, eventually: Callable[[Callable[[], Any]], Any]
) -> None:
    seen = threading.Event()

    def look() -> int:
        try:
            [stall] = eventually(
                lambda: [one for one in agent.stalls() if one.in_progress and one.duration > 0.4]
            )
            return stall.id  # type: ignore[no-any-return]
        finally:
            seen.set()

    async def main() -> int:
        looking = asyncio.create_task(asyncio.to_thread(look))
        await asyncio.sleep(0.05)
        seen.wait()
        return await looking

    going_on = run(main())
    over = eventually(lambda: [one for one in agent.stalls() if not one.in_progress and one.id == going_on])
    assert over[0].duration >= 0.4
