"""A connection held for too long is told of, unless it is there to be held and its library shows it."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

from .libraries import LIBRARIES

Release = Callable[[], Awaitable[Any]]
Hold = Callable[[], Awaitable[Release]]
"""Acquires a connection, and returns how to give it back."""

TIMEOUT = 120


@asynccontextmanager
async def redis(url: str) -> AsyncIterator[tuple[Hold, Hold]]:
    library = importlib.import_module("redis.asyncio")
    client = library.Redis.from_url(url)
    pool = client.connection_pool

    async def subscribed() -> Release:
        pubsub = client.pubsub()
        await pubsub.subscribe("a")
        return pubsub.aclose  # type: ignore[no-any-return]

    async def plain() -> Release:
        return partial(pool.release, await pool.get_connection("_"))

    yield subscribed, plain
    await client.aclose()


@asynccontextmanager
async def upgraded(url: str, package: str) -> AsyncIterator[tuple[Hold, Hold]]:
    httpx = importlib.import_module(package)
    headers = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "c2l4dGVlbiBieXRlcyEhIQ==",
    }
    async with httpx.AsyncClient() as client:

        async def hold(**headers: str) -> Release:
            response = await client.send(
                client.build_request("GET", f"{url}/held", headers=headers), stream=True
            )
            assert response.status_code == (101 if headers else 200)
            return response.aclose  # type: ignore[no-any-return]

        yield partial(hold, **headers), hold


@asynccontextmanager
async def events(url: str, package: str) -> AsyncIterator[tuple[Hold, Hold]]:
    httpx = importlib.import_module(package)
    async with httpx.AsyncClient() as client:

        async def hold(accept: str) -> Release:
            request = client.build_request("GET", f"{url}/held", headers={"Accept": accept})
            return (await client.send(request, stream=True)).aclose  # type: ignore[no-any-return]

        yield (
            partial(hold, "text/event-stream"),
            partial(hold, "text/plain, text/event-stream-of-another-kind"),
        )


@asynccontextmanager
async def aiohttp(url: str) -> AsyncIterator[tuple[Hold, Hold]]:
    library = importlib.import_module("aiohttp")
    async with library.ClientSession() as session:

        async def socket() -> Release:
            return (await session.ws_connect(url)).close  # type: ignore[no-any-return]

        async def plain() -> Release:
            response = await session.get(f"{url}/held")
            return _async(response.close)

        yield socket, plain


@asynccontextmanager
async def asyncpg(url: str) -> AsyncIterator[tuple[Hold, Hold]]:
    library = importlib.import_module("asyncpg")
    async with library.create_pool(url, min_size=2, max_size=2) as pool:

        async def listening() -> Release:
            connection = await pool.acquire()
            await connection.add_listener("a", _ignore)

            async def release() -> None:
                await connection.remove_listener("a", _ignore)
                await pool.release(connection)

            return release

        async def plain() -> Release:
            return partial(pool.release, await pool.acquire())

        yield listening, plain


@asynccontextmanager
async def psycopg(url: str, *, by_generator: bool) -> AsyncIterator[tuple[Hold, Hold]]:
    library = importlib.import_module("psycopg_pool")
    async with library.AsyncConnectionPool(url, min_size=2, max_size=2, open=False) as pool:

        async def listening() -> Release:
            connection = await pool.getconn()
            if not by_generator:
                connection.add_notify_handler(_ignore)
                return partial(pool.putconn, connection)
            if not hasattr(connection, "_notifies_backlog"):
                pytest.skip("this version of psycopg does not show that notifies() runs")
            waiting = asyncio.ensure_future(anext(connection.notifies()))

            async def release() -> None:
                waiting.cancel()
                await asyncio.wait([waiting])
                await pool.putconn(connection)

            return release

        async def plain() -> Release:
            return partial(pool.putconn, await pool.getconn())

        yield listening, plain


@asynccontextmanager
async def sqlalchemy(url: str) -> AsyncIterator[tuple[Hold, Hold]]:
    library = importlib.import_module("sqlalchemy.ext.asyncio")
    engine = library.create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))

    async def listening() -> Release:
        connection = await engine.connect()
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        await driver.add_listener("a", _ignore)

        async def release() -> None:
            await driver.remove_listener("a", _ignore)
            await connection.close()

        return release

    async def plain() -> Release:
        return (await engine.connect()).close  # type: ignore[no-any-return]

    yield listening, plain
    await engine.dispose()


def _ignore(*told: object) -> None:
    """Do nothing with what a server tells."""


def _async(function: Callable[[], object]) -> Release:
    async def call() -> None:
        function()

    return call


Case = Callable[[str], AbstractAsyncContextManager[tuple[Hold, Hold]]]

CASES: dict[str, tuple[tuple[str, ...], str, Case]] = {
    "redis": (("redis",), "redis_url", redis),
    "httpx upgraded": (("httpx",), "http_url", partial(upgraded, package="httpx")),
    "httpx2 upgraded": (("httpx2",), "http_url", partial(upgraded, package="httpx2")),
    "httpx events": (("httpx",), "http_url", partial(events, package="httpx")),
    "httpx2 events": (("httpx2",), "http_url", partial(events, package="httpx2")),
    "aiohttp": (("aiohttp",), "http_url", aiohttp),
    "asyncpg": (("asyncpg",), "postgres_url", asyncpg),
    "psycopg with a handler": (("psycopg_pool",), "postgres_url", partial(psycopg, by_generator=False)),
    "psycopg notifies()": (("psycopg_pool",), "postgres_url", partial(psycopg, by_generator=True)),
    "sqlalchemy": (("sqlalchemy", "asyncpg"), "postgres_url", sqlalchemy),
}
"""What is needed, the server, and how to hold a connection that is meant to be held and one that is not."""


@pytest.fixture
def agent() -> Iterator[Agent]:
    yield loopwatch.install(prometheus_port=None, hold_threshold=1)
    loopwatch.uninstall()


@pytest.mark.parametrize("name", CASES)
def test_what_is_meant_to_be_held_is_not_told_of(
    agent: Agent, name: str, request: pytest.FixtureRequest
) -> None:
    needed, server, case = CASES[name]
    for module in needed:
        pytest.importorskip(module, reason=f"needs: {module}")
    if any(library.kind == name and not library.has_waits() for library in LIBRARIES):
        pytest.skip(f"who holds a connection of this version of {name} is not known")
    url = request.getfixturevalue(server)
    lines: list[str] = []

    async def main() -> None:
        told, leave = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        handler = logging.Handler(logging.WARNING)

        def tell(record: logging.LogRecord) -> None:
            if "a connection of the" in record.getMessage():  # and not a stall, on a machine with much to do
                lines.append(record.getMessage())
                loop.call_soon_threadsafe(told.set)

        handler.emit = tell  # type: ignore[method-assign]

        async def keep(hold: Hold, got: asyncio.Event) -> None:
            release = await hold()
            got.set()
            await leave.wait()
            await release()

        async with case(url) as holds:
            tasks = []
            names = ("meant", "plain")  # the first would be told first
            for hold, task_name in zip(holds, names, strict=True):
                got = asyncio.Event()
                tasks.append(asyncio.create_task(keep(hold, got), name=task_name))
                await asyncio.wait(
                    [tasks[-1], asyncio.ensure_future(got.wait())], return_when="FIRST_COMPLETED"
                )
                if tasks[-1].done():
                    tasks[-1].result()
            logging.getLogger("loopwatch").addHandler(handler)
            try:
                async with asyncio.timeout(TIMEOUT):
                    await told.wait()
            finally:
                logging.getLogger("loopwatch").removeHandler(handler)
            leave.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    assert len(lines) == 1
    assert "task 'plain' (" in lines[0]
    assert "has been held for" in lines[0]
