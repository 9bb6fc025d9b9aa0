"""``install()`` inside a running loop: some servers import the application after their loop has started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import loopwatch

from .provoked import Block, block

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

IDLE = 1.0
BLOCK = 0.3


@dataclass
class Seen:
    """What the loop did by the test's clock, and what the agent says."""

    block: Block
    stall: loopwatch.Stall
    loop: loopwatch.Loop


def sleeps() -> None:
    time.sleep(BLOCK)


async def wait_and_block() -> Block:
    await asyncio.sleep(IDLE)
    blocked = block(sleeps)
    await asyncio.sleep(0.05)
    return blocked


@pytest.fixture
def seen(new_loop: LoopFactory) -> Seen:
    """Install, wait and block within one run."""

    async def main() -> tuple[loopwatch.Agent, Block]:
        return loopwatch.install(prometheus_port=None), await wait_and_block()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        agent, blocked = runner.run(main())
        loopwatch.uninstall()
        (loop,) = agent.loops()
        (stall,) = (stall for stall in agent.stalls() if blocked.is_told_in(stall))
        return Seen(blocked, stall, loop)


def test_the_wait_before_a_stall_is_no_part_of_it(seen: Seen) -> None:
    assert seen.stall.duration == pytest.approx(seen.block.seconds, abs=IDLE / 2)


def test_waiting_is_not_busy(seen: Seen) -> None:
    busy = seen.block.seconds / (IDLE + seen.block.seconds)
    assert seen.loop.utilization == pytest.approx(busy, abs=0.3)


def test_the_stack_begins_at_the_loop(seen: Seen) -> None:
    functions = [frame.function for frame in seen.stall.stack]
    assert functions[-3:] == ["wait_and_block", "block", "sleeps"]
    assert "seen" not in functions
