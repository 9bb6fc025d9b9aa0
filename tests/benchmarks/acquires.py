"""What an acquire of a free connection costs on top, in the CPU time of its thread.

Each acquire is stood in for by a function that does nothing, since what a library does itself, some hundred
microseconds with httpx, varies by more than what is measured. What stands around it is the agent's own.
"""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from .environment import module, variables
from .report import Verdict, table

BUDGET = 1.0
ACQUIRES = 2_000
ROUNDS = 300
"""Of which the fastest counts: the others were disturbed."""


class Connection:
    """What is acquired, and in it what the library holds; as a request of HTTP, what is sent."""

    method = b"GET"
    _key = ("127.0.0.1", 80)

    def __init__(self) -> None:
        self._protocol = self._connection_record = self


CONNECTION = Connection()


class Pool:
    """Has a connection for everybody."""

    _proxy = None

    def __init__(self) -> None:
        self._queue = self

    @classmethod
    def checkout(cls, pool: Pool) -> Connection:
        return CONNECTION

    async def connect(self, req: None, traces: None, timeout: None) -> Connection:
        return CONNECTION

    async def acquire(self, timeout: float | None = None) -> Connection:
        return CONNECTION

    async def handle_async_request(self, request: Connection) -> Connection:
        self._send_request_headers(request=request)
        return request

    def _send_request_headers(self, request: Connection) -> None:
        """Send nothing."""


class WatchedPool(Pool):
    """Has the agent's wrappers."""


class WatchedQueue(Pool):
    """Has those around a pool that another object stands for."""


class WatchedClient(Pool):
    """Has those around a client of HTTP."""


async def acquires(pool: Pool) -> None:
    for _ in range(ACQUIRES):
        await pool.acquire()


async def of_queues(pool: Pool) -> None:
    await acquires(pool)


async def checkouts(pool: Pool) -> None:
    for _ in range(ACQUIRES):
        pool.checkout(pool)


async def connects(pool: Pool) -> None:
    for _ in range(ACQUIRES):
        await pool.connect(None, traces=None, timeout=None)


async def requests(pool: Pool) -> None:
    request = Connection()
    for _ in range(ACQUIRES):
        await pool.handle_async_request(request)


KINDS: dict[str, Callable[[Pool], Awaitable[None]]] = {
    "a coroutine function, as of psycopg, redis": acquires,
    "a connection of asyncpg": of_queues,
    "a connection of SQLAlchemy": checkouts,
    "a connection of aiohttp": connects,
    "a request of httpcore": requests,
}


async def fastest(kind: Callable[[Pool], Awaitable[None]], pool: Pool) -> float:
    """Return microseconds for each acquire."""
    times = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        await kind(pool)
        times.append(time.thread_time() - began)
    return min(times) / ACQUIRES * 1e6


def watch(agent: Any) -> None:
    """Bind readers of the agent's to the classes of pools."""
    from loopwatch._collectors.pools import aiohttp, asyncpg, httpcore, sqlalchemy
    from loopwatch._collectors.pools.binding import Binding
    from loopwatch._collectors.pools.protocol import PoolReader

    class Reader(PoolReader):
        kind = "benchmark"
        modules = ()

        def bind(self, module: ModuleType, binding: Binding) -> None:
            with binding.feature("waits"):
                binding.acquires(WatchedPool, "acquire")
                checks_out = functools.partial(sqlalchemy._checks_out, binding)
                binding.wrap(WatchedPool, "checkout", checks_out)
                binding.wrap(WatchedPool, "connect", functools.partial(aiohttp._connects, binding))

        def label(self, pool: Any) -> str:
            return self.kind

    class QueueReader(asyncpg.AsyncpgReader):
        kind = "benchmark of asyncpg"
        modules = ()

        def bind(self, module: ModuleType, binding: Binding) -> None:
            with binding.feature("waits"):
                binding.acquires(WatchedQueue, "acquire")

        def noted(self, pool: Any) -> None:
            """There are no holders."""

        def label(self, pool: Any) -> str:
            return self.kind

    class RequestReader(Reader):
        kind = "benchmark of httpcore"
        registers = httpcore.HttpcoreReader.registers

        def bind(self, module: ModuleType, binding: Binding) -> None:
            proxied: httpcore.Proxied = {}
            handles = functools.partial(httpcore._handles, binding, proxied)
            with binding.feature("waits"):
                binding.wrap(WatchedClient, "handle_async_request", handles)
                sends = functools.partial(httpcore._sends, binding, proxied)
                binding.wrap(WatchedClient, "_send_request_headers", sends)

    for reader in (Reader(), QueueReader(), RequestReader()):
        agent._engine._hub._bind(reader, sys.modules[__name__])


async def measure() -> dict[str, tuple[float, float]]:
    import loopwatch

    agent = loopwatch.install(prometheus_port=None)
    await asyncio.sleep(0)
    watch(agent)
    found = {}
    for name, kind in KINDS.items():
        ours = {requests: WatchedClient, of_queues: WatchedQueue}.get(kind, WatchedPool)()
        found[name] = await fastest(kind, Pool()), await fastest(kind, ours)
    return found


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print, judge."""
    done = subprocess.run(module("acquires"), stdout=subprocess.PIPE, text=True, check=True, env=variables())
    found: dict[str, tuple[float, float]] = json.loads(done.stdout)
    rows = [
        (name, f"{bare:.3f}", f"{ours:.3f}", f"{ours - bare:.3f}") for name, (bare, ours) in found.items()
    ]
    table(("an acquire, us", "bare", "loopwatch", "added"), rows)
    return [Verdict(f"added to {name}", ours - bare, BUDGET, " us") for name, (bare, ours) in found.items()]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))
