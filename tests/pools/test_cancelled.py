"""Those who give up waiting for a connection: counted exactly, and their waits with them."""

from __future__ import annotations

import asyncio

import pytest

from loopwatch import Agent

from .experiment import pool_of
from .libraries import SIZE, Library, give_back

GIVE_UP = 3


def test_those_who_give_up_are_counted(agent: Agent, library: Library, url: str) -> None:
    if not library.by_tasks or library.kind == "process_pool":
        pytest.skip("what waits there cannot always be cancelled")

    async def main() -> None:
        async with library.pool(url) as (acquire, release):
            held = [await acquire() for _ in range(SIZE)]
            waiting = [asyncio.create_task(acquire()) for _ in range(GIVE_UP)]
            async with asyncio.timeout(120):
                while (await pool_of(agent, library.kind)).pending != GIVE_UP:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.1)  # under test: they wait for so long at least
            for task in waiting:
                task.cancel()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(end) for end in ends] == [asyncio.CancelledError] * GIVE_UP
            for connection in held:
                await give_back(release, connection)
            async with asyncio.timeout(120):  # a thread is busy for a moment after its work
                while ((pool := await pool_of(agent, library.kind)).used, pool.pending) != (0, 0):
                    await asyncio.sleep(0)
            assert (pool.cancelled, pool.timeouts, pool.rejected) == (GIVE_UP, 0, 0)
            assert pool.wait_count == SIZE + GIVE_UP
            assert pool.wait_sum is not None
            assert pool.wait_sum >= GIVE_UP * 0.1

    asyncio.run(main())
