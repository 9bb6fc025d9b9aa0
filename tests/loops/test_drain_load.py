"""A drain under load: whatever two hundred jobs do, each is in the report once, and it ends in time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import re
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, DrainReport
from loopwatch._store.jobs import JOBS

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

TIMEOUT = 3.0
"""Seconds. A tenth of it is enough for what is to end in time, on a quiet machine."""
GRACE = 2.0
"""Seconds that those have who clean up, instead of a part of one. Stubborn jobs use them all..."""
SHORT_GRACE = 1.0
"""...so there are fewer of them where nobody cleans up."""
SLACK = 4.0
"""Seconds that a slow machine may take longer than that. Jobs that are cut, and those that do not let
themselves be, would take for ever."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give jobs that clean up the time they need on a busy machine."""
    monkeypatch.setattr("loopwatch._jobs.drain.GRACE", GRACE)


@pytest.fixture(autouse=True)
def nothing_before() -> Iterator[None]:
    JOBS.clear()
    yield
    JOBS.clear()


class Work:
    """What jobs do until they are drained, and in spite of that."""

    def __init__(self) -> None:
        self.give_in = asyncio.Event()
        """Ends those that will not be cancelled, after the test."""

    async def short(self, number: int) -> None:
        while JOBS.drain_began is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.001 * number)

    async def fails(self, number: int) -> None:
        await self.short(number)
        raise ValueError(number)

    async def in_thread(self, number: int) -> None:
        await self.short(number)
        await asyncio.to_thread(time.sleep, 0.0001 * number)

    async def has_children(self, number: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(self.short(number))

    async def gives_up(self, number: int) -> None:
        await self.short(number)
        raise asyncio.CancelledError

    async def long(self, number: int) -> None:
        await asyncio.sleep(600)

    async def cleans_up(self, number: int) -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.001 * number)

    async def fails_to_clean_up(self, number: int) -> None:
        try:
            await asyncio.sleep(600)
        finally:
            raise OSError(number)

    async def saves(self, number: int) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)

    async def stubborn(self, number: int) -> None:
        while not self.give_in.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.give_in.wait()


KINDS = {
    "short": ("finished", "ok"),
    "fails": ("finished", "error"),
    "in_thread": ("finished", "ok"),
    "has_children": ("finished", "ok"),
    "gives_up": ("finished", "cancelled"),
    "long": ("cancelled", "cancelled"),
    "cleans_up": ("cancelled", "cancelled"),
    "fails_to_clean_up": ("cancelled", "error"),
    "saves": ("cancelled", "ok"),
    "stubborn": ("abandoned", "pending"),
}
"""What becomes of each kind of job: where it stands in the report, and its state."""
EACH = 20


def places(report: DrainReport) -> Counter[tuple[str, str, str]]:
    """Count the jobs in a report by kind, place and state."""
    by_place = {"finished": report.finished, "cancelled": report.cancelled, "abandoned": report.abandoned}
    return Counter(
        (task.name.partition("-")[0], place, task.state)
        for place, tasks in by_place.items()
        for task in tasks
        if task.name is not None and "-" in task.name and not task.name.startswith("Task-")
    )


def test_none_of_two_hundred_is_missing(run: Run, agent: Agent) -> None:
    names = [f"{kind}-{number}" for kind in KINDS for number in range(EACH)]

    async def main() -> tuple[DrainReport, float]:
        work = Work()
        for name in names:
            kind, _, number = name.partition("-")
            loopwatch.spawn(getattr(work, kind)(int(number)), name=name)
        began = time.monotonic()
        report = await loopwatch.drain(TIMEOUT)
        took = time.monotonic() - began
        work.give_in.set()
        return report, took

    report, took = run(main())
    assert places(report) == {(kind, place, state): EACH for kind, (place, state) in KINDS.items()}
    assert TIMEOUT <= took < TIMEOUT + GRACE + SLACK
    assert report.duration == pytest.approx(took, abs=SLACK)
    assert JOBS.counts()["error"] == 2 * EACH


def test_what_becomes_of_them_is_on_the_endpoint(
    run: Run, install: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopwatch._jobs.drain.GRACE", SHORT_GRACE)
    agent = install(prometheus_port=0)

    def scrape() -> dict[str, float]:
        assert agent.prometheus_url is not None
        with urllib.request.urlopen(agent.prometheus_url, timeout=30) as response:
            text = response.read().decode()
        found = re.findall(
            r"^loopwatch_(drain_\w+|jobs_count)(?:\{\w+=\"(\w+)\"\})? (\S+)$", text, re.MULTILINE
        )
        return {" ".join(filter(None, (name, label))): float(value) for name, label, value in found}

    async def main() -> list[dict[str, float]]:
        await asyncio.to_thread(scrape)  # the imports of the first one may take longer than the drain
        work = Work()
        for number in range(10):
            loopwatch.spawn(work.short(number))
            loopwatch.spawn(work.fails(number))
            loopwatch.spawn(work.long(number))
            loopwatch.spawn(work.stubborn(number))
        seen: list[dict[str, float]] = []

        async def looks() -> None:
            while JOBS.drain_began is None:
                await asyncio.sleep(0.01)
            seen.append(await asyncio.to_thread(scrape))

        looking = asyncio.create_task(looks())
        await loopwatch.drain(TIMEOUT)
        await looking
        seen.append(await asyncio.to_thread(scrape))
        work.give_in.set()
        return seen

    during, after = run(main())
    assert during["drain_status draining"] == 1.0
    assert during["drain_status serving"] == during["drain_status forced"] == 0.0
    assert during["drain_duration_seconds"] > 0.0
    assert during["jobs_count running"] >= 20
    assert after["drain_status forced"] == 1.0
    assert after["drain_status draining"] == 0.0
    assert TIMEOUT <= after["drain_duration_seconds"] < TIMEOUT + GRACE + SLACK
    assert after["drain_finished_total"] == 20 + 1  # and the one that looked
    assert after["drain_cancelled_total"] == after["drain_abandoned_total"] == 10
    jobs = {state: after[f"jobs_count {state}"] for state in ("running", "ok", "error", "cancelled")}
    assert jobs == {"running": 10, "ok": 10, "error": 10, "cancelled": 10}


class TestEntangled:
    """Jobs that wait for each other: asyncio passes a cancellation from each to the next, recursively."""

    def test_a_cycle_cannot_be_cancelled(
        self, new_loop: LoopFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("loopwatch._jobs.drain.GRACE", SHORT_GRACE)

        async def main() -> DrainReport:
            jobs: list[asyncio.Task[Any]] = []

            async def waits(number: int) -> None:
                await asyncio.sleep(0)
                await jobs[(number + 1) % 3]

            jobs += [loopwatch.spawn(waits(number), name=f"cycle-{number}") for number in range(3)]
            loopwatch.spawn(Work().long(0), name="long-0")
            return await loopwatch.drain(0.1)

        # Without a Runner, which fails to cancel them as well.
        with contextlib.closing(new_loop()) as loop:
            loop.set_exception_handler(lambda *_: None)
            report = loop.run_until_complete(main())
        JOBS.clear()
        gc.collect()
        assert places(report) == {("cycle", "abandoned", "pending"): 3, ("long", "cancelled", "cancelled"): 1}
        waiting = {task.name: str(task.waiting_on).split("(")[0] for task in report.abandoned}
        assert waiting == {f"cycle-{n}": f"task 'cycle-{(n + 1) % 3}' " for n in range(3)}
        assert report.duration < 0.1 + GRACE + SLACK

    def test_a_chain_longer_than_the_stack_is_cancelled(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The innermost ones are, and end those that wait for them."""
        monkeypatch.setattr("loopwatch._jobs.drain.GRACE", 30.0)  # a busy machine takes its time

        async def main() -> DrainReport:
            async def waits(number: int) -> None:
                await asyncio.sleep(0)
                await jobs[number - 1]

            jobs = [loopwatch.spawn(Work().long(0), name="chain-0")]
            jobs += [loopwatch.spawn(waits(n), name=f"chain-{n}") for n in range(1, 2_000)]
            return await loopwatch.drain(0.1)

        assert places(run(main())) == {("chain", "cancelled", "cancelled"): 2_000}

    def test_no_chain_is_as_long_as_the_stack_is_deep(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Passed on to its end by the last call that the limit admits, a cancellation gets lost there."""
        monkeypatch.setattr("loopwatch._jobs.drain.GRACE", 30.0)  # a busy machine takes its time

        async def waits(inner: asyncio.Task[None]) -> None:
            await asyncio.gather(inner)

        async def main(length: int) -> DrainReport:
            inner = asyncio.create_task(Work().long(0))
            for _ in range(length):
                inner = asyncio.create_task(waits(inner))
            loopwatch.spawn(waits(inner))
            await asyncio.sleep(0)
            return await loopwatch.drain(0)

        usual = sys.getrecursionlimit()
        monkeypatch.setattr("loopwatch._jobs.drain.DEEP", 40)  # with a limit that is as much lower
        sys.setrecursionlimit(len(inspect.stack()) + 170)  # each link takes 1 or, on Python 3.11, 2
        try:
            stuck = [length for length in range(60, 180) if run(main(length)).abandoned]
        finally:
            sys.setrecursionlimit(usual)
        assert stuck == []

    @pytest.mark.parametrize("others", ["jobs", "tasks"])
    def test_who_waits_for_a_long_chain_is_cancelled_as_for_a_short_one(self, run: Run, others: str) -> None:
        """That the chain ends by our doing is not enough: its outcome may be all that a job waits for."""
        start = loopwatch.spawn if others == "jobs" else asyncio.create_task

        async def waits(*inner: asyncio.Task[Any]) -> None:
            await asyncio.gather(*inner, return_exceptions=True)

        async def main() -> tuple[DrainReport, list[asyncio.Task[Any]]]:
            short, inner = start(Work().long(0)), start(Work().long(1))
            for _ in range(300):
                inner = start(waits(inner))
            job = loopwatch.spawn(waits(inner, short))
            await asyncio.sleep(0)
            return await loopwatch.drain(0), [job, short, inner]

        report, tasks = run(main())
        assert (len(report.cancelled), report.finished, report.abandoned) == (303, (), ())
        assert all(task.cancelled() for task in tasks)

    def test_who_cleans_up_at_the_end_of_a_long_chain_is_left_to_it(self, run: Run) -> None:
        cleaned: list[int] = []

        async def main() -> DrainReport:
            async def cleans_up() -> None:
                try:
                    await asyncio.sleep(600)
                finally:
                    for number in range(20):
                        await asyncio.sleep(0)
                        cleaned.append(number)

            async def waits(inner: asyncio.Task[None]) -> None:
                await inner

            inner = loopwatch.spawn(cleans_up())
            for _ in range(300):
                inner = loopwatch.spawn(waits(inner))
            return await loopwatch.drain(0)

        assert len(run(main()).cancelled) == 301
        assert cleaned == list(range(20))

    def test_who_waits_for_a_job_that_is_cancelled_is_cancelled_with_it(self, run: Run) -> None:
        """No task of ``spawn``, and not the drain's to cancel; but it did not end by itself either."""

        async def main() -> DrainReport:
            job = loopwatch.spawn(Work().long(0), name="long-0")
            waiter = asyncio.create_task(asyncio.wait_for(job, None), name="waiter-0")
            await asyncio.sleep(0)
            report = await loopwatch.drain(0.1)
            assert waiter.cancelled()
            return report

        found = places(run(main()))
        assert found == {("long", "cancelled", "cancelled"): 1, ("waiter", "cancelled", "cancelled"): 1}
