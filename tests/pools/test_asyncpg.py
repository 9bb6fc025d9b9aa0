"""asyncpg: what is not as in every library."""

from __future__ import annotations

import asyncio

import pytest

from loopwatch import Agent

from .experiment import collect_pools, pool_of
from .servers import login

asyncpg = pytest.importorskip("asyncpg", reason="needs: asyncpg")

KIND = "asyncpg"


def test_timeouts_and_cancellations_are_counted_exactly(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2) as pool:
            held = [await pool.acquire() for _ in range(2)]
            for _ in range(4):
                with pytest.raises(TimeoutError):
                    await pool.acquire(timeout=0.01)
            waiting = [asyncio.create_task(pool.fetchval("SELECT 1")) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            found = await pool_of(agent, KIND)
            assert (found.timeouts, found.cancelled, found.wait_count) == (4, 3, 2 + 4 + 3)
            assert found.wait_sum is not None
            assert found.wait_sum >= 4 * 0.01
            for connection in held:
                await pool.release(connection)

    asyncio.run(main())


def test_the_label_is_the_server_and_the_database(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2):
            server = login(postgres_url)
            found = await pool_of(agent, KIND)
            assert found.label == f"{server['host']}:{server['port']}/postgres"
            assert (found.max, found.used, found.idle, found.connecting) == (2, 0, 1, 0)

    asyncio.run(main())


def test_a_subclass(agent: Agent, postgres_url: str) -> None:
    class Pool(asyncpg.Pool):  # type: ignore[misc]
        __slots__ = ("asked",)

        async def _acquire(self, timeout: float | None) -> object:
            self.asked = True
            return await super()._acquire(timeout)

    async def main() -> None:
        async with (
            Pool(
                postgres_url,
                min_size=1,
                max_size=2,
                max_queries=50_000,
                max_inactive_connection_lifetime=300.0,
                setup=None,
                init=None,
                loop=asyncio.get_running_loop(),
                connection_class=asyncpg.Connection,
                record_class=asyncpg.Record,
            ) as pool,
            pool.acquire(),
        ):
            found = await pool_of(agent, KIND)
            assert (found.used, found.wait_count, pool.asked) == (1, 1, True)

    asyncio.run(main())


def test_a_connection_being_opened_is_not_in_use(agent: Agent) -> None:
    """To a server that does not answer."""

    async def main() -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        async with (
            silent,
            asyncpg.create_pool(f"postgresql://app@127.0.0.1:{port}/app", min_size=0, max_size=2) as pool,
        ):
            asking = [asyncio.create_task(pool.acquire(timeout=60).__aenter__()) for _ in range(5)]
            await asyncio.sleep(0)
            found = await pool_of(agent, KIND)
            assert (found.used, found.idle, found.connecting, found.pending) == (0, 0, 2, 3)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            pool.terminate()

    asyncio.run(main())


def test_a_pool_that_is_forgotten_is_collected(agent: Agent, postgres_url: str) -> None:
    """Although its queue, which stands for it, knows its connections."""

    async def main() -> None:
        async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2) as pool, pool.acquire():
            assert (await pool_of(agent, KIND)).instances == 1

    asyncio.run(main())
    collect_pools(agent, KIND)
    [found] = [pool for pool in agent.pools() if pool.kind == KIND]
    assert (found.instances, found.created) == (0, 1)
