"""The receivers of taskiq: how many tasks they run, and how many are at hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

from .experiment import pool_of
from .servers import SECRET

taskiq_redis = pytest.importorskip("taskiq_redis", reason="needs: taskiq-redis")
module = pytest.importorskip("taskiq.receiver.receiver", reason="needs: taskiq")

KIND = "taskiq"


@asynccontextmanager
async def listening(broker: Any, receiver: Any) -> AsyncIterator[None]:
    finish = asyncio.Event()
    listens = asyncio.create_task(receiver.listen(finish))
    yield
    finish.set()
    await listens
    await broker.shutdown()


async def until(agent: Agent, **values: Any) -> Any:
    """Return the pool once it is so."""
    async with asyncio.timeout(60):
        while True:
            pool = await pool_of(agent, KIND)
            if all(getattr(pool, name) == value for name, value in values.items()):
                return pool
            await asyncio.sleep(0)


@pytest.mark.parametrize("installed", ["before", "after"])
def test_ten_tasks_for_two_places(redis_url: str, installed: str) -> None:
    async def main(executor: ThreadPoolExecutor) -> None:
        agent = loopwatch.install(prometheus_port=None) if installed == "before" else None
        broker = taskiq_redis.ListQueueBroker(redis_url, queue_name=f"jobs-{installed}")
        leave = asyncio.Semaphore(0)

        @broker.task(task_name="hold")
        async def hold() -> None:
            await leave.acquire()

        receiver = module.Receiver(broker, executor, max_async_tasks=2, max_prefetch=8)
        agent = agent or loopwatch.install(prometheus_port=None)
        async with listening(broker, receiver):
            idle = await until(agent, used=0, pending=0)
            assert (idle.max, idle.idle, idle.label) == (2, 2, f"jobs-{installed}")
            await hold.kiq()
            one = await until(agent, used=1, pending=0)
            assert (one.max, one.idle) == (2, 1)
            for _ in range(9):
                await hold.kiq()
            full = await until(agent, used=2, pending=8)
            assert (full.max, full.idle, full.wait_count, full.instances, full.created) == (2, 0, None, 1, 1)
            for left in range(7, -1, -1):
                leave.release()
                await until(agent, used=2, pending=left)
            leave.release()
            await until(agent, used=1, pending=0)
            leave.release()
            await until(agent, used=0, pending=0)

    try:
        with ThreadPoolExecutor(1) as executor:
            asyncio.run(main(executor))
    finally:
        loopwatch.uninstall()


def test_a_receiver_without_a_limit(agent: Agent, redis_url: str) -> None:
    async def main(executor: ThreadPoolExecutor) -> None:
        broker = taskiq_redis.ListQueueBroker(redis_url)
        receiver = module.Receiver(broker, executor)
        pool = await pool_of(agent, KIND)
        assert (pool.max, pool.used, pool.pending, pool.label) == (None, None, None, "taskiq")
        del receiver
        await broker.shutdown()

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(main(executor))


def test_no_secret_is_shown(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="loopwatch")
    broker = taskiq_redis.PubSubBroker(f"redis://:{SECRET}@127.0.0.1:1/0", queue_name="jobs")
    with ThreadPoolExecutor(1) as executor:
        receiver = module.Receiver(broker, executor, max_async_tasks=2)
        said = [repr(agent.snapshot()), repr(agent.pools()), caplog.text]
    assert "'jobs'" in said[1]
    assert not [text for text in said if SECRET in text]
    del receiver


@pytest.mark.parametrize(
    "change", ["method renamed", "signature different", "attribute missing", "read raising"]
)
def test_a_version_that_is_not_as_we_know_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    broker = taskiq_redis.ListQueueBroker("redis://127.0.0.1:1/0")
    if change == "method renamed":
        monkeypatch.delattr(module.Receiver, "listen")
    elif change == "signature different":
        monkeypatch.setattr(module.Receiver, "listen", lambda *args, **kwargs: None)
    agent = loopwatch.install(prometheus_port=None)
    try:
        with ThreadPoolExecutor(1) as executor:
            receiver = module.Receiver(broker, executor, max_async_tasks=2)
            if change == "attribute missing":
                del receiver.sem
            elif change == "read raising":
                del receiver.sem
                monkeypatch.setattr(module.Receiver, "sem", property(lambda self: 1 // 0), raising=False)
            for _ in range(4):
                snapshot = agent.snapshot()
        up = {point.labels: point.value for point in snapshot.points["reader_up"] if KIND in point.labels}
        assert up == {(KIND, "gauges"): 0}
        assert len([one for one in caplog.records if f"pools of {KIND} " in one.getMessage()]) == 1
        assert all(pool.used is None for pool in snapshot.pools if pool.kind == KIND)
    finally:
        loopwatch.uninstall()
