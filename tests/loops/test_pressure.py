"""``under_pressure()`` of a real loop: as long as it has more to do than it can do, and no longer."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from loopwatch import Agent
from loopwatch._collectors import pressure
from loopwatch._watchdog import thread
from tests.machine import CpuWaits

from .conftest import PATIENCE, LoopFactory


def until(agent: Agent, pressed: bool) -> float:
    """From another thread, wait for this answer; return how long that took."""
    began = time.monotonic()
    while agent.under_pressure() is not pressed:
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.05)
    return time.monotonic() - began


def test_of_a_loop_with_too_much_to_do(
    agent: Agent, new_loop: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For five looks in a row; here there are five a second, which are none of the loop's."""
    monkeypatch.setattr(pressure, "EVERY", 0.2)
    monkeypatch.setattr(thread, "CHORES_EVERY", 0.2)
    loop = new_loop()
    work = True

    def step() -> None:
        ends = time.perf_counter() + 0.005
        while time.perf_counter() < ends:
            pass
        if work:
            loop.call_soon(step)

    runs = threading.Thread(target=loop.run_forever)
    runs.start()
    try:
        assert not agent.under_pressure()
        loop.call_soon_threadsafe(step)
        assert until(agent, True) > 0.5
        work = False
        until(agent, False)
    finally:
        work = False
        loop.call_soon_threadsafe(loop.stop)
        runs.join()
        loop.close()


def test_of_a_blocked_loop_it_is_known_before_the_next_look(
    agent: Agent, new_loop: LoopFactory, cpu_waits: CpuWaits
) -> None:
    known = threading.Event()

    def knows() -> float:
        try:
            return until(agent, True)
        finally:
            known.set()

    async def block() -> bool:
        blocked = asyncio.get_running_loop().run_in_executor(None, knows)
        known.wait(PATIENCE)
        return await blocked < 1.5 + cpu_waits.seconds()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(block())
