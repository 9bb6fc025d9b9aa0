"""A telnet client may cost so much of a core, and no more."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from prompt_toolkit.input import create_pipe_input

from loopwatch._clock import SYSTEM, Clock
from loopwatch._console import client
from loopwatch._console.client import Client

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a pair of UNIX sockets")


def arrivals(reads: int, cost: Callable[[], float], charged: Callable[[], float]) -> list[float]:
    """Send as much as takes so many reads, and return when each came."""
    arrived: list[float] = []

    async def nothing(connected: Client) -> None:
        raise AssertionError("no terminal was named")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs, create_pipe_input() as keys:
            clock = Clock(monotonic=SYSTEM.monotonic, thread_cpu=cost)
            served = Client(ours, keys, nothing, clock, charged, asyncio.Lock())
            taken = served.feed

            def feed(data: bytes) -> None:
                arrived.append(loop.time())
                taken(data)

            served.feed = feed  # type: ignore[method-assign]
            running = asyncio.create_task(served.run_application())
            theirs.sendall(b"\0" * client.READ * reads)
            while len(arrived) < reads:
                await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    return arrived


def test_reading_rests_for_nine_times_what_it_cost() -> None:
    """Each read costs 25 ms here, so that one may come every 225 ms."""
    spent = 0.0
    costs = []

    def cost() -> float:
        nonlocal spent
        spent += 0.025  # asked at the beginning and at the end of each read
        return spent

    def charged() -> float:
        costs.append(spent)
        return 0.0

    apart = [later - earlier for earlier, later in pairwise(arrivals(4, cost, charged))]
    assert min(apart) > 0.2
    assert len(costs) >= 3


def test_reading_rests_for_as_long_as_it_is_told_to() -> None:
    """What one read costs is cheap, but others have spent all that there is."""
    told = iter([0.3, 0.0, 0.3])
    first, second = arrivals(2, lambda: 0.0, lambda: next(told, 0.0))
    assert second - first >= 0.29


def test_those_who_wait_are_answered_one_after_the_other() -> None:
    """Each answer costs what there is for a tenth of a second."""
    answered: list[float] = []

    def owed() -> float:
        return max(0.0, answered[-1] + 0.1 - SYSTEM.monotonic()) if answered else 0.0

    async def nothing(connected: Client) -> None:
        raise AssertionError("nobody was served")

    async def ask(served: Client) -> None:
        await served.rest()
        answered.append(SYSTEM.monotonic())

    async def main() -> None:
        ours, theirs = socket.socketpair()
        turn = asyncio.Lock()
        with ours, theirs, create_pipe_input() as keys:
            each = [Client(ours, keys, nothing, SYSTEM, owed, turn) for _ in range(8)]
            await asyncio.gather(*map(ask, each))

    asyncio.run(main())
    assert len(answered) == 8
    assert min(later - earlier for earlier, later in pairwise(answered)) >= 0.099
