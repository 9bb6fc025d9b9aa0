"""What holds for every reader, on the real library and a real server."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator

import pytest

import loopwatch
from loopwatch import Agent, Pool
from loopwatch.facts import NOBODY

from .experiment import collect_pools, pool_of, ten_callers_of_two
from .libraries import SIZE, Library, give_back
from .servers import SECRET

REQUESTS = 20
TIMEOUT = 120


@pytest.fixture
def installs() -> Iterator[Callable[..., Agent]]:
    yield loopwatch.install
    loopwatch.uninstall()


def test_ten_callers_of_two(agent: Agent, library: Library, url: str) -> None:
    async def main() -> None:
        async with library.pool(url) as (acquire, release):
            done = await ten_callers_of_two(agent, library.kind, acquire, release, by_tasks=library.by_tasks)
        assert (done.timeouts, done.rejected, done.cancelled) == (0, 0, 0)
        assert (done.instances, done.created) == (1, 1)
        assert done.label != NOBODY

    asyncio.run(main())


def test_a_pool_from_before(installs: Callable[..., Agent], library: Library, url: str) -> None:
    async def main() -> None:
        async with library.pool(url) as (acquire, release):
            for connection in [await acquire() for _ in range(SIZE)]:
                await give_back(release, connection)
            agent = installs(prometheus_port=None)
            await give_back(release, await acquire())
            done = await ten_callers_of_two(
                agent, library.kind, acquire, release, before=1, by_tasks=library.by_tasks
            )
            assert (done.instances, done.created) == (1, 1)

    asyncio.run(main())


def test_what_stands_in_place_of_a_function_passes_for_it(agent: Agent, library: Library) -> None:
    importlib.import_module(library.module)
    bindings = agent._engine._hub.of(library.kind)
    patches = [patch for binding in bindings for _, patch in binding._patches]
    assert patches
    for patch in patches:
        ours, original = (getattr(one, "__func__", one) for one in (patch.ours, patch.original))
        assert (ours.__module__, ours.__qualname__) == (original.__module__, original.__qualname__)
        assert ours.__doc__ == original.__doc__
        assert inspect.signature(ours) == inspect.signature(original)
        if sys.version_info >= (3, 12):
            assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(original), ours


def test_two_loops(agent: Agent, library: Library, url: str) -> None:
    """Each with a pool of its own: these are told together."""
    full, read = threading.Barrier(3), threading.Barrier(3)

    async def use() -> None:
        async with library.pool(url) as (acquire, release):
            held = [await acquire() for _ in range(SIZE)]
            third = asyncio.create_task(acquire())
            await asyncio.wait([third], timeout=0.2)  # under test: it gets none
            full.wait(TIMEOUT)
            read.wait(TIMEOUT)
            for connection in held:
                await give_back(release, connection)
            await give_back(release, await third)

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    full.wait(TIMEOUT)
    [pool] = pools_of(agent, library)
    read.wait(TIMEOUT)
    for thread in threads:
        thread.join()
    assert (pool.instances, pool.created) == (2, 2)
    assert (pool.max, pool.used, pool.pending) == (2 * SIZE, 2 * SIZE, 2)
    [pool] = pools_of(agent, library)
    assert (pool.wait_count, pool.created) == (2 * (SIZE + 1), 2)


def test_a_pool_for_each_request(agent: Agent, library: Library, url: str) -> None:
    """One series, of which nothing ever falls that counts."""

    async def main() -> None:
        last = (0, 0, 0.0)
        for n in range(REQUESTS):
            async with library.pool(url) as (acquire, release):
                await give_back(release, await acquire())
            pool = await pool_of(agent, library.kind)
            assert pool.created == pool.wait_count == n + 1
            now = (pool.created, pool.wait_count or 0, pool.wait_sum or 0.0)
            assert all(after >= before for before, after in zip(last, now, strict=True))
            last = now

    asyncio.run(main())
    collect_pools(agent, library.kind)
    [pool] = pools_of(agent, library)
    assert (pool.instances, pool.used, pool.pending, pool.created) == (0, 0, 0, REQUESTS)


def test_no_secret_is_told(
    installs: Callable[..., Agent], library: Library, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="loopwatch")
    agent = installs(prometheus_port=0)
    told: list[str] = []

    def ask() -> None:
        with urllib.request.urlopen(str(agent.prometheus_url)) as response:
            told.append(response.read().decode())
        told.append(str(agent.snapshot()))

    async def main() -> None:
        async with library.pool(url) as (acquire, release):
            held = [await acquire() for _ in range(SIZE)]
            third = asyncio.create_task(acquire())
            await asyncio.wait([third], timeout=0.1)  # so that it waits while we are asked
            asking = threading.Thread(target=ask)
            asking.start()
            while asking.is_alive():
                await asyncio.sleep(0.01)
            for connection in held:
                await give_back(release, connection)
            await give_back(release, await third)

    asyncio.run(main())
    assert f"'{library.kind}'" in told[1]
    for said in (*told, caplog.text):
        assert SECRET not in said


def pools_of(agent: Agent, library: Library) -> list[Pool]:
    return [pool for pool in agent.pools() if pool.kind == library.kind]
