"""A drain waits for work under way, on every kind of loop, and says what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from opentelemetry import trace

import loopwatch
from loopwatch import Agent, DrainReport, Task
from loopwatch._journal import Journal
from loopwatch._store.jobs import JOBS

Run = Callable[[Coroutine[Any, Any, Any]], Any]

request_id = contextvars.ContextVar("request_id", default="none")

AMPLE = 30.0
"""Seconds: a drain that takes as long has failed."""
SLACK = 10.0
"""Seconds that a busy machine may take longer. What the drain does not wait for would take for ever."""


@pytest.fixture(autouse=True)
def nothing_before() -> Iterator[None]:
    JOBS.clear()
    yield
    JOBS.clear()


async def forever() -> None:
    await asyncio.Event().wait()


async def stubborn(give_in: asyncio.Event) -> None:
    """End when told to, and not when cancelled."""
    while not give_in.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await give_in.wait()


async def fail() -> None:
    await asyncio.sleep(0.01)
    raise ValueError("no stock")


def names(tasks: tuple[Task, ...]) -> list[str | None]:
    return [task.name for task in tasks]


def only(tasks: tuple[Task, ...]) -> Task:
    (task,) = tasks
    return task


@contextlib.asynccontextmanager
async def background(*coros: Coroutine[Any, Any, Any]) -> Any:
    """Run coroutines in tasks of their own, named by their number, for as long as the block."""
    tasks = [asyncio.create_task(coro, name=str(number)) for number, coro in enumerate(coros)]
    await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TestWaiting:
    """What a drain waits for, and what not."""

    def test_for_jobs(self, run: Run) -> None:
        async def main() -> DrainReport:
            for number in range(3):
                loopwatch.spawn(asyncio.sleep(0.01 * number), name=f"job-{number}")
            return await loopwatch.drain(AMPLE)

        report = run(main())
        assert names(report.finished) == ["job-0", "job-1", "job-2"]
        assert {task.state for task in report.finished} == {"ok"}
        assert not report.forced

    def test_for_tasks(self, run: Run) -> None:
        async def main() -> DrainReport:
            async with background(asyncio.sleep(0.02)):
                return await loopwatch.drain(AMPLE)

        assert names(run(main()).finished) == ["0"]

    def test_for_tasks_that_come_meanwhile(self, run: Run) -> None:
        ended: list[str] = []

        async def child(depth: int) -> None:
            await asyncio.sleep(0.01)
            ended.append(f"child-{depth}")
            if depth:
                child_task = asyncio.create_task(child(depth - 1))
                await asyncio.sleep(0)
                del child_task

        async def main() -> DrainReport:
            loopwatch.spawn(child(3))
            return await loopwatch.drain(AMPLE)

        assert not run(main()).forced
        assert ended == ["child-3", "child-2", "child-1", "child-0"]

    def test_for_nothing(self, run: Run) -> None:
        async def main() -> DrainReport:
            return await loopwatch.drain(AMPLE)

        report = run(main())
        assert report.finished == report.cancelled == report.abandoned == ()
        assert report.duration < AMPLE / 2

    def test_not_for_daemons_nor_who_waits_for_one(self, run: Run) -> None:
        async def main() -> DrainReport:
            async with background(forever()) as (daemon,):
                loopwatch.daemon(daemon)
                async with background(asyncio.wait([daemon])):
                    return await loopwatch.drain(AMPLE)

        assert run(main()).finished == ()

    def test_not_for_the_task_the_loop_runs_for(self, run: Run) -> None:
        async def main() -> DrainReport:
            reports: list[DrainReport] = []
            drained = asyncio.Event()

            async def drainer() -> None:
                reports.append(await loopwatch.drain(AMPLE))
                drained.set()

            async with background(drainer()):
                await drained.wait()  # on an event: nothing shows that we wait for the drain
            return reports[0]

        assert run(main()).finished == ()

    def test_not_for_another_drain(self, run: Run) -> None:
        async def main() -> list[DrainReport]:
            loopwatch.spawn(asyncio.sleep(0.02), name="job")
            return await asyncio.gather(loopwatch.drain(AMPLE), loopwatch.drain(AMPLE))

        assert [names(report.finished) for report in run(main())] == [["job"], ["job"]]


async def in_task_group(task: asyncio.Task[Any]) -> None:
    async def child() -> None:
        await task

    async with asyncio.TaskGroup() as group:
        group.create_task(child())


WAITS: dict[str, Callable[[asyncio.Task[Any]], Any]] = {
    "await": lambda task: asyncio.wait_for(task, None),
    "gather": lambda task: asyncio.gather(task, asyncio.sleep(0)),
    "shield": lambda task: asyncio.shield(task),
    "wait": lambda task: asyncio.wait([task]),
    "wait for some time": lambda task: asyncio.wait([task], timeout=AMPLE),
    "wait_for": lambda task: asyncio.wait_for(task, AMPLE),
    "wait_for a shield": lambda task: asyncio.wait_for(asyncio.shield(task), AMPLE),
    "task group": in_task_group,
}


@pytest.mark.parametrize("how", WAITS)
def test_who_waits_for_the_caller_is_not_waited_for(how: str, run: Run) -> None:
    async def waits(task: asyncio.Task[Any]) -> None:
        await WAITS[how](task)

    async def main() -> DrainReport:
        caller = asyncio.create_task(loopwatch.drain(AMPLE))
        async with background(waits(caller)) as (waiter,), background(asyncio.wait([waiter])):
            return await caller

    report = run(main())
    assert report.finished == report.abandoned == ()


def test_who_comes_to_wait_later_is_let_go(run: Run) -> None:
    async def main() -> DrainReport:
        gate = asyncio.Event()
        caller = asyncio.create_task(loopwatch.drain(AMPLE))

        async def waits() -> None:
            await gate.wait()
            await caller

        async with background(waits()):
            await asyncio.sleep(0.05)  # the drain has looked at it
            gate.set()
            return await caller

    assert run(main()).finished == ()


class TestTimeout:
    """What becomes of tasks that do not finish in time."""

    def test_jobs_are_cancelled_and_others_abandoned(self, run: Run) -> None:
        async def main() -> tuple[DrainReport, bool]:
            loopwatch.spawn(forever(), name="job")
            loopwatch.spawn(asyncio.sleep(0.01), name="quick")
            async with background(forever()) as (task,):
                return await loopwatch.drain(1.0), task.done()

        report, touched = run(main())
        assert names(report.finished) == ["quick"]
        assert names(report.cancelled) == ["job"]
        assert names(report.abandoned) == ["0"]
        assert only(report.cancelled).state == "cancelled"
        assert only(report.abandoned).state == "pending"
        assert not touched
        assert 1.0 <= report.duration < 2.0 + SLACK
        assert report.timeout == 1.0
        assert report.forced

    def test_all_are_cancelled_on_request(self, run: Run) -> None:
        async def main() -> DrainReport:
            loopwatch.spawn(forever(), name="job")
            async with background(forever()):
                return await loopwatch.drain(0.1, cancel="all")

        report = run(main())
        assert names(report.cancelled) == ["job", "0"]
        assert report.abandoned == ()

    def test_a_job_that_will_not_be_cancelled_is_abandoned(self, run: Run) -> None:
        async def main() -> DrainReport:
            give_in = asyncio.Event()
            loopwatch.spawn(stubborn(give_in), name="stubborn")
            report = await loopwatch.drain(0.1)
            give_in.set()
            return report

        report = run(main())
        assert names(report.abandoned) == ["stubborn"]
        assert report.duration < 1.1 + SLACK

    def test_a_job_that_finishes_when_cancelled_is_cancelled_and_ok(self, run: Run) -> None:
        async def saves() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await forever()

        async def main() -> DrainReport:
            loopwatch.spawn(saves(), name="saves")
            return await loopwatch.drain(0.1)

        assert only(run(main()).cancelled).state == "ok"

    def test_of_zero_cancels_at_once(self, run: Run) -> None:
        async def main() -> DrainReport:
            loopwatch.spawn(forever(), name="job")
            return await loopwatch.drain(0)

        report = run(main())
        assert names(report.cancelled) == ["job"]
        assert report.duration < 1.0 + SLACK

    def test_none_of_very_many_is_missing(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("loopwatch._jobs.drain.GRACE", AMPLE)  # a busy machine takes its time

        async def main() -> DrainReport:
            for number in range(5000):
                loopwatch.spawn(asyncio.sleep(0.01) if number % 2 else forever(), name=str(number))
            return await loopwatch.drain(3.0)

        report = run(main())
        assert len(report.finished) == 2500
        assert len(report.cancelled) == 2500
        assert {*names(report.finished), *names(report.cancelled)} == set(map(str, range(5000)))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"timeout": -1}, "timeout=-1"),
            ({"timeout": True}, "not a number"),
            ({"cancel": "none"}, "'none'"),
        ],
    )
    def test_arguments_that_cannot_work_are_refused(
        self, run: Run, arguments: dict[str, Any], message: str
    ) -> None:
        async def main() -> None:
            with pytest.raises(loopwatch.ConfigurationError, match=message):
                await loopwatch.drain(**arguments)

        run(main())


class TestRecord:
    """What a report says about a task."""

    def test_who_and_since_when(self, run: Run) -> None:
        async def main() -> DrainReport:
            loopwatch.spawn(forever(), name="mail")
            await asyncio.sleep(0.05)
            return await loopwatch.drain(0.1)

        began = time.time()
        task = only(run(main()).cancelled)
        assert task.name == "mail"
        assert task.coroutine == "forever"
        assert task.site.function.endswith("main")
        assert task.site.file == __file__
        assert 0.15 <= task.age < AMPLE
        assert 0.15 <= (task.duration or 0.0) <= task.age
        assert abs(task.started_at - began) < AMPLE

    def test_where_it_stood(self, run: Run) -> None:
        async def work() -> None:
            await forever()

        async def main() -> DrainReport:
            loopwatch.spawn(work(), timeout=AMPLE)
            return await loopwatch.drain(0.1)

        task = only(run(main()).cancelled)
        functions = [frame.function.rpartition(".")[2] for frame in task.await_stack]
        assert functions[:2] == ["work", "forever"]
        assert task.waiting_on == "Event.wait"

    def test_how_it_failed(self, run: Run) -> None:
        async def main() -> DrainReport:
            loopwatch.spawn(fail())
            return await loopwatch.drain(AMPLE)

        task = only(run(main()).finished)
        assert (task.state, task.exception) == ("error", "ValueError")

    def test_a_task_is_named_by_the_agents_record(self, run: Run, agent: Agent) -> None:
        async def main() -> DrainReport:
            async with background(forever()):
                return await loopwatch.drain(0.1)

        task = only(run(main()).abandoned)
        assert task.site.function.startswith("background")
        assert task.loop_name == "main"

    def test_whose_work_it_is(self, run: Run, agent: Agent) -> None:
        loopwatch.watch_var(request_id)
        span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))

        async def main() -> DrainReport:
            request_id.set("r-1")
            with trace.use_span(span):
                loopwatch.spawn(forever())
            return await loopwatch.drain(0.1)

        task = only(run(main()).cancelled)
        assert task.context == {"request_id": "r-1"}
        assert task.trace_id == f"{0xABC:032x}"
        assert task.span_id == f"{0xDEF:016x}"

    @pytest.mark.usefixtures("without_collector")
    def test_the_exception_of_a_task_is_left_to_be_retrieved(self, run: Run) -> None:
        async def main() -> list[str]:
            unhandled: list[str] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: unhandled.append(context["message"]))
            task = asyncio.create_task(fail())
            await loopwatch.drain(AMPLE)
            del task
            gc.collect()
            return unhandled

        assert run(main()) == ["Task exception was never retrieved"]


class TestShow:
    """The program's own ``show`` functions, which may do anything."""

    value = contextvars.ContextVar[object]("value")

    def drained(self, run: Run) -> DrainReport:
        async def main() -> DrainReport:
            self.value.set(object())
            loopwatch.spawn(asyncio.sleep(0.01))
            return await loopwatch.drain(AMPLE)

        return run(main())

    def test_they_run_off_the_loop(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("loopwatch._jobs.drain.PATIENCE", AMPLE)  # a busy machine takes its time
        threads: list[str] = []

        def show(_: object) -> str:
            threads.append(threading.current_thread().name)
            return "shown"

        loopwatch.watch_var(self.value, "off-loop", show)
        assert only(self.drained(run).finished).context["off-loop"] == "shown"
        assert threading.current_thread().name not in threads

    def test_one_that_hangs_holds_up_nothing(self, run: Run) -> None:
        let_go = threading.Event()
        loopwatch.watch_var(self.value, "hangs", lambda _: let_go.wait(AMPLE))
        report = self.drained(run)
        let_go.set()
        for thread in threading.enumerate():
            if thread.name == "loopwatch-drain":
                thread.join(AMPLE)
        assert only(report.finished).context == {}
        assert report.duration < AMPLE


class TestWaitFor:
    """Up to Python 3.11, ``wait_for`` runs what it waits for in a task of its own."""

    async def _serve(self, started: asyncio.Event) -> None:
        started.set()
        await asyncio.wait_for(asyncio.wait_for(forever(), AMPLE), 2 * AMPLE)

    def test_of_a_daemon_it_is_not_waited_for(self, run: Run) -> None:
        async def main() -> DrainReport:
            started = asyncio.Event()
            server = loopwatch.daemon(asyncio.create_task(self._serve(started)))
            await started.wait()
            await asyncio.sleep(0)
            report = await loopwatch.drain(AMPLE)
            server.cancel()
            return report

        report = run(main())
        assert (report.finished, report.abandoned) == ((), ())
        assert report.duration < AMPLE

    def test_of_what_the_loop_runs_for_it_is_not_waited_for(self, run: Run) -> None:
        async def main() -> DrainReport:
            draining = asyncio.get_running_loop().create_future()

            async def drain() -> None:
                draining.set_result(await loopwatch.drain(AMPLE))

            task = asyncio.create_task(drain())
            report: DrainReport = await asyncio.wait_for(asyncio.shield(draining), 2 * AMPLE)
            await task
            return report

        report = run(main())
        assert (report.finished, report.abandoned) == ((), ())

    def test_a_job_is(self, run: Run) -> None:
        async def main() -> DrainReport:
            job = loopwatch.spawn(asyncio.sleep(0.05), name="job")

            async def serve() -> None:
                await asyncio.wait_for(job, AMPLE)
                await forever()

            server = loopwatch.daemon(asyncio.create_task(serve()))
            await asyncio.sleep(0)
            report = await loopwatch.drain(AMPLE)
            server.cancel()
            return report

        assert names(run(main()).finished) == ["job"]


def test_a_signal_ends_it_as_soon_as_it_has_said_that_it_drains(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    def say(self: Journal, level: int, message: str, *args: object, **more: Any) -> None:
        if "draining" in message:
            signal.raise_signal(signal.SIGTERM)

    async def main() -> DrainReport:
        loopwatch.spawn(forever(), name="job")
        return await loopwatch.drain(AMPLE)

    monkeypatch.setattr(Journal, "say", say)
    before = signal.signal(signal.SIGTERM, lambda signum, _: heard.append(signum))
    try:
        report = run(main())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert names(report.abandoned) == ["job"]
    assert report.duration < AMPLE


class TestEnd:
    """What a drain leaves behind."""

    def test_it_is_logged(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "loopwatch")

        async def main() -> None:
            loopwatch.spawn(forever(), name="mail")
            await loopwatch.drain(0.1)
            await loopwatch.drain(AMPLE)

        run(main())
        began, ended, began_again, ended_well = (record.getMessage() for record in caplog.records)
        assert "draining for up to 0.1 s; tasks to wait for: 1" in began
        assert "0 finished, 1 cancelled, 0 abandoned\n  cancelled: task 'mail' (forever)" in ended
        assert "waiting for Event.wait" in ended
        assert "tasks to wait for: 0" in began_again
        assert "drained in" in ended_well

    def test_its_phases_are_facts(self, run: Run, agent: Agent) -> None:
        def facts() -> tuple[list[str], dict[str, float]]:
            points = agent.snapshot().points
            (status,) = (point.labels for point in points["drain_status"] if point.value)
            stems = ("drain_duration", "drain_cancelled")
            return list(status), {stem: points[stem][0].value for stem in stems if stem in points}  # type: ignore[misc]

        seen: list[tuple[list[str], dict[str, float]]] = []

        async def main() -> None:
            async def looks() -> None:
                while JOBS.drain_began is None:
                    await asyncio.sleep(0.01)
                seen.append(facts())
                await forever()

            seen.append(facts())
            loopwatch.spawn(looks())
            await loopwatch.drain(1.0)
            seen.append(facts())
            await loopwatch.drain(AMPLE)
            seen.append(facts())

        run(main())
        (serving, before), (draining, during), (forced, after), (drained, _) = seen
        assert [serving, draining, forced, drained] == [["serving"], ["draining"], ["forced"], ["drained"]]
        assert before == {"drain_cancelled": 0}
        assert 0.0 < during["drain_duration"] < after["drain_duration"]
        assert after["drain_cancelled"] == 1

    def test_the_agent_keeps_the_last_16_reports(self, run: Run, agent: Agent) -> None:
        async def main() -> list[DrainReport]:
            return [await loopwatch.drain(AMPLE) for _ in range(20)]

        reports = run(main())
        kept = agent.drains()
        assert agent.snapshot().drains == kept
        assert len(kept) == 16
        assert all(one is other for one, other in zip(kept, reports[-16:], strict=True))

    def test_a_caller_that_is_cancelled_tells_what_is_left(
        self, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            loopwatch.spawn(forever(), name="mail")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loopwatch.drain(AMPLE), 0.05)
            await loopwatch.spawn(asyncio.sleep(0))  # and jobs are taken again

        run(main())
        assert "abandoned: task 'mail'" in caplog.text

    def test_tasks_that_were_abandoned_carry_nothing_of_it(self, run: Run) -> None:
        async def main() -> list[Any]:
            async with background(forever()) as (task,):
                before = list(task._callbacks or ())
                await loopwatch.drain(0)
                return [callback for callback in task._callbacks or () if callback not in before]

        assert run(main()) == []
