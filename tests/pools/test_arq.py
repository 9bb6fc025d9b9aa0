"""arq takes no redis >= 6, so on the newest versions this module has an environment of its own."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import loopwatch

from .experiment import pool_of
from .servers import SECRET

KIND = "arq"


def test_arq(redis_url: str) -> None:
    connections = pytest.importorskip("arq.connections", reason="needs: arq")
    worker = pytest.importorskip("arq.worker", reason="needs: arq")

    async def greet(context: object, whom: str) -> str:
        return whom

    async def main() -> str:
        pool = await connections.create_pool(connections.RedisSettings.from_dsn(redis_url))
        job = await pool.enqueue_job("greet", "the queue")
        greeter = worker.Worker(
            [worker.func(greet, name="greet")], redis_pool=pool, burst=True, handle_signals=False
        )
        await greeter.async_run()
        whom = await job.result(timeout=60)
        await greeter.close()
        return whom

    assert asyncio.run(main()) == "the queue"


@pytest.mark.parametrize("installed", ["before", "after"])
def test_five_jobs_for_two_places(redis_url: str, installed: str, caplog: pytest.LogCaptureFixture) -> None:
    connections = pytest.importorskip("arq.connections", reason="needs: arq")
    worker = pytest.importorskip("arq.worker", reason="needs: arq")
    caplog.set_level(logging.DEBUG, logger="loopwatch")

    async def main() -> None:
        queue = f"arq:{installed}"
        agent = loopwatch.install(prometheus_port=None) if installed == "before" else None
        leave = asyncio.Semaphore(0)

        async def hold(context: object) -> None:
            await leave.acquire()

        async def until(used: int) -> Any:
            async with asyncio.timeout(60):
                while (pool := await pool_of(agent, KIND)).used != used:
                    await asyncio.sleep(0)
            return pool

        pool = await connections.create_pool(connections.RedisSettings.from_dsn(redis_url))
        holder = worker.Worker(
            [worker.func(hold, name="hold")],
            redis_pool=pool,
            queue_name=queue,
            max_jobs=2,
            burst=True,
            handle_signals=False,
            poll_delay=0.01,
        )
        agent = agent or loopwatch.install(prometheus_port=None)
        for _ in range(5):
            await pool.enqueue_job("hold", _queue_name=queue)
        runs = asyncio.create_task(holder.async_run())
        if installed == "after":
            while not holder.job_counter:
                await asyncio.sleep(0)
        full = await until(2)
        assert (full.max, full.idle, full.pending, full.wait_count) == (2, 0, None, None)
        assert (full.label, full.instances, full.created) == (queue, 1, 1)
        for _ in range(3):
            leave.release()
        await until(2)
        for _ in range(2):
            leave.release()
        await runs
        assert (await until(0)).idle == 2
        said = [repr(agent.snapshot()), repr(agent.pools()), caplog.text]
        assert not [text for text in said if SECRET in text]
        await holder.close()

    try:
        asyncio.run(main())
    finally:
        loopwatch.uninstall()


@pytest.mark.parametrize(
    "change", ["method renamed", "signature different", "attribute missing", "read raising"]
)
def test_a_version_that_is_not_as_we_know_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    worker = pytest.importorskip("arq.worker", reason="needs: arq")
    if change == "method renamed":
        monkeypatch.delattr(worker.Worker, "start_jobs")
    elif change == "signature different":
        monkeypatch.setattr(worker.Worker, "start_jobs", lambda *args, **kwargs: None)
    agent = loopwatch.install(prometheus_port=None)

    async def main() -> Any:
        holder = worker.Worker([worker.func(main, name="hold")], handle_signals=False)
        if change in ("attribute missing", "read raising"):
            del holder.job_counter
        if change == "read raising":
            monkeypatch.setattr(worker.Worker, "job_counter", property(lambda self: 1 // 0), raising=False)
        for _ in range(4):
            snapshot = agent.snapshot()
        return snapshot

    try:
        snapshot = asyncio.run(main())
    finally:
        loopwatch.uninstall()
    up = {point.labels: point.value for point in snapshot.points["reader_up"] if KIND in point.labels}
    assert up == {(KIND, "gauges"): 0}
    assert len([one for one in caplog.records if f"pools of {KIND} " in one.getMessage()]) == 1
    assert all(pool.used is None for pool in snapshot.pools if pool.kind == KIND)
