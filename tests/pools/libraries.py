"""The libraries whose pools are read: for each a pool of two, and what of it the reader trespasses on.

For tests that hold for all readers. Imports none of the libraries before it is asked to.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

SIZE = 2

Pool = tuple[Callable[[], Awaitable[Any]], Callable[[Any], Any]]
"""How to get a connection of a pool, and how to give it back."""


async def give_back(release: Callable[[Any], Any], connection: Any) -> None:
    """Give a connection back, whether that is awaited or not."""
    returned = release(connection)
    if inspect.isawaitable(returned):
        await returned


@dataclass(frozen=True)
class Library:
    """One library, or one of its pools where it has several."""

    kind: str
    module: str
    """The one that the reader is bound to."""
    pool: Callable[[str], AbstractAsyncContextManager[Pool]]
    """A pool of two, given the URL of a server."""
    attribute: str
    """Private, of pools or what they are made of: the reader needs it to read them."""
    cls: str
    method: str
    """The method of that class which the reader wraps to see the waits."""
    server: str | None = None
    """The fixture that has the URL."""
    parameters: bool = True
    """Whether the reader checks the parameters of the method."""

    by_tasks: bool = True
    """Whether it is a task that gets a connection; else a thread."""
    title: str | None = None
    """Where a kind has several: which of them it is."""

    @property
    def name(self) -> str:
        return self.title or self.kind


@asynccontextmanager
async def httpcore(url: str, package: str = "httpx") -> AsyncIterator[Pool]:
    httpx = __import__(package)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=SIZE), timeout=60) as client:

        async def acquire() -> Any:
            return await client.send(client.build_request("GET", url), stream=True)

        yield acquire, lambda response: response.aclose()


@asynccontextmanager
async def thread_pool(url: str) -> AsyncIterator[Pool]:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(SIZE) as executor:

        async def acquire() -> Any:
            begun, leave = loop.create_future(), threading.Event()

            def work() -> None:
                loop.call_soon_threadsafe(begun.set_result, None)
                leave.wait()

            done = loop.run_in_executor(executor, work)
            try:
                await begun
            except asyncio.CancelledError:
                done.cancel()
                raise
            return leave, done

        async def release(work: Any) -> None:
            leave, done = work
            leave.set()
            await done

        yield acquire, release


@asynccontextmanager
async def sqlalchemy(url: str) -> AsyncIterator[Pool]:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        url.replace("postgresql:", "postgresql+asyncpg:"), pool_size=SIZE, max_overflow=0
    )

    async def acquire() -> Any:
        return await engine.connect()

    try:
        yield acquire, lambda connection: connection.close()
    finally:
        await engine.dispose()


@asynccontextmanager
async def asyncpg(url: str) -> AsyncIterator[Pool]:
    import asyncpg

    async with asyncpg.create_pool(url, min_size=1, max_size=SIZE) as pool:

        async def acquire() -> Any:
            return await pool.acquire()

        yield acquire, pool.release


@asynccontextmanager
async def psycopg_pool(url: str) -> AsyncIterator[Pool]:
    from psycopg_pool import AsyncConnectionPool

    async with AsyncConnectionPool(url, min_size=SIZE, max_size=SIZE, open=False) as pool:
        borrowed = {}

        async def acquire() -> Any:
            borrowing = pool.connection()
            connection = await borrowing.__aenter__()
            borrowed[connection] = borrowing
            return connection

        async def release(connection: Any) -> None:
            await borrowed.pop(connection).__aexit__(None, None, None)

        yield acquire, release


@asynccontextmanager
async def psycopg_pool_of_threads(url: str) -> AsyncIterator[Pool]:
    from psycopg_pool import ConnectionPool

    call = asyncio.get_running_loop().run_in_executor
    with (
        ConnectionPool(url, min_size=SIZE, max_size=SIZE, open=True) as pool,
        ThreadPoolExecutor(20) as threads,
    ):
        borrowed = {}

        async def acquire() -> Any:
            borrowing = pool.connection()
            connection = await call(threads, borrowing.__enter__)
            borrowed[connection] = borrowing
            return connection

        async def release(connection: Any) -> None:
            await call(threads, borrowed.pop(connection).__exit__, None, None, None)

        yield acquire, release


@asynccontextmanager
async def aiohttp(url: str) -> AsyncIterator[Pool]:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=SIZE)) as session:

        async def acquire() -> Any:
            return await session.get(url + "/held")

        yield acquire, lambda response: response.close()


LIBRARIES = (
    Library(
        kind="thread_pool",
        module="concurrent.futures.thread",
        pool=thread_pool,
        attribute="_max_workers",
        cls="_WorkItem",
        method="run",
        parameters=False,
    ),
    Library(
        kind="httpcore",
        module="httpcore",
        pool=httpcore,
        server="http_url",
        attribute="_requests",
        cls="AsyncHTTP11Connection",
        method="_send_request_headers",
    ),
    Library(
        kind="httpcore2",
        module="httpcore2",
        pool=partial(httpcore, package="httpx2"),
        server="http_url",
        attribute="_requests",
        cls="AsyncHTTP11Connection",
        method="_send_request_headers",
    ),
    Library(
        kind="sqlalchemy",
        module="sqlalchemy.pool.impl",
        pool=sqlalchemy,
        server="postgres_url",
        attribute="_overflow",
        cls="_ConnectionRecord",
        method="checkout",
    ),
    Library(
        kind="asyncpg",
        module="asyncpg.pool",
        pool=asyncpg,
        server="postgres_url",
        attribute="_in_use",
        cls="Pool",
        method="_acquire",
    ),
    Library(
        kind="psycopg_pool",
        module="psycopg_pool",
        pool=psycopg_pool,
        server="postgres_url",
        attribute="_waiting",
        cls="AsyncConnectionPool",
        method="getconn",
    ),
    Library(
        kind="psycopg_pool",
        module="psycopg_pool",
        title="psycopg_pool of threads",
        by_tasks=False,
        pool=psycopg_pool_of_threads,
        server="postgres_url",
        attribute="_waiting",
        cls="ConnectionPool",
        method="getconn",
    ),
    Library(
        kind="aiohttp",
        module="aiohttp.connector",
        pool=aiohttp,
        server="http_url",
        attribute="_acquired",
        cls="BaseConnector",
        method="connect",
    ),
)
"""One for each reader."""
