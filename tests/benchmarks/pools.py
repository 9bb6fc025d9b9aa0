"""Pools of real libraries, each with connections that are open and free: the child of ``acquires``.

Run as ``python -m tests.benchmarks.pools NAME ROUNDS [URL]``. Some connections are acquired one after the
other, and given back; that goes by turns with the agent's wrappers in place and with the library's own
functions, in one process. After each change the interpreter has some turns to get used to it. What one
acquire took goes to stdout as JSON: for each of the two the CPU time of the fastest turn, in microseconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

mark = os.getloadavg
"""As in ``units``."""

SIZE = 10
"""Connections that are acquired in one turn."""
WARM_UP = 30
TURNS = 5 if "COUNTS" in os.environ else 20
COUNTS = "COUNTS" in os.environ

Turn = tuple[Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[Any]]]
"""How to acquire all the connections, and how to give them back."""


@asynccontextmanager
async def of_asyncpg(url: str) -> AsyncIterator[Turn]:
    import asyncpg

    async with asyncpg.create_pool(url, min_size=SIZE, max_size=SIZE) as pool:

        async def acquire() -> list[Any]:
            return [await pool.acquire() for _ in range(SIZE)]

        async def release(acquired: list[Any]) -> None:
            for one in acquired:
                await pool.release(one)

        yield acquire, release


@asynccontextmanager
async def of_sqlalchemy(url: str) -> AsyncIterator[Turn]:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool

    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=SIZE)

    async def acquire() -> list[Any]:
        return [engine.raw_connection() for _ in range(SIZE)]

    async def release(acquired: list[Any]) -> None:
        for one in acquired:
            one.close()

    yield acquire, release
    engine.dispose()


@asynccontextmanager
async def of_redis(url: str, blocking: bool = False) -> AsyncIterator[Turn]:
    from redis.asyncio import BlockingConnectionPool, ConnectionPool

    pool: Any = (BlockingConnectionPool if blocking else ConnectionPool).from_url(url, max_connections=SIZE)

    async def acquire() -> list[Any]:
        return [await pool.get_connection() for _ in range(SIZE)]

    async def release(acquired: list[Any]) -> None:
        for one in acquired:
            await pool.release(one)

    yield acquire, release
    await pool.disconnect()


def of_blocking_redis(url: str) -> AbstractAsyncContextManager[Turn]:
    return of_redis(url, blocking=True)


@asynccontextmanager
async def of_aiohttp(url: str) -> AsyncIterator[Turn]:
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        """Remembers with what it was asked for a connection."""

        asked: Any = None

        async def connect(self, *args: Any, **kwargs: Any) -> Any:
            self.asked = args, kwargs
            return await super().connect(*args, **kwargs)

    async with aiohttp.ClientSession(connector=Connector(limit=SIZE)) as session:
        await asyncio.gather(*(fetch(session, url) for _ in range(SIZE)))
        connector: Any = session.connector
        args, kwargs = connector.asked

        async def acquire() -> list[Any]:
            connect = super(Connector, connector).connect
            return [await connect(*args, **kwargs) for _ in range(SIZE)]

        async def release(acquired: list[Any]) -> None:
            for one in acquired:
                one.release()

        yield acquire, release


async def fetch(session: Any, url: str) -> None:
    async with session.get(url + "/delay/0.1") as response:
        await response.read()


@asynccontextmanager
async def of_httpcore(url: str) -> AsyncIterator[Turn]:
    import httpcore

    class Server(httpcore.AsyncNetworkStream):
        """Answers at once, in memory."""

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            """Take it."""

        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return b"HTTP/1.1 204 No Content\r\n\r\n"

        async def aclose(self) -> None:
            """Nothing is open."""

        def get_extra_info(self, info: str) -> Any:
            return None

    class Network(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
            return Server()

    async with httpcore.AsyncConnectionPool(network_backend=Network()) as pool:

        async def acquire() -> list[Any]:
            responses = []
            for _ in range(SIZE):
                request = httpcore.Request("GET", "http://127.0.0.1/", headers={"Host": "127.0.0.1"})
                response = await pool.handle_async_request(request)
                await response.aclose()
                responses.append(response)
            return responses

        async def release(acquired: list[Any]) -> None:
            """Each is over."""

        yield acquire, release


POOLS: dict[str, tuple[str, Callable[[str], AbstractAsyncContextManager[Turn]]]] = {
    "httpcore": ("httpcore", of_httpcore),
    "SQLAlchemy": ("sqlalchemy", of_sqlalchemy),
    "asyncpg": ("asyncpg", of_asyncpg),
    "redis": ("redis", of_redis),
    "redis, blocking": ("redis", of_blocking_redis),
    "aiohttp": ("aiohttp", of_aiohttp),
}
"""By name, with the kind of its reader."""


async def measure(name: str, rounds: int, url: str) -> dict[str, float]:
    import loopwatch

    agent: Any = loopwatch.install(prometheus_port=None)
    kind, pool = POOLS[name]
    fastest = {"bare": float("inf"), "loopwatch": float("inf")}
    async with pool(url) as (acquire, release):
        patches = [
            patch
            for binding in agent._engine._hub.of(kind)
            for feature, patch in binding._patches
            if feature == "waits"
        ]
        assert patches, f"{kind} is read without its waits"
        gc.collect()
        gc.freeze()
        gc.disable()
        for _ in range(rounds):
            for which in fastest:
                for patch in patches:
                    setattr(patch.cls, patch.name, patch.ours if which == "loopwatch" else patch.original)
                for turn in range(WARM_UP + TURNS):
                    if COUNTS and turn >= WARM_UP:
                        mark()
                    began = time.thread_time_ns()
                    acquired = await acquire()
                    took = time.thread_time_ns() - began
                    if COUNTS and turn >= WARM_UP:
                        mark()
                    await release(acquired)
                    del acquired
                    gc.collect()
                    if turn >= WARM_UP:
                        fastest[which] = min(fastest[which], took / SIZE / 1000)
    return fastest


if __name__ == "__main__":
    _, name, rounds, url = sys.argv
    print(json.dumps(asyncio.run(measure(name, int(rounds), url))), flush=True)
    os._exit(0)
