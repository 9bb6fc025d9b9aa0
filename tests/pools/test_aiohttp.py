"""aiohttp's connectors, and those of aiobotocore and elasticsearch: what is not as in every library."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

from .experiment import pool_of, ten_callers_of_two
from .servers import SECRET, login

aiohttp = pytest.importorskip("aiohttp", reason="needs: aiohttp")
OLD = not hasattr(aiohttp.BaseConnector, "_wait_for_available_connection")
waits = pytest.mark.skipif(OLD, reason="aiohttp before 3.10 is read without its waits")

KIND = "aiohttp"


def session_of(limit: int = 2, **timeouts: float) -> Any:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit), timeout=aiohttp.ClientTimeout(**timeouts)
    )


@waits
@pytest.mark.parametrize("timeout", ["connect", "total"])
def test_timeouts_and_cancellations_are_counted_exactly(agent: Agent, http_url: str, timeout: str) -> None:
    """There is none of the pool's own. ``total`` cancels the task, as a user does."""

    async def main() -> None:
        async with session_of() as session:
            held = [await session.get(f"{http_url}/held") for _ in range(2)]
            for _ in range(4):
                with pytest.raises(asyncio.TimeoutError):
                    await session.get(http_url, timeout=aiohttp.ClientTimeout(**{timeout: 0.2}))
            waiting = [asyncio.create_task(session.get(http_url)) for _ in range(3)]
            for _ in range(10):
                await asyncio.sleep(0)
            assert (await pool_of(agent, KIND)).pending == 3
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            found = await pool_of(agent, KIND)
            assert (found.timeouts, found.cancelled, found.wait_count) == (4, 3, 2 + 4 + 3)
            assert found.wait_sum is not None
            assert found.wait_sum >= 4 * 0.2 / 2  # the time begins to run a moment before the wait
            for response in held:
                response.close()

    asyncio.run(main())


@waits
def test_a_server_that_does_not_answer_is_no_timeout_of_the_pool(agent: Agent, http_url: str) -> None:
    async def main() -> None:
        async with session_of(total=1.0) as session:  # time enough to connect
            with pytest.raises(asyncio.TimeoutError):
                await session.get(f"{http_url}/delay/60")
            found = await pool_of(agent, KIND)
            assert (found.timeouts, found.cancelled, found.wait_count) == (0, 0, 1)

    asyncio.run(main())


def test_a_limit_for_each_host(agent: Agent, http_url: str) -> None:
    """Waiting shows it; the limit of the whole is not reached."""

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=100, limit_per_host=2)
        async with aiohttp.ClientSession(connector=connector) as session:
            held = [await session.get(f"{http_url}/held") for _ in range(2)]
            waiting = [asyncio.create_task(session.get(http_url)) for _ in range(3)]
            for _ in range(10):
                await asyncio.sleep(0)
            found = await pool_of(agent, KIND)
            assert (found.max, found.used, found.pending) == (100, 2, 3)
            for response in held:
                response.close()
            for response in await asyncio.gather(*waiting):
                response.close()

    asyncio.run(main())


def test_no_limit(agent: Agent, http_url: str) -> None:
    async def main() -> None:
        async with session_of(limit=0) as session, session.get(f"{http_url}/held"):
            found = await pool_of(agent, KIND)
            assert (found.max, found.used) == (None, 1)

    asyncio.run(main())


@waits
def test_connections_are_counted_by_server(agent: Agent, http_url: str, h2_url: Callable[[int], str]) -> None:
    other = h2_url(3)

    async def main() -> None:
        async with session_of(limit=10) as session:
            held = [await session.get(f"{http_url}/held") for _ in range(2)]
            async with session.get(other) as response:
                await response.read()
            await pool_of(agent, KIND)
            points = agent.snapshot().points["http_connections"]
            counts = {point.labels: point.value for point in points}
            for url, busy, idle in ((http_url, 2, 0), (other, 0, 1)):
                server = login(url)
                address = (str(server["host"]), str(server["port"]))
                assert (counts["active", *address], counts["idle", *address]) == (busy, idle)
            for response in held:
                response.close()

    asyncio.run(main())


@waits
def test_a_session_from_before_is_known_by_its_server(http_url: str) -> None:
    async def main() -> None:
        async with session_of() as session:
            agent = loopwatch.install(prometheus_port=None)
            async with session.get(f"{http_url}/held?api_key={SECRET}"):
                found = await pool_of(agent, KIND)
                assert found.label == http_url.removeprefix("http://")

    try:
        asyncio.run(main())
    finally:
        loopwatch.uninstall()


@waits
def test_no_secret_of_a_request_is_told(agent: Agent, http_url: str) -> None:
    """Neither of its query, nor of its headers, nor of a proxy."""

    async def main() -> None:
        url = http_url.replace("://", f"://app:{SECRET}@")
        async with session_of(limit=1) as session:
            held = await session.get(f"{url}/held?api_key={SECRET}", headers={"X-Token": SECRET})
            waiting = asyncio.create_task(session.get(f"{http_url}/?api_key={SECRET}", proxy=url))
            for _ in range(10):
                await asyncio.sleep(0)
            found = await pool_of(agent, KIND)
            assert (found.used, found.pending) == (1, 1)
            assert SECRET not in str(agent.snapshot())
            held.close()
            (await waiting).close()
        assert SECRET not in str(agent.snapshot())

    asyncio.run(main())


def test_a_subclass(agent: Agent, http_url: str) -> None:
    class Mine(aiohttp.TCPConnector):  # type: ignore[misc]
        async def connect(self, *args: Any, **kwargs: Any) -> Any:
            return await super().connect(*args, **kwargs)

    async def main() -> None:
        async with (
            aiohttp.ClientSession(connector=Mine(limit=2)) as session,
            session.get(f"{http_url}/held"),
        ):
            found = await pool_of(agent, KIND)
            assert (found.used, found.wait_count) == (1, None if OLD else 1)

    asyncio.run(main())


@waits
def test_aiobotocore(agent: Agent, http_url: str) -> None:
    session = pytest.importorskip("aiobotocore.session", reason="needs: aiobotocore")
    config = pytest.importorskip("aiobotocore.config", reason="needs: aiobotocore")

    async def main() -> None:
        async with session.get_session().create_client(
            "s3",
            endpoint_url=http_url,
            region_name="nowhere",
            aws_access_key_id="key",
            aws_secret_access_key=SECRET,
            config=config.AioConfig(s3={"addressing_style": "path"}, max_pool_connections=2),
        ) as client:

            async def acquire() -> Any:
                return (await client.get_object(Bucket="held", Key="one"))["Body"]

            # botocore makes its connector at the first request
            await close(await acquire())
            await ten_callers_of_two(agent, KIND, acquire, close, before=1)
            assert SECRET not in str(agent.snapshot())

    async def close(body: Any) -> None:
        body.close()

    asyncio.run(main())


@waits
def test_elasticsearch(agent: Agent, http_url: str) -> None:
    elasticsearch = pytest.importorskip("elasticsearch", reason="needs: elasticsearch")

    async def main() -> None:
        async with elasticsearch.AsyncElasticsearch(
            http_url, connections_per_node=2, api_key=SECRET, request_timeout=60
        ) as client:
            perform = client.transport.perform_request
            asking = [asyncio.create_task(perform("GET", "/behind/search")) for _ in range(10)]
            while (found := await pool_of_any(agent)) is None or found.used < 2:
                await asyncio.sleep(0)
            assert (found.max, found.used, found.pending) == (100, 2, 8)
            await asyncio.to_thread(urllib.request.urlopen, f"{http_url}/opens/search")
            await asyncio.gather(*asking)
            found = await pool_of(agent, KIND)
            assert (found.used, found.idle, found.wait_count) == (0, 2, 10)
            assert SECRET not in str(agent.snapshot())

    async def pool_of_any(agent: Agent) -> Any:
        pools = await asyncio.to_thread(agent.pools)
        return next((pool for pool in pools if pool.kind == KIND), None)

    asyncio.run(main())
