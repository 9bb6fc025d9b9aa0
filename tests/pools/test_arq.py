"""arq takes no redis >= 6, so on the newest versions this module has an environment of its own."""

from __future__ import annotations

import asyncio

import pytest


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
