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
    """What is acquired; as a request of HTTP, what is sent."""

    method = b"GET"


CONNECTION = Connection()


class Pool:
    """Has a connection for everybody."""

    _proxy = None

    async def acquire(self, timeout: float | None = None) -> Connection:
        return CONNECTION

    def take(self, timeout: float | None = None) -> Connection:
        return CONNECTION

    async def handle_async_request(self, request: Connection) -> Connection:
        self._send_request_headers(request=request)
        return request

    def _send_request_headers(self, request: Connection) -> None:
        """Send nothing."""


class WatchedPool(Pool):
    """Has the agent's wrappers."""


class WatchedClient(Pool):
    """Has those around a client of HTTP."""


async def acquires(pool: Pool) -> None:
    for _ in range(ACQUIRES):
        await pool.acquire()


async def takes(pool: Pool) -> None:
    for _ in range(ACQUIRES):
        pool.take()


async def requests(pool: Pool) -> None:
    request = Connection()
    for _ in range(ACQUIRES):
        await pool.handle_async_request(request)


KINDS: dict[str, Callable[[Pool], Awaitable[None]]] = {
    "a coroutine function, as of asyncpg, psycopg, redis": acquires,
    "a plain function, as of SQLAlchemy": takes,
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
    from loopwatch._collectors.pools import httpcore
    from loopwatch._collectors.pools.binding import Binding
    from loopwatch._collectors.pools.protocol import PoolReader

    class Reader(PoolReader):
        kind = "benchmark"
        modules = ()

        def bind(self, module: ModuleType, binding: Binding) -> None:
            with binding.feature("waits"):
                binding.acquires(WatchedPool, "acquire")
                binding.acquires(WatchedPool, "take", awaited=False)

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

    for reader in (Reader(), RequestReader()):
        agent._engine._hub._bind(reader, sys.modules[__name__])


async def measure() -> dict[str, tuple[float, float]]:
    import loopwatch

    agent = loopwatch.install(prometheus_port=None)
    await asyncio.sleep(0)
    watch(agent)
    found = {}
    for name, kind in KINDS.items():
        ours = WatchedClient() if kind is requests else WatchedPool()
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
