"""``redis.asyncio``: what its two pools do that others do not."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest

from loopwatch import Agent

from . import servers
from .experiment import pool_of, read_under_churn
from .servers import SECRET, free_port

redis = pytest.importorskip("redis.asyncio", reason="needs: redis")

KIND = "redis"
Error = sys.modules["redis.exceptions"].ConnectionError


def test_a_pool_that_does_not_wait_refuses(agent: Agent, redis_url: str) -> None:
    async def main() -> None:
        pool = redis.ConnectionPool.from_url(redis_url, max_connections=2)
        held = [await pool.get_connection("_") for _ in range(2)]
        for _ in range(3):
            with pytest.raises(Error, match="Too many connections"):
                await pool.get_connection("_")
        full = await pool_of(agent, KIND)
        assert (full.max, full.used, full.idle, full.pending) == (2, 2, 0, 0)
        assert (full.rejected, full.timeouts, full.cancelled, full.wait_count) == (3, 0, 0, 5)
        for connection in held:
            await pool.release(connection)
        assert (await pool_of(agent, KIND)).idle == 2
        await pool.disconnect()

    asyncio.run(main())


def test_timeouts_are_counted_exactly(agent: Agent, redis_url: str) -> None:
    async def main() -> None:
        pool = redis.BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=0.2)
        held = await pool.get_connection("_")
        impatient = [pool.get_connection("_") for _ in range(4)]
        for end in await asyncio.gather(*impatient, return_exceptions=True):
            assert isinstance(end, Error)
        full = await pool_of(agent, KIND)
        assert (full.timeouts, full.rejected, full.cancelled, full.wait_count) == (4, 0, 0, 5)
        assert full.wait_sum is not None
        assert full.wait_sum >= 4 * 0.2
        await pool.release(held)
        await pool.disconnect()

    asyncio.run(main())


def test_a_server_that_is_not_there_is_neither(agent: Agent) -> None:
    async def main() -> None:
        client = redis.Redis(port=free_port(), retry=None)
        with pytest.raises(Error):
            await client.ping()
        pool = await pool_of(agent, KIND)
        assert (pool.timeouts, pool.rejected, pool.cancelled, pool.used) == (0, 0, 0, 0)
        assert pool.wait_count
        await client.aclose()

    asyncio.run(main())


def test_commands_are_acquires(agent: Agent, redis_url: str) -> None:
    async def main() -> None:
        client = redis.Redis.from_url(redis_url, max_connections=2)
        await client.set("a", 1)
        async with client.pipeline() as pipeline:
            pipeline.get("a")
            pipeline.get("b")
            assert await pipeline.execute() == [b"1", None]
        task = asyncio.create_task(client.blpop(["jobs"], timeout=60), name="pops")
        while not client.connection_pool._in_use_connections:
            await asyncio.sleep(0)
        (binding,) = agent._engine._hub.of(KIND)
        while True:
            full = await pool_of(agent, KIND)
            pool = next(one for one in agent._engine._pools.live() if one.kind == KIND)
            if full.wait_count == 3:
                break
        assert (full.used, len(pool.held), len(list(binding.in_use(pool.anchor()) or ()))) == (1, 1, 1)
        await client.lpush("jobs", "one")
        assert await task == (b"jobs", b"one")
        await client.aclose()

    asyncio.run(main())


def test_subclasses_are_counted_once(agent: Agent, redis_url: str) -> None:
    class Plain(redis.ConnectionPool):  # type: ignore[misc, name-defined]
        async def get_connection(self, *args: Any, **options: Any) -> Any:
            return await super().get_connection(*args, **options)

    class Blocking(redis.BlockingConnectionPool):  # type: ignore[misc, name-defined]
        async def get_connection(self, *args: Any, **options: Any) -> Any:
            return await super().get_connection(*args, **options)

    async def main() -> None:
        for cls in (Plain, Blocking):
            pool = cls.from_url(redis_url, max_connections=1)
            await pool.release(await pool.get_connection("_"))
            await pool.disconnect()
        both = await pool_of(agent, KIND)
        assert (both.created, both.wait_count) == (2, 2)

    asyncio.run(main())


def test_the_label_is_the_server_and_the_database(agent: Agent, redis_url: str) -> None:
    server = f"127.0.0.1:{urlsplit(redis_url).port}"
    url = redis_url.removesuffix("/0")

    async def main() -> None:
        line = sys._getframe().f_lineno + 1
        nobody = redis.ConnectionPool(host=f"user:{SECRET}@somewhere")
        pools = [
            redis.ConnectionPool.from_url(other)
            for other in (
                f"{url}/3",
                url,
                f"unix://{SECRET}@/run/redis.sock?db=5&password={SECRET}",
                f"redis://somewhere/0?password={SECRET}&client_name={SECRET}",
            )
        ]
        assert {pool.label for pool in agent.pools() if pool.kind == KIND} == {
            f"{server}/3",
            f"{server}/0",
            "/run/redis.sock/5",
            "somewhere:6379/0",
            f"{__name__}:{line}",
        }
        del nobody, pools

    asyncio.run(main())


def test_behind_sentinel_the_label_is_the_service(agent: Agent, redis_url: str) -> None:
    sentinel = pytest.importorskip("redis.asyncio.sentinel")

    async def main(port: int) -> None:
        watcher = sentinel.Sentinel([("127.0.0.1", port)])
        master = watcher.master_for("mymaster", password=SECRET, max_connections=2)
        other = watcher.master_for("mymaster", password=SECRET, db=3)
        replicas = watcher.slave_for("mymaster", password=SECRET)  # there are none: the master answers
        for client in (master, other, replicas):
            await client.ping()
        found = await pool_of(agent, KIND, "mymaster")
        assert (found.max, found.idle, found.instances, found.created, found.wait_count) == (2, 1, 1, 1, 1)
        for label in ("mymaster/3", "mymaster:replicas"):
            assert (await pool_of(agent, KIND, label)).wait_count == 1
        for client in (master, other, replicas, *watcher.sentinels):
            await client.aclose()

    with servers.sentinel(redis_url) as port:
        asyncio.run(main(port))
    assert SECRET not in str(agent.snapshot())


def test_no_secret_is_shown(agent: Agent, redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="loopwatch")
    provider = redis.connection.UsernamePasswordCredentialProvider("user", SECRET)

    async def main() -> None:
        client = redis.Redis(host="127.0.0.1", port=1, credential_provider=provider, client_name=SECRET)
        with pytest.raises(Error):
            await client.get(SECRET)
        assert (await pool_of(agent, KIND)).label == "127.0.0.1:1/0"
        await client.aclose()

    asyncio.run(main())
    said = [repr(agent.snapshot()), repr(agent.pools()), caplog.text]
    assert not [text for text in said if SECRET in text]


@pytest.mark.parametrize(
    ("groups", "replaced"),
    [
        (None, {"database_connections"}),
        (["CONNECTION_BASIC"], {"database_connections"}),
        (["CONNECTION_ADVANCED"], {"database_wait"}),
        (["CONNECTION_BASIC", "CONNECTION_ADVANCED"], {"database_connections", "database_wait"}),
        (["COMMAND", "RESILIENCY"], set()),
    ],
    ids=["default", "basic", "advanced", "both", "others"],
)
def test_facts_that_redis_exports_itself_are_not_doubled(
    agent: Agent, redis_url: str, groups: list[str] | None, replaced: set[str]
) -> None:
    providers = pytest.importorskip("redis.observability.providers", reason="redis 7.2 has them first")
    config = pytest.importorskip("redis.observability.config", reason="redis 7.2 has them first")
    names = {
        "database_connections",
        "database_limit",
        "database_waiters",
        "database_oldest_wait",
        "database_wait",
        "database_timeouts",
    }

    async def told() -> set[str]:
        async with redis.Redis.from_url(redis_url, max_connections=2) as client:
            await client.ping()
            points = (await asyncio.to_thread(agent.snapshot)).points
        return {name for name in names if points.get(name)}

    assert asyncio.run(told()) == names
    chosen = None if groups is None else [config.MetricGroup[name] for name in groups]
    providers.get_observability_instance().init(config.OTelConfig(metric_groups=chosen))
    try:
        assert asyncio.run(told()) == names - replaced
    finally:
        providers.reset_observability_instance()
    assert asyncio.run(told()) == names


def test_reading_does_not_trip_over_what_goes_on(agent: Agent, redis_url: str) -> None:
    async def main() -> None:
        pool = redis.BlockingConnectionPool.from_url(redis_url, max_connections=2)

        async def use() -> None:
            await pool.release(await pool.get_connection("_"))

        await read_under_churn(agent, KIND, use)
        await pool.disconnect()

    asyncio.run(main())
