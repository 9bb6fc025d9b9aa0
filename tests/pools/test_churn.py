"""Pools read from another thread while they are used: nothing raises, no value is seen that cannot be."""

from __future__ import annotations

import asyncio

from loopwatch import Agent

from .experiment import read_under_churn
from .libraries import Library, give_back


def test_reads_under_churn(agent: Agent, library: Library, url: str) -> None:
    async def main() -> None:
        async with library.pool(url) as (acquire, release):
            await give_back(release, await acquire())

            async def use() -> None:
                connection = await acquire()
                await asyncio.sleep(0)
                await give_back(release, connection)

            await read_under_churn(agent, library.kind, use)

    asyncio.run(main())
