"""Jobs are held until they end, and their failure is told at once."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest
from opentelemetry import trace

import loopwatch
from loopwatch._context.backing import backing, lean_on
from loopwatch._events import JobEnded
from loopwatch._store.jobs import JOBS
from loopwatch._store.outbox import Outbox

request_id = contextvars.ContextVar("request_id", default="none")


@pytest.fixture
def install() -> Iterator[Callable[..., loopwatch.Agent]]:
    yield partial(loopwatch.install, prometheus_port=None)
    loopwatch.uninstall()


async def fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("no stock")


async def forever() -> None:
    await asyncio.Event().wait()


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait until the job has ended and been booked."""
    await asyncio.wait([task])
    await asyncio.sleep(0)


class TestJob:
    """What a job is while it runs."""

    def test_it_is_held_until_it_ends(self) -> None:
        async def main() -> tuple[bool, bool]:
            gate = asyncio.Event()
            gone = weakref.ref(loopwatch.spawn(gate.wait()))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            gc.collect()
            held = gone() is not None
            gate.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
            return held, gone() is None

        assert asyncio.run(main()) == (True, True)

    def test_its_result_can_be_awaited(self) -> None:
        async def answer() -> int:
            return 42

        async def main() -> int:
            return await loopwatch.spawn(answer())

        assert asyncio.run(main()) == 42

    def test_it_has_the_name_it_was_given(self) -> None:
        async def main() -> str:
            return loopwatch.spawn(asyncio.sleep(0), name="mail").get_name()

        assert asyncio.run(main()) == "mail"

    def test_it_runs_in_a_copy_of_the_context(self) -> None:
        async def work() -> str:
            seen = request_id.get()
            request_id.set("changed")
            return seen

        async def main() -> tuple[str, str]:
            request_id.set("r-1")
            return await loopwatch.spawn(work()), request_id.get()

        assert asyncio.run(main()) == ("r-1", "r-1")

    def test_its_coroutine_is_the_one_it_was_given(self) -> None:
        async def main() -> bool:
            coro = asyncio.sleep(0)
            return loopwatch.spawn(coro).get_coro() is coro

        assert asyncio.run(main())

    def test_its_site_is_who_spawned_it(self, install: Callable[..., loopwatch.Agent]) -> None:
        agent = install()

        async def shop() -> None:
            await loopwatch.spawn(asyncio.sleep(0), name="by-shop")

        asyncio.run(shop())
        (task,) = [task for task in agent.tasks() if task.name == "by-shop"]
        assert task.site.function.endswith("shop")


class TestTimeout:
    """Jobs with a time limit."""

    def test_it_fails_with_timeout_error(self) -> None:
        async def main() -> None:
            with pytest.raises(TimeoutError):
                await loopwatch.spawn(forever(), timeout=0.01)

        asyncio.run(main())

    def test_it_keeps_its_name(self) -> None:
        async def main() -> str:
            coro: Any = loopwatch.spawn(asyncio.sleep(0), timeout=5).get_coro()
            return str(coro.__qualname__)

        assert asyncio.run(main()) == "sleep"

    def test_one_cancelled_before_its_first_step_leaves_no_warning(self) -> None:
        async def main() -> None:
            task = loopwatch.spawn(forever(), timeout=5)
            task.cancel()
            await ended(task)

        asyncio.run(main())
        gc.collect()  # warnings are errors here

    @pytest.mark.parametrize("timeout", [-1, float("nan"), True, "5"])
    def test_one_that_cannot_be_is_refused(self, timeout: Any) -> None:
        async def main() -> None:
            with pytest.raises(loopwatch.ConfigurationError, match="timeout"):
                loopwatch.spawn(forever(), timeout=timeout)

        asyncio.run(main())
        gc.collect()


class TestFailure:
    """What is said of a job that fails."""

    def test_it_is_logged_at_once_with_its_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            await ended(loopwatch.spawn(fail(), name="mail"))
            (record,) = caplog.records
            assert record.levelno == logging.ERROR
            assert "job 'mail' (fail) failed after" in record.getMessage()
            assert "ValueError" in record.getMessage()
            assert "main" in record.getMessage()
            assert record.exc_info is not None
            assert str(record.exc_info[1]) == "no stock"

        asyncio.run(main())

    def test_it_is_not_told_again_as_never_retrieved(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            await ended(loopwatch.spawn(fail()))
            gc.collect()

        asyncio.run(main())
        assert [record.name for record in caplog.records] == ["loopwatch"]

    def test_its_context_is_told(
        self, install: Callable[..., loopwatch.Agent], caplog: pytest.LogCaptureFixture
    ) -> None:
        install()
        loopwatch.watch_var(request_id)

        async def main() -> None:
            request_id.set("r-7")
            await ended(loopwatch.spawn(fail()))

        asyncio.run(main())
        loopwatch.uninstall()  # the journal has written everything then
        assert "request_id=r-7" in caplog.text

    def test_a_handler_that_raises_does_no_harm(self) -> None:
        def refuse(record: logging.LogRecord) -> bool:
            raise RuntimeError("a filter of the program's")

        async def main() -> list[Any]:
            unhandled: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            await ended(loopwatch.spawn(fail()))
            return unhandled

        logger = logging.getLogger("loopwatch")
        logger.addFilter(refuse)
        try:
            assert asyncio.run(main()) == []
        finally:
            logger.removeFilter(refuse)

    def test_a_cancelled_one_is_not_told(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            task = loopwatch.spawn(forever())
            task.cancel()
            await ended(task)

        asyncio.run(main())
        assert not caplog.records


class TestRefusal:
    """Calls that cannot work; the coroutine is closed, or its warning would fail these tests."""

    def test_what_is_no_coroutine(self) -> None:
        async def main() -> None:
            with pytest.raises(TypeError, match=r"got function, not a coroutine.*spawn\(work\(\)\)"):
                loopwatch.spawn(forever)  # type: ignore[arg-type]

        asyncio.run(main())

    def test_without_a_running_loop(self) -> None:
        with pytest.raises(loopwatch.LoopwatchError, match="no event loop runs in this thread"):
            loopwatch.spawn(forever())
        gc.collect()

    def test_during_a_drain(self) -> None:
        async def main() -> None:
            refused: list[str] = []

            async def work() -> None:
                await asyncio.sleep(0)
                with pytest.raises(loopwatch.Draining, match="put the work back") as raised:
                    loopwatch.spawn(forever(), name="late")
                refused.append(str(raised.value))

            loopwatch.spawn(work())
            await loopwatch.drain(30)
            assert len(refused) == 1
            assert "'late'" in refused[0]
            await loopwatch.spawn(asyncio.sleep(0))  # it is over now

        asyncio.run(main())
        gc.collect()


def counted(main: Coroutine[Any, Any, None]) -> dict[str, int]:
    asyncio.run(main)
    return JOBS.counts()


class TestCounts:
    """Jobs are counted by what became of them."""

    def test_by_state(self) -> None:
        seen: list[dict[str, int]] = []

        async def main() -> None:
            jobs = [loopwatch.spawn(coro) for coro in (asyncio.sleep(0), fail(), forever(), forever())]
            await ended(jobs[1])
            jobs[3].cancel()
            await ended(jobs[3])
            seen.append(JOBS.counts())
            jobs[2].cancel()
            await ended(jobs[2])

        assert counted(main()) == {"running": 0, "ok": 1, "error": 1, "cancelled": 2}
        assert seen == [{"running": 1, "ok": 1, "error": 1, "cancelled": 1}]

    def test_of_loops_that_are_gone(self) -> None:
        async def main() -> None:
            await ended(loopwatch.spawn(asyncio.sleep(0)))

        for _ in range(3):
            counted(main())
        assert counted(main())["ok"] == 4

    def test_of_a_loop_closed_under_its_jobs(self) -> None:
        async def main() -> None:
            loopwatch.spawn(forever())

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        (task,) = asyncio.all_tasks(loop)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is, on purpose
        loop.close()
        assert JOBS.counts()["running"] == 1

        async def other() -> None:
            await ended(loopwatch.spawn(asyncio.sleep(0)))

        assert counted(other())["running"] == 0


def test_jobs_work_when_loopwatch_is_disabled(
    install: Callable[..., loopwatch.Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPWATCH_DISABLED", "1")
    install()

    async def main() -> loopwatch.DrainReport:
        loopwatch.spawn(asyncio.sleep(0.01), name="mail")
        return await loopwatch.drain(30)

    assert [task.name for task in asyncio.run(main()).finished] == ["mail"]


class TestExport:
    """What is handed to whoever exports jobs."""

    @pytest.fixture
    def outbox(self) -> Iterator[Outbox]:
        parts = backing()
        outbox = Outbox(is_open=True, takes_jobs=True)
        lean_on(parts._replace(outbox=outbox))
        yield outbox
        lean_on(None)

    def test_a_job_that_is_over_is_told_of_once(self, outbox: Outbox) -> None:
        span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, False, trace.TraceFlags(1)))

        async def main() -> float:
            began = time.monotonic()
            with trace.use_span(span):
                await ended(loopwatch.spawn(asyncio.sleep(0.05), name="nap"))
            return time.monotonic() - began

        took = asyncio.run(main())
        [event] = outbox.take()
        assert isinstance(event, JobEnded)
        job = event.record()
        assert (job.name, job.coroutine, job.state, job.exception) == ("nap", "sleep", "ok", None)
        assert (job.trace_id, job.span_id, job.trace_flags) == (f"{0xABC:032x}", f"{0xDEF:016x}", 1)
        assert job.site.function.endswith("main")
        assert job.duration is not None
        assert 0.05 <= job.duration <= took
        assert job.started_at == pytest.approx(time.time() - took, abs=30)

    @pytest.mark.parametrize(
        ("work", "state", "error"), [(fail, "error", "ValueError"), (forever, "cancelled", None)]
    )
    def test_how_it_ended(
        self, outbox: Outbox, work: Callable[[], Coroutine[Any, Any, None]], state: str, error: str | None
    ) -> None:
        async def main() -> None:
            task = loopwatch.spawn(work())
            await asyncio.sleep(0)
            task.cancel() if work is forever else None
            await ended(task)

        asyncio.run(main())
        [event] = outbox.take()
        assert isinstance(event, JobEnded)
        assert (event.record().state, event.record().exception) == (state, error)

    def test_an_event_that_waits_holds_nothing_of_the_programs(self, outbox: Outbox) -> None:
        class Thing:
            pass

        async def work(thing: Thing) -> Thing:
            return thing

        async def main() -> weakref.ref[Thing]:
            thing = Thing()
            await ended(loopwatch.spawn(work(thing)))
            return weakref.ref(thing)

        thing = asyncio.run(main())
        gc.collect()
        assert thing() is None
        assert len(outbox.take()) == 1

    def test_nothing_is_told_unless_somebody_wants_jobs(self, outbox: Outbox) -> None:
        async def main() -> None:
            await ended(loopwatch.spawn(asyncio.sleep(0)))

        asyncio.run(main())
        assert len(outbox.take()) == 1
        for without in (Outbox(is_open=True), Outbox(takes_jobs=True)):
            lean_on(backing()._replace(outbox=without))
            asyncio.run(main())
            assert without.take() == []
