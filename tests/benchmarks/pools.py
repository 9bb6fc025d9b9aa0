"""Pools of real libraries, with connections that are open and free: the child process of ``acquires``.

Run as ``python -m tests.benchmarks.pools NAME ROUNDS TURNS URL``. A turn acquires several connections, one
after the other, and gives them back. Turns alternate between the library's own functions and the agent's
wrappers around them, in one process; after each change the interpreter gets some turns to warm up.

The fastest turn of each round counts, in microseconds of the thread's CPU time per acquire; the cost of the
wrappers is the median of the differences over the rounds. The fastest turn of all with them less the fastest
of all without, which may be minutes apart, says little about one microsecond in a hundred: the speed of a
shared machine varies by more than that. The medians go to stdout as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import operator
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from .units import mark

SIZE = 10
"""Connections that a turn acquires."""
WARM_UP = 30
"""Turns after a change."""

Turn = tuple[Callable[[], Awaitable[list[Any]]], Callable[[Any], Any]]
"""How to acquire all the connections, the only part measured, and how to give one back."""


@asynccontextmanager
async def asyncpg(url: str) -> AsyncIterator[Turn]:
    """PostgreSQL."""
    import asyncpg

    async def reset(connection: Any) -> None:
        """Do nothing: otherwise each release would ask the server, and leave the CPU's caches cold."""

    async with asyncpg.create_pool(url, min_size=SIZE, max_size=SIZE, reset=reset) as pool:

        async def acquire() -> list[Any]:
            return [await pool.acquire() for _ in range(SIZE)]

        yield acquire, pool.release


@asynccontextmanager
async def sqlalchemy(url: str) -> AsyncIterator[Turn]:
    """SQLite in memory: the path to a connection is the same for all databases."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool

    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=SIZE)

    async def acquire() -> list[Any]:
        return [engine.raw_connection() for _ in range(SIZE)]

    async def release(connection: Any) -> None:
        connection.close()

    yield acquire, release
    engine.dispose()


@asynccontextmanager
async def redis(url: str, kind: str = "ConnectionPool") -> AsyncIterator[Turn]:
    """Redis."""
    import redis.asyncio

    pool: Any = getattr(redis.asyncio, kind).from_url(url, max_connections=SIZE)

    async def acquire() -> list[Any]:
        return [await pool.get_connection() for _ in range(SIZE)]

    yield acquire, pool.release
    await pool.disconnect()


@asynccontextmanager
async def aiohttp(url: str) -> AsyncIterator[Turn]:
    """An HTTP server, asked for as many pages at once as there are to be connections."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        """Remembers how it was asked for a connection."""

        async def connect(self, *args: Any, **kwargs: Any) -> Any:
            self.asked = args, kwargs
            return await super().connect(*args, **kwargs)

    connector = Connector(limit=SIZE)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def fetch() -> None:
            async with session.get(f"{url}/delay/0.1") as response:
                await response.read()

        await asyncio.gather(*(fetch() for _ in range(SIZE)))
        args, kwargs = connector.asked

        async def acquire() -> list[Any]:
            connect = super(Connector, connector).connect
            return [await connect(*args, **kwargs) for _ in range(SIZE)]

        async def release(connection: Any) -> None:
            connection.release()

        yield acquire, release


@asynccontextmanager
async def httpcore(url: str, *, speaks: bool) -> AsyncIterator[Turn]:
    """Requests to a server in memory, since there is no function that only acquires.

    A whole request is ten times as much work as the pool's part in it, which then runs with cold caches. So
    requests are also measured without speaking HTTP: like an acquire of the others, where no query is sent.
    """
    import httpcore

    if not speaks:
        _be_silent(httpcore.AsyncHTTP11Connection)

    class Stream(httpcore.AsyncNetworkStream):
        """Answers at once."""

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            """Take a request."""

        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return b"HTTP/1.1 204 No Content\r\n\r\n"

        async def aclose(self) -> None:
            """Nothing is open."""

        def get_extra_info(self, info: str) -> Any:
            return None

    class Network(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
            return Stream()

    async with httpcore.AsyncConnectionPool(max_connections=SIZE, network_backend=Network()) as pool:

        async def acquire() -> list[Any]:
            return [await fetch() for _ in range(SIZE)]

        async def fetch() -> httpcore.Response:
            request = httpcore.Request("GET", "http://127.0.0.1/", headers={"Host": "127.0.0.1"})
            response = await pool.handle_async_request(request)
            if speaks:
                await response.aread()  # closing it unread would close its connection, and the next opens one
                await response.aclose()
            return response

        yield acquire, httpcore.Response.aclose


def _be_silent(connection: Any) -> None:
    """Make connections send and receive nothing, so that only the pool's part of a request is left."""
    from httpcore._async.http11 import HTTPConnectionState

    async def send(self: Any, event: Any, timeout: float | None = None) -> None:
        """Send nothing."""

    async def receive(self: Any, request: Any) -> Any:
        return b"HTTP/1.1", 204, b"No Content", [], b""

    async def closed(self: Any) -> None:
        self._state = HTTPConnectionState.IDLE

    connection._send_event = send
    connection._receive_response_headers = receive
    connection._response_closed = closed


POOLS: dict[str, tuple[str, Callable[[str], AbstractAsyncContextManager[Turn]]]] = {
    "a connection of httpcore": ("httpcore", partial(httpcore, speaks=False)),
    "a connection of SQLAlchemy": ("sqlalchemy", sqlalchemy),
    "a connection of asyncpg": ("asyncpg", asyncpg),
    "a connection of redis": ("redis", redis),
    "the same, BlockingConnectionPool": ("redis", partial(redis, kind="BlockingConnectionPool")),
    "a connection of aiohttp": ("aiohttp", aiohttp),
}
"""By name, with the kind of the reader."""
WHOLE = {"a whole request of httpcore": ("httpcore", partial(httpcore, speaks=True))}
"""Includes what is done with an acquired connection: shown, not judged."""


async def measure(name: str, rounds: int, turns: int, url: str) -> dict[str, float]:
    """Return the cost of a bare acquire, and what the wrappers add. Each turn lies between two marks."""
    import loopwatch

    agent: Any = loopwatch.install(prometheus_port=None)
    kind, pool = (POOLS | WHOLE)[name]
    fastest: dict[str, list[float]] = {"bare": [], "loopwatch": []}
    async with pool(url) as (acquire, release):
        patches = [patch for binding in agent._engine._hub.of(kind) for patch in waits_of(binding)]
        assert patches, f"this version of {kind} is read without its waits"
        gc.collect()
        gc.freeze()
        gc.disable()  # it would run in the middle of some turns
        for _ in range(rounds):
            for which in fastest:
                for patch in patches:
                    setattr(patch.cls, patch.name, patch.ours if which == "loopwatch" else patch.original)
                fastest[which].append(float("inf"))
                for turn in range(WARM_UP + turns):
                    if turn >= WARM_UP:
                        mark()
                    began = time.thread_time()
                    acquired = await acquire()
                    took = time.thread_time() - began
                    if turn >= WARM_UP:
                        mark()
                        fastest[which][-1] = min(fastest[which][-1], took / SIZE * 1e6)
                    while acquired:
                        await release(acquired.pop())
                    gc.collect()
    bare, ours = fastest["bare"], fastest["loopwatch"]
    return {"bare": statistics.median(bare), "added": statistics.median(map(operator.sub, ours, bare))}


def waits_of(binding: Any) -> list[Any]:
    """Return the patches that observe the waits of a library."""
    return [patch for feature, patch in binding._patches if feature == "waits"]


if __name__ == "__main__":
    _, name, rounds, turns, url = sys.argv
    print(json.dumps(asyncio.run(measure(name, int(rounds), int(turns), url))), flush=True)
    os._exit(0)  # a pool may wait for its server
