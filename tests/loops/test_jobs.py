"""Jobs of ``spawn()``, on every kind of loop: held, logged if they fail, cut off if they take too long."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import re
import time
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from loopwatch._store.jobs import JOBS

Run = Callable[[Coroutine[Any, Any, Any]], Any]

pytestmark = pytest.mark.usefixtures("without_collector")

request_id = contextvars.ContextVar("request_id", default="none")


@pytest.fixture(autouse=True)
def nothing_before() -> Iterator[None]:
    JOBS.clear()
    yield
    JOBS.clear()


async def wait(gate: asyncio.Event) -> str:
    await gate.wait()
    return "done"


async def fail() -> None:
    raise ValueError("no stock")


async def fail_later() -> None:
    await asyncio.sleep(0.01)
    raise ValueError("no stock")


def test_it_is_held_while_it_waits_and_no_longer(run: Run) -> None:
    async def main() -> tuple[bool, bool]:
        gate = asyncio.Event()
        job = weakref.ref(loopwatch.spawn(wait(gate)))
        for _ in range(3):
            await asyncio.sleep(0)
            gc.collect()
        held = job() is not None
        gate.set()
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        return held, job() is not None

    assert run(main()) == (True, False)


@pytest.mark.parametrize("coroutine", [fail, fail_later])
def test_a_failure_is_told_at_once_and_counted(
    run: Run,
    agent: Agent,
    caplog: pytest.LogCaptureFixture,
    coroutine: Callable[[], Coroutine[Any, Any, None]],
    eventually: Callable[[Callable[[], Any]], Any],
) -> None:
    """Also of one that fails in its first step, which an eager loop runs within ``spawn``."""
    loopwatch.watch_var(request_id)

    async def main() -> tuple[str, float]:
        request_id.set("r-1")
        loopwatch.spawn(coroutine(), name="mail")
        failed = time.monotonic()
        await asyncio.to_thread(eventually, lambda: "no stock" in caplog.text)
        waited = time.monotonic() - failed
        return caplog.records[-1].getMessage(), waited

    with caplog.at_level(logging.ERROR, "loopwatch"):
        told, waited = run(main())
    assert re.match(
        rf"loopwatch: job 'mail' \({coroutine.__qualname__}\) failed after [0-4]\.\d s: ValueError", told
    )
    assert f"{main.__qualname__} ({__file__}:" in told
    assert told.endswith("; request_id=r-1")
    assert waited < 5.0
    assert "ValueError: no stock" in caplog.text  # the traceback
    points = {point.labels[0]: point.value for point in agent.snapshot().points["jobs"]}
    assert points == {"running": 0, "ok": 0, "error": 1, "cancelled": 0}
    assert agent.lost() == ()


def test_one_that_takes_too_long_fails_with_a_timeout(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> float:
        began = time.monotonic()
        job = loopwatch.spawn(wait(asyncio.Event()), name="slow", timeout=0.2)
        with pytest.raises(TimeoutError):
            await job
        return time.monotonic() - began

    assert 0.19 <= run(main()) < 5.0
    assert re.search(r"job 'slow' \(wait\) failed after [0-4]\.\d s", caplog.text)
    assert JOBS.counts() == {"running": 0, "ok": 0, "error": 1, "cancelled": 0}


def test_one_that_is_in_time_gives_its_result(run: Run) -> None:
    async def main() -> str:
        gate = asyncio.Event()
        job = loopwatch.spawn(wait(gate), timeout=30)
        asyncio.get_running_loop().call_later(0.01, gate.set)
        return await job

    assert run(main()) == "done"


def test_during_a_drain_it_is_refused_and_its_coroutine_closed(run: Run) -> None:
    async def main() -> None:
        refused: list[str] = []

        async def work() -> None:
            while JOBS.drain_began is None:
                await asyncio.sleep(0.01)
            late = wait(asyncio.Event())
            with pytest.raises(loopwatch.Draining) as raised:
                loopwatch.spawn(late, name="late")
            refused.append(str(raised.value))
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await late

        loopwatch.spawn(work())
        report = await loopwatch.drain(30)
        assert [task.state for task in report.finished] == ["ok"]
        assert "'late'" in refused[0]
        assert await loopwatch.spawn(asyncio.sleep(0, "taken again")) == "taken again"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())
        gc.collect()


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_coroutine_for_which_no_task_is_made_is_closed(run: Run, timeout: float | None) -> None:
    def refuses(*_: Any, **options: Any) -> Any:
        raise RuntimeError("no more tasks")

    async def main() -> bool:
        asyncio.get_running_loop().set_task_factory(refuses)
        work = asyncio.sleep(600)
        try:
            with pytest.raises(RuntimeError, match="no more tasks"):
                loopwatch.spawn(work, timeout=timeout)
        finally:
            asyncio.get_running_loop().set_task_factory(None)
        return work.cr_frame is None

    assert run(main())
