"""A loop that does not run owes nothing, whatever the program does meanwhile; nor one with a time of its own.

These tests block on purpose for longer than the threshold while no loop runs. They ask for stalls during
that pause, not for no stalls at all: on a busy machine a loop may truly be held up at some other time.
"""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import loopwatch
from tests.machine import CpuWaits

THRESHOLD = 0.05
PAUSE = 4 * THRESHOLD

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def agent() -> Iterator[loopwatch.Agent]:
    """An agent with an endpoint and a low threshold."""
    yield loopwatch.install(prometheus_port=0, stall_threshold=THRESHOLD, hold_dump=False)
    loopwatch.uninstall()


@dataclass
class Pauses:
    """Stretches of time in which the program blocked and no loop ran."""

    spans: list[tuple[float, float]] = field(default_factory=list)

    def block(self) -> None:
        """Work synchronously, for longer than the threshold."""
        start = time.time()
        time.sleep(PAUSE)
        self.spans.append((start, time.time()))

    def blamed(self, agent: loopwatch.Agent) -> list[loopwatch.Stall]:
        """Return the stalls reported for these times. Ends the agent: its last look reports any left."""
        loopwatch.uninstall()
        assert self.spans
        return [
            stall for stall in agent.stalls() if any(_overlap(stall, span) > THRESHOLD for span in self.spans)
        ]


def _overlap(stall: loopwatch.Stall, span: tuple[float, float]) -> float:
    start, end = span
    return min(end, stall.started_at + stall.duration) - max(start, stall.started_at)


@pytest.fixture
def pauses() -> Pauses:
    """No pause yet."""
    return Pauses()


def test_between_two_runs(agent: loopwatch.Agent, new_loop: LoopFactory, pauses: Pauses) -> None:
    """Work between two ``run_until_complete`` calls of one loop is no stall."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for _ in range(3):
            runner.run(asyncio.sleep(0.001))
            pauses.block()
        runner.run(asyncio.sleep(0.001))
    assert pauses.blamed(agent) == []


def test_timer_that_fell_due_between_two_runs(
    agent: loopwatch.Agent, new_loop: LoopFactory, pauses: Pauses
) -> None:
    """A timer of the program that was due while the loop did not run makes no stall of that time."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        loop = runner.get_loop()
        runner.run(asyncio.sleep(0))
        due = loop.create_future()
        loop.call_later(THRESHOLD / 10, due.set_result, None)
        pauses.block()

        async def wait() -> None:
            await due

        runner.run(wait())
    assert pauses.blamed(agent) == []


def test_before_the_first_run(agent: loopwatch.Agent, new_loop: LoopFactory, pauses: Pauses) -> None:
    """A loop that has not run yet owes nothing, though callbacks wait in it."""
    loop = new_loop()
    loop.call_soon(loop.stop)
    pauses.block()
    loop.run_forever()
    loop.close()
    assert pauses.blamed(agent) == []


def test_after_stop(agent: loopwatch.Agent, new_loop: LoopFactory, pauses: Pauses) -> None:
    """A loop that was stopped owes nothing, though callbacks wait in it."""
    loop = new_loop()
    loop.call_soon(loop.stop)
    loop.call_later(0, lambda: None)
    loop.run_forever()
    loop.call_soon(loop.stop)
    pauses.block()
    loop.run_forever()
    loop.close()
    assert pauses.blamed(agent) == []


def test_after_close(agent: loopwatch.Agent, new_loop: LoopFactory, pauses: Pauses) -> None:
    """A closed loop owes nothing, whether it is kept or not."""
    kept = new_loop()
    for loop in (kept, new_loop()):
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    del loop
    pauses.block()
    assert pauses.blamed(agent) == []


def test_after_a_run_that_failed(agent: loopwatch.Agent, new_loop: LoopFactory, pauses: Pauses) -> None:
    """A run that ends by an exception out of ``run_forever`` has ended all the same."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    loop = new_loop()
    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    pauses.block()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert pauses.blamed(agent) == []


def test_run_in_which_it_was_installed(new_loop: LoopFactory, pauses: Pauses) -> None:
    """A loop that runs already at ``install()`` ends that run unseen, and owes nothing from then on."""

    async def install() -> loopwatch.Agent:
        return loopwatch.install(prometheus_port=None, stall_threshold=THRESHOLD, hold_dump=False)

    loopwatch.uninstall()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        agent = runner.run(install())
        pauses.block()
        runner.run(asyncio.sleep(0.001))
        pauses.block()
        runner.run(asyncio.sleep(0.001))
    assert pauses.blamed(agent) == []


class VirtualClock(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


class OwnCallLater(asyncio.SelectorEventLoop):
    """Keeps track of the timers of the program under test."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def call_later(self, delay: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        self.asked.append(delay)
        return super().call_later(delay, *args, **kwargs)


class OwnCallAt(asyncio.SelectorEventLoop):
    """Keeps track of the timers of the program under test, too."""

    def call_at(self, when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        return super().call_at(when, *args, **kwargs)


class OwnSteps(asyncio.SelectorEventLoop):
    """Takes its own steps."""

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]


def _uvloop_with_own_time() -> asyncio.AbstractEventLoop:
    uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")

    class OwnTime(uvloop.Loop):  # type: ignore[misc, name-defined]
        def time(self) -> float:
            return 2 * float(super().time())

    return OwnTime()


@pytest.mark.parametrize("make", [VirtualClock, OwnCallLater, OwnCallAt, OwnSteps, _uvloop_with_own_time])
def test_loop_with_its_own_time(agent: loopwatch.Agent, make: LoopFactory, pauses: Pauses) -> None:
    """A loop that overrides what timers rest on is left alone, and counted with the reason."""

    async def work() -> None:
        await asyncio.sleep(THRESHOLD / 10)
        pauses.block()
        await asyncio.sleep(THRESHOLD / 10)

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(work())
        runner.run(work())
        assert agent.loops() == ()
    (point,) = agent.snapshot().points["unwatched"]
    assert point.value == 1
    assert pauses.blamed(agent) == []


def test_own_time_sees_no_timer_of_ours(agent: loopwatch.Agent) -> None:
    """A loop that counts its timers counts the program's alone."""
    loop = OwnCallLater()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert loop.asked == [0.001]
    loop.close()


def test_virtual_hours_take_no_time(agent: loopwatch.Agent) -> None:
    """The jumps of a virtual clock are its own: no beat of ours keeps it from jumping far."""
    loop = VirtualClock()
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.now == pytest.approx(3600)
    loop.close()
    loopwatch.uninstall()
    assert agent.stalls() == ()


def test_our_own_start(
    agent: loopwatch.Agent, new_loop: LoopFactory, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our threads start with the first loop that runs; however long that takes, it is no step of the loop."""
    start = threading.Thread.start

    def start_slowly(thread: threading.Thread) -> None:
        if thread.name.startswith("loopwatch"):
            pauses.block()
        start(thread)

    with monkeypatch.context() as patch, asyncio.Runner(loop_factory=new_loop) as runner:
        patch.setattr(threading.Thread, "start", start_slowly)
        runner.run(asyncio.sleep(0.001))
    assert pauses.blamed(agent) == []


def test_our_own_work(agent: loopwatch.Agent, new_loop: LoopFactory, cpu_waits: CpuWaits) -> None:
    """Scrapes, snapshots and log lines about many stalls are no stall, and stand in no stack."""

    def read() -> None:
        for _ in range(20):
            agent.snapshot()
            with urllib.request.urlopen(str(agent.prometheus_url), timeout=60) as answer:
                answer.read()
        cpu_waits.seconds()  # of this thread, too, which is about to end

    async def serve() -> None:
        reading = asyncio.create_task(asyncio.to_thread(read))
        for _ in range(5):
            time.sleep(2 * THRESHOLD)
            await asyncio.sleep(THRESHOLD)
        await reading

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())
    waited = cpu_waits.seconds()
    loopwatch.uninstall()
    assert agent.stalls()
    for stall in agent.stalls():
        assert stall.cause != "gil" or stall.duration < 2 * waited  # who had the GIL had no CPU
        if stall.culprit is not None:  # a busy machine may hold the loop up anywhere, in select too
            assert not [frame for frame in stall.stack if frame.module.startswith("loopwatch")]
