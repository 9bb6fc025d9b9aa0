"""``install()`` inside a running loop: some servers import the application after their loop has started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import loopwatch
from tests.machine import CpuWaits

from .provoked import Block, block, told_of

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

IDLE = 1.0
BLOCK = 0.3


@dataclass
class Seen:
    """What the loop did by the test's clock, and what the agent says."""

    block: Block
    stalls: list[loopwatch.Stall]
    loop: loopwatch.Loop
    waited: float
    """Seconds that threads waited for a CPU."""


def sleeps() -> None:
    time.sleep(BLOCK)


async def wait_and_block() -> Block:
    await asyncio.sleep(IDLE)
    blocked = block(sleeps)
    await asyncio.sleep(0.05)
    return blocked


@pytest.fixture
def seen(new_loop: LoopFactory, cpu_waits: CpuWaits) -> Seen:
    """Install, wait and block within one run."""

    async def main() -> tuple[loopwatch.Agent, Block]:
        return loopwatch.install(prometheus_port=None), await wait_and_block()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        agent, blocked = runner.run(main())
        waited = cpu_waits.seconds()
        stalls = told_of([blocked], agent, cpu_waits, within=IDLE / 2)
        (loop,) = agent.loops()
        return Seen(blocked, stalls, loop, waited)


def test_the_wait_before_a_stall_is_no_part_of_it(seen: Seen) -> None:
    assert all(stall.duration < seen.block.seconds + IDLE / 2 + seen.waited for stall in seen.stalls)


def test_waiting_is_not_busy(seen: Seen) -> None:
    busy = seen.block.seconds / (IDLE + seen.block.seconds)
    assert seen.loop.utilization == pytest.approx(busy, abs=0.3 + seen.waited)


def test_the_stack_begins_at_the_loop(seen: Seen) -> None:
    for stall in seen.stalls:
        functions = [frame.function for frame in stall.stack]
        assert functions[-3:] == ["wait_and_block", "block", "sleeps"]
        assert "seen" not in functions
