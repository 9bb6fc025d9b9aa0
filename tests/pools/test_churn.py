"""Pools read from another thread while they are used: nothing raises, no value is seen that cannot be."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest

from loopwatch import Agent

from .experiment import read_under_churn
from .libraries import Library, give_back


@pytest.fixture(autouse=True)
def take_turns() -> Iterator[None]:
    """Have the threads take turns 500 times as often, so that reads fall in the middle of everything."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


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
