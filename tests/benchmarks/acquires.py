"""What an acquire of a free connection costs on top, in the CPU time of its thread.

Each acquire is stood in for by a function that does nothing, since what a library does itself, some hundred
microseconds with httpx, varies by more than what is measured. What stands around it is the agent's own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
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


def watched(agent: Any) -> type[Pool]:
    """Return a class of pools that the agent's readers are bound to."""
    from loopwatch._collectors.pools import httpcore
    from loopwatch._collectors.pools.binding import Binding
    from loopwatch._collectors.pools.protocol import PoolReader, Sample

    class Reader(PoolReader):
        kind = "benchmark"
        modules = ()

        def bind(self, module: ModuleType, binding: Binding) -> None:
            with binding.feature("waits"):
                binding.acquires(Watched, "acquire")
                binding.acquires(Watched, "take", awaited=False)
                proxied: httpcore.Proxied = {}
                for name, wrapper in (
                    ("handle_async_request", httpcore._handles),
                    ("_send_request_headers", httpcore._sends),
                ):
                    binding.wrap(
                        Watched, name, lambda original, make=wrapper: make(binding, proxied, original)
                    )

        def label(self, pool: Any) -> str:
            return "benchmark"

        def read(self, anchor: Any) -> Sample:
            return Sample()

        def holders(self, anchor: Any) -> Iterable[object]:
            return ()

    class Watched(Pool):
        pass

    agent._engine._hub._bind(Reader(), sys.modules[__name__])
    return Watched


async def measure() -> dict[str, tuple[float, float]]:
    import loopwatch

    agent = loopwatch.install(prometheus_port=None)
    await asyncio.sleep(0)
    cls = watched(agent)
    return {name: (await fastest(kind, Pool()), await fastest(kind, cls())) for name, kind in KINDS.items()}


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
