"""The pool of aio-pika, which is of whatever its constructor makes."""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import Any

import pytest

from loopwatch import Agent

from .experiment import collect, pool_of, read_under_churn
from .servers import SECRET

aio_pika = pytest.importorskip("aio_pika", reason="needs: aio_pika")
pool_module = pytest.importorskip("aio_pika.pool", reason="needs: aio_pika")

KIND = "aio_pika"


class Thing:
    """What a program may well keep in such a pool."""

    async def close(self) -> None:
        """Do nothing."""


async def make_thing() -> Thing:
    return Thing()


def test_connections_and_channels_are_told_apart(agent: Agent, rabbitmq_url: str) -> None:
    async def get_connection() -> Any:
        return await aio_pika.connect(rabbitmq_url)

    async def main() -> None:
        connections: Any = pool_module.Pool(get_connection, max_size=1)

        async def get_channel() -> Any:
            async with connections.acquire() as connection:
                return await connection.channel()

        channels: Any = pool_module.Pool(get_channel, max_size=2)
        async with connections, channels, channels.acquire() as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"hello"), "nobody")
            first = await pool_of(agent, KIND, f"{__name__}.get_connection")
            second = await pool_of(agent, KIND, f"{__name__}.get_channel")
            assert (first.max, first.used, first.idle, first.wait_count) == (1, 0, 1, 1)
            assert (second.max, second.used, second.idle, second.wait_count) == (2, 1, 0, 1)

    asyncio.run(main())


def test_everybody_waits_while_something_is_made(agent: Agent) -> None:
    async def main() -> None:
        made = asyncio.Event()

        async def slow() -> Thing:
            await made.wait()
            return Thing()

        async with pool_module.Pool(slow) as pool:
            callers = [asyncio.create_task(pool._get()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting = await pool_of(agent, KIND)
            assert (waiting.max, waiting.used, waiting.idle, waiting.pending) == (None, 0, 0, 2)
            made.set()
            await asyncio.gather(*callers)
            full = await pool_of(agent, KIND)
            assert (full.used, full.idle, full.pending, full.wait_count) == (3, 0, 0, 3)

    asyncio.run(main())


def test_a_subclass_is_counted_once_and_dies_as_it_would(agent: Agent) -> None:
    class Pool(pool_module.Pool):  # type: ignore[misc, name-defined]
        async def _get(self) -> Any:
            return await super()._get()

    async def main() -> None:
        pool = Pool(make_thing, max_size=1)
        async with pool.acquire():
            found = await pool_of(agent, KIND)
            assert (found.max, found.used, found.wait_count) == (1, 1, 1)
        queue = weakref.ref(pool._Pool__items)
        del pool
        collect(lambda: queue() is None)
        gone = await pool_of(agent, KIND)
        assert (gone.instances, gone.created, gone.wait_count) == (0, 1, 1)

    asyncio.run(main())


def test_a_closed_pool_refuses_who_waits(agent: Agent) -> None:
    async def main() -> None:
        pool = pool_module.Pool(make_thing, max_size=1)
        held = await pool._get()
        await pool.close()
        with pytest.raises(pool_module.PoolInvalidStateError):
            await pool._get()
        found = await pool_of(agent, KIND)
        assert (found.used, found.idle, found.wait_count) == (1, 0, 2)
        assert (found.timeouts, found.rejected, found.cancelled) == (0, 0, 0)
        del held

    asyncio.run(main())


def test_what_a_closed_pool_keeps_is_not_idle(agent: Agent) -> None:
    async def main() -> None:
        pool = pool_module.Pool(make_thing, max_size=2)
        async with pool:
            held = [await pool._get() for _ in range(2)]
            for thing in held:
                pool.put(thing)
            found = await pool_of(agent, KIND)
            assert (found.used, found.idle) == (0, 2)
        if None not in pool._Pool__items._queue:
            pytest.skip("this version does not tell that a pool was closed")
        found = await pool_of(agent, KIND)
        assert (found.used, found.idle, found.borrowers) == (0, 0, ())

    asyncio.run(main())


def test_no_secret_is_shown(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="loopwatch")

    async def connect(url: str) -> Any:
        return await aio_pika.connect(url)

    async def main() -> None:
        pool = pool_module.Pool(connect, f"amqp://{SECRET}:{SECRET}@127.0.0.1:1/{SECRET}", max_size=1)
        with pytest.raises(ConnectionError):
            await pool._get()
        assert (await pool_of(agent, KIND)).wait_count == 1

    asyncio.run(main())
    said = [repr(agent.snapshot()), repr(agent.pools()), caplog.text]
    assert not [text for text in said if SECRET in text]


def test_reading_does_not_trip_over_what_goes_on(agent: Agent) -> None:
    async def main() -> None:
        async with pool_module.Pool(make_thing, max_size=2) as pool:

            async def use() -> None:
                async with pool.acquire():
                    await asyncio.sleep(0)

            await read_under_churn(agent, KIND, use)

    asyncio.run(main())
