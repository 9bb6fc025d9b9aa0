"""Stalls that a test provokes, as timed by its own clock, and what the agent reports of each.

A machine busy with other work holds up a loop at other times too, and for longer than the test did. So a
stall is identified by its time, never by its rank; and it may be longer than the test says, by as much as the
operating system says that threads of the process waited for a CPU: some milliseconds on a quiet machine.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import loopwatch
from loopwatch import Agent, Stall
from tests.machine import CpuWaits


@dataclass(frozen=True)
class Block:
    """One stretch in which the test held up the loop."""

    began: float
    """Unix time."""
    seconds: float

    def is_told_in(self, stall: Stall) -> bool:
        """Whether ``stall`` is about this one: it covers more than half, so of two halves neither is."""
        began = max(self.began, stall.started_at)
        ended = min(self.began + self.seconds, stall.started_at + stall.duration)
        return ended - began > self.seconds / 2


def block(work: Callable[[], object]) -> Block:
    """Do ``work``, which holds up the loop, and return when that was and for how long."""
    wall, began = time.time(), time.monotonic()
    work()
    return Block(wall, time.monotonic() - began)


def but_stalls(text: str) -> list[str]:
    """Return the lines a program wrote, without those about stalls: a busy machine adds some of its own.

    Findings about stalls are left out, too. A thread writes all these, so they may begin within a line of the
    program's, after a part of it.
    """
    said = r"loopwatch: (event loop|LW1\d\d |\d+ more (stalls|findings) not logged).*\n?"
    return re.sub(said, "", text).splitlines()


def told_of(
    blocks: list[Block], agent: Agent, cpu_waits: CpuWaits, *, loop_name: str = "main", within: float = 0.02
) -> list[Stall]:
    """Return the stall of a loop that reports each block: one, and as long as the block. Ends the agent.

    Left out is one of which the agent had no sample, if threads waited for a CPU for half as long as the
    block took: its watchdog may have been one of them.
    """
    waited = cpu_waits.seconds()  # including the agent's own threads, which are about to end
    loopwatch.uninstall()
    stalls = []
    for each in blocks:
        found = [stall for stall in agent.stalls() if stall.loop_name == loop_name and each.is_told_in(stall)]
        assert len(found) == 1, (each, agent.stalls())
        assert each.seconds - within < found[0].duration < each.seconds + within + waited, (each, found)
        if found[0].samples or waited < each.seconds / 2:
            stalls += found
    return stalls
