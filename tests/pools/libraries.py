"""The libraries whose pools are read: for each a pool of two, and what of it the reader trespasses on.

For tests that hold for all readers. Imports none of the libraries before it is asked to.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import multiprocessing
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

from .servers import login

SIZE = 2

Pool = tuple[Callable[[], Awaitable[Any]], Callable[[Any], Any]]
"""How to get a connection of a pool, and how to give it back."""


async def give_back(release: Callable[[Any], Any], connection: Any) -> None:
    """Give a connection back, whether that is awaited or not."""
    returned = release(connection)
    if inspect.isawaitable(returned):
        await returned


def by_context(borrow: Callable[[], AbstractAsyncContextManager[Any]]) -> Pool:
    """Return how to get and give back what an ``async with`` lends."""
    borrowed = {}

    async def acquire() -> Any:
        borrowing = borrow()
        connection = await borrowing.__aenter__()
        borrowed[connection] = borrowing
        return connection

    async def release(connection: Any) -> None:
        await borrowed.pop(connection).__aexit__(None, None, None)

    return acquire, release


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
    compiled: bool = False
    """Whether it has no source that could be altered: its class is."""
    by_tasks: bool = True
    """Whether it is a task that gets a connection; else a thread."""
    waits_since: str | None = None
    """The version from which on the waits are read."""
    title: str | None = None
    """Where a kind has several: which of them it is."""

    def has_waits(self) -> bool:
        version = metadata.version(self.module.partition(".")[0]) if self.waits_since else ""
        return _numbers(version) >= _numbers(self.waits_since or "")

    @property
    def name(self) -> str:
        return self.title or self.kind


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".") if number.isdigit()]


@asynccontextmanager
async def httpcore(url: str, package: str = "httpx") -> AsyncIterator[Pool]:
    httpx = __import__(package)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=SIZE), timeout=60) as client:

        async def acquire() -> Any:
            return await client.send(client.build_request("GET", url), stream=True)

        yield acquire, lambda response: response.aclose()


@asynccontextmanager
async def thread_pool(url: str) -> AsyncIterator[Pool]:
    from concurrent.futures import ThreadPoolExecutor

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
        yield by_context(pool.connection)


@asynccontextmanager
async def psycopg_pool_of_threads(url: str) -> AsyncIterator[Pool]:
    from concurrent.futures import ThreadPoolExecutor

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


@asynccontextmanager
async def redis(url: str) -> AsyncIterator[Pool]:
    from redis.asyncio import BlockingConnectionPool, Redis

    pool: Any = BlockingConnectionPool.from_url(url, max_connections=SIZE, timeout=60)

    async def acquire() -> Any:
        client = Redis(connection_pool=pool, single_connection_client=True)
        try:
            return await client.initialize()
        except asyncio.CancelledError:
            await client.aclose()
            raise

    yield acquire, lambda client: client.aclose()
    await pool.disconnect()


@asynccontextmanager
async def pymongo(url: str) -> AsyncIterator[Pool]:
    from pymongo import AsyncMongoClient

    async with AsyncMongoClient(url, maxPoolSize=SIZE) as client:
        assert await client.address  # it has found the server, without a connection of the pool
        (server,) = client._topology._servers.values()
        yield by_context(server.pool.checkout)


@asynccontextmanager
async def mysql(url: str, package: str) -> AsyncIterator[Pool]:
    library = __import__(package)
    async with library.create_pool(**login(url), db="app", minsize=0, maxsize=SIZE) as pool:

        async def acquire() -> Any:
            return await pool.acquire()

        yield acquire, pool.release


@asynccontextmanager
async def aio_pika(url: str) -> AsyncIterator[Pool]:
    from aio_pika import connect
    from aio_pika.pool import Pool

    async with await connect(url) as connection:

        async def channel() -> Any:
            return await connection.channel()

        async with Pool(channel, max_size=SIZE) as pool:
            yield by_context(pool.acquire)


@asynccontextmanager
async def anyio(url: str) -> AsyncIterator[Pool]:
    from anyio import CapacityLimiter

    limiter = CapacityLimiter(SIZE)
    names = [name for name in dir(limiter) if name.startswith("acquire_on_behalf_of")]
    (name,) = (name for name in names if "nowait" not in name)  # it may be altered

    async def acquire() -> Any:
        token = object()
        await getattr(limiter, name)(token)
        return token

    yield acquire, limiter.release_on_behalf_of


CONNECT = "__import__('socket').create_connection({!r})"


@asynccontextmanager
async def process_pool(url: str) -> AsyncIterator[Pool]:
    from concurrent.futures import ProcessPoolExecutor

    loop = asyncio.get_running_loop()
    ready = asyncio.Semaphore(0)
    begun: dict[str, asyncio.Future[asyncio.StreamWriter]] = {}
    names = itertools.count()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        if name:
            begun.pop(name).set_result(writer)
        else:
            ready.release()
            writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
        connect = CONNECT.format(server.sockets[0].getsockname())
        executor: Any = ProcessPoolExecutor(
            SIZE, multiprocessing.get_context("spawn"), initializer=eval, initargs=(f"{connect}.close()",)
        )
        executor._launch_processes()
        for _ in range(SIZE):
            await ready.acquire()

        async def acquire() -> Any:
            name = str(next(names))
            begun[name] = loop.create_future()
            code = f"[one := {connect}, one.sendall(b'{name}\\n'), one.recv(1)][2]"
            done = loop.run_in_executor(executor, eval, code)
            try:
                return await asyncio.shield(begun[name]), done
            except asyncio.CancelledError:
                done.cancel()
                begun[name].add_done_callback(lambda late: late.result().close())
                raise

        async def release(work: Any) -> None:
            writer, done = work
            writer.close()
            await done

        yield acquire, release
        manager = executor._executor_manager_thread
        executor.shutdown(wait=False)
        while manager is not None and manager.is_alive():
            await asyncio.sleep(0.01)  # what was cancelled too late is run, and connects


LIBRARIES = (
    Library(
        kind="thread_pool",
        module="concurrent.futures.thread",
        pool=thread_pool,
        attribute="_max_workers",
        cls="_WorkItem",
        method="run",
    ),
    Library(
        kind="httpcore",
        module="httpcore",
        pool=httpcore,
        server="http_url",
        attribute="_max_connections",
        cls="AsyncHTTP11Connection",
        method="_send_request_headers",
    ),
    Library(
        kind="httpcore2",
        module="httpcore2",
        pool=partial(httpcore, package="httpx2"),
        server="http_url",
        attribute="_max_connections",
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
        waits_since="3.10",
    ),
    Library(
        kind="redis",
        module="redis.asyncio.connection",
        pool=redis,
        server="redis_url",
        attribute="_in_use_connections",
        cls="BlockingConnectionPool",
        method="get_connection",
    ),
    Library(
        kind="pymongo",
        module="pymongo.asynchronous.pool",
        pool=pymongo,
        server="mongodb_url",
        attribute="active_sockets",
        cls="Pool",
        method="_get_conn",
    ),
    Library(
        kind="aiomysql",
        module="aiomysql.pool",
        pool=partial(mysql, package="aiomysql"),
        server="mariadb_url",
        attribute="_acquiring",
        cls="Pool",
        method="_acquire",
    ),
    Library(
        kind="asyncmy",
        module="asyncmy.pool",
        pool=partial(mysql, package="asyncmy"),
        server="mariadb_url",
        attribute="_acquiring",
        cls="Pool",
        method="_acquire",
        compiled=True,
    ),
    Library(
        kind="aio_pika",
        module="aio_pika.pool",
        pool=aio_pika,
        server="rabbitmq_url",
        attribute="__item_set",
        cls="Pool",
        method="_get",
    ),
    Library(
        kind="anyio",
        module="anyio._backends._asyncio",
        pool=anyio,
        attribute="_wait_queue",
        cls="CapacityLimiter",
        method="acquire_on_behalf_of",
    ),
    Library(
        kind="process_pool",
        module="concurrent.futures.process",
        pool=process_pool,
        attribute="_processes",
        cls="_ExecutorManagerThread",
        method="add_call_item_to_queue",
    ),
)
"""One for each reader."""
