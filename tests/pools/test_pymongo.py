"""PyMongo's asynchronous client: what its operations are to its pools."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from loopwatch import Agent

from .experiment import pool_of, read_under_churn
from .servers import SECRET, USER

pymongo = pytest.importorskip("pymongo", reason="needs: pymongo")
errors = pytest.importorskip("pymongo.errors", reason="needs: pymongo")
monitoring = pytest.importorskip("pymongo.monitoring", reason="needs: pymongo")

KIND = "pymongo"


def let(url: str, gate: str) -> None:
    """Let those go on whom the server keeps behind that. Not by a pool that is read."""
    with pymongo.MongoClient(url) as client:
        client.shop.orders.find_one({"opens": gate})


class CheckOuts(monitoring.ConnectionPoolListener):  # type: ignore[misc]
    """When connections were asked for and when they were there, as PyMongo itself tells."""

    def __init__(self) -> None:
        self.waited = 0.0
        """Seconds, in all, once all are there."""

    def connection_check_out_started(self, event: Any) -> None:
        self.waited -= time.monotonic()

    def connection_checked_out(self, event: Any) -> None:
        self.waited += time.monotonic()

    def _ignore(self, event: Any) -> None:
        """Of all else nothing is asked."""

    pool_created = pool_ready = pool_cleared = pool_closed = _ignore
    connection_created = connection_ready = connection_closed = _ignore
    connection_check_out_failed = connection_checked_in = _ignore


def test_operations_are_acquires(agent: Agent, mongodb_url: str) -> None:
    async def main() -> None:
        seen = CheckOuts()
        async with pymongo.AsyncMongoClient(mongodb_url, maxPoolSize=2, event_listeners=[seen]) as client:
            assert await client.address

            async def find() -> None:
                asked = {"behind": "operations", "delay": 0.1}
                assert await client.shop.orders.find_one(asked) == {"_id": 1}

            tasks = [asyncio.create_task(find(), name=f"finds-{number}") for number in range(10)]
            while (full := await pool_of(agent, KIND)).borrowers is None or len(full.borrowers) < 2:
                await asyncio.sleep(0)
            assert (full.max, full.used, full.pending) == (2, 2, 8)
            people = (*full.borrowers, *(full.waiters or ()))
            assert {one.task_name for one in people} == {f"finds-{number}" for number in range(10)}
            assert full.label == f"127.0.0.1:{urlsplit(mongodb_url).port}"
            await asyncio.to_thread(let, mongodb_url, "operations")
            await asyncio.gather(*tasks)
            done = await pool_of(agent, KIND)
            assert (done.used, done.pending, done.wait_count, done.created) == (0, 0, 10, 1)
            assert done.wait_sum is not None
            assert seen.waited > 2 * 0.1 * (1 + 2 + 3 + 4)
            assert 0.9 * seen.waited < done.wait_sum < seen.waited

    asyncio.run(main())


def test_timeouts_are_counted_exactly(agent: Agent, mongodb_url: str) -> None:
    more = {"maxPoolSize": 1, "waitQueueTimeoutMS": 200, "retryReads": False}

    async def main() -> None:
        async with pymongo.AsyncMongoClient(mongodb_url, **more) as client:
            assert await client.address
            (server,) = client._topology._servers.values()
            async with server.pool.checkout():
                finds = [client.shop.orders.find_one() for _ in range(4)]
                for end in await asyncio.gather(*finds, return_exceptions=True):
                    assert isinstance(end, errors.WaitQueueTimeoutError)
                full = await pool_of(agent, KIND)
                assert (full.used, full.pending, full.timeouts, full.cancelled) == (1, 0, 4, 0)
                assert full.wait_count == 5
                assert full.wait_sum is not None
                assert full.wait_sum >= 4 * 0.2
            assert await client.shop.orders.find_one() == {"_id": 1}

    asyncio.run(main())


def test_who_waits_to_connect_has_nothing_yet(agent: Agent, mongodb_url: str) -> None:
    """One connection is opened at a time, however many may be."""
    slow_url = mongodb_url.replace(f"//{USER}:", "//slow:")

    async def main() -> None:
        async with pymongo.AsyncMongoClient(slow_url, maxPoolSize=50, maxConnecting=1) as client:
            assert await client.address
            finds = [asyncio.create_task(client.shop.orders.find_one()) for _ in range(9)]
            while ((cold := await pool_of(agent, KIND)).connecting, cold.pending) != (1, 8):
                await asyncio.sleep(0)
            assert cold.used == 0
            await asyncio.to_thread(let, mongodb_url, "slow")
            await asyncio.gather(*finds)
            warm = await pool_of(agent, KIND)
            assert (warm.used, warm.connecting, warm.pending, warm.timeouts) == (0, 0, 0, 0)

    asyncio.run(main())


def test_no_secret_is_shown(agent: Agent, mongodb_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="loopwatch")
    url = f"mongodb://{USER}%40{SECRET}:{SECRET}@127.0.0.1:1/{SECRET}?appName={SECRET}&authSource={SECRET}"

    async def main() -> list[Any]:
        async with pymongo.AsyncMongoClient(url, serverSelectionTimeoutMS=200) as client:
            with pytest.raises(errors.ServerSelectionTimeoutError):
                await client[SECRET].orders.find_one({SECRET: SECRET})
            return [repr(agent.snapshot()), repr(agent.pools()), caplog.text]

    said = asyncio.run(main())
    assert "127.0.0.1:1" in said[1]
    assert not [text for text in said if SECRET in text]


def test_reading_does_not_trip_over_what_goes_on(agent: Agent, mongodb_url: str) -> None:
    async def main() -> None:
        async with pymongo.AsyncMongoClient(mongodb_url, maxPoolSize=2) as client:
            assert await client.address
            await read_under_churn(agent, KIND, client.shop.orders.find_one)

    asyncio.run(main())
