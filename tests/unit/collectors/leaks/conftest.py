"""A loop in simulated time, whose tasks are recorded and looked at as those of a real one are."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import selectors
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from loopwatch import Lost
from loopwatch._collectors.leaks.finder import LeakFinder
from loopwatch._collectors.leaks.found import Found
from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal
from loopwatch._probes.tasks import TaskProbe, wrap_create_task
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.lost_log import LostLog
from loopwatch._store.outbox import Outbox
from loopwatch._store.unread import Unread
from loopwatch._watchdog.code_owner import CodeOwner
from loopwatch._watchdog.loss_report import LossReport
from loopwatch.testing import FakeClock


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Lets time pass instead of waiting, a second at most between two looks of the watchdog."""

    def __init__(self, fake: FakeClock, look: Callable[[], None], every: float) -> None:
        super().__init__()
        self._fake = fake
        self._look = look
        self._every = every
        self._look_at = fake.monotonic() + every

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing will ever happen again"
        until = self._fake.monotonic() + timeout
        while self._look_at <= until:
            self._fake.advance(max(0.0, self._look_at - self._fake.monotonic()))
            self._look()
            self._look_at = self._fake.monotonic() + self._every
        self._fake.advance(max(0.0, until - self._fake.monotonic()))
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, fake: FakeClock, selector: _Selector) -> None:
        super().__init__(selector)
        self._fake = fake

    def time(self) -> float:
        return self._fake.monotonic()


class _CostlyClock(FakeClock):
    """Whoever asks what CPU time was used, has used some."""

    cost = 0.0

    def thread_cpu(self) -> float:
        self.spend(self.cost)
        return super().thread_cpu()


class Simulation:
    """Runs a program in simulated time, and looks for leaks in it every so many seconds."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.fake = _CostlyClock()
        clock, journal = self.fake.clock, Journal()
        self.log, contexts, states = LostLog(), ContextReader(journal), LoopStates()
        report = LossReport(self.log, contexts, CodeOwner(), Outbox(), clock, journal)
        unread = Unread(journal)
        self.finder = LeakFinder(states, Found(contexts, self.log, report, unread), clock, unread)
        self.looks = 0
        self.loop = _Loop(self.fake, _Selector(self.fake, self._look, every))
        _Loop.create_task = wrap_create_task(  # type: ignore[method-assign]
            lambda loop: None, clock.monotonic, journal, asyncio.SelectorEventLoop.create_task
        )
        state = states.claim(self.loop, "asyncio", has_selector=True)
        assert state is not None
        self.state = state
        self.loop._loopwatch_tasks = TaskProbe(state.tasks, contexts, clock, journal)  # type: ignore[attr-defined]
        self.journal = journal

    def run(self, main: Coroutine[Any, Any, Any]) -> None:
        """Run to the end of ``main``; what is pending then is left as it is."""
        self.state.enter(self.fake.monotonic(), 0.0)
        self.loop.run_until_complete(main)

    def each_look_costs(self, seconds: float) -> None:
        """Have the search pay for each task it looks at: it asks for the time after each."""
        self.fake.cost = seconds

    def lost(self) -> list[Lost]:
        """Return what was found."""
        return list(self.log.last())

    def close(self) -> None:
        """Cancel what is left."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        with contextlib.suppress(RecursionError):
            self.loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        self.loop.close()
        assert self.journal.failures() == {}

    def _look(self) -> None:
        self.looks += 1
        self.state.tasks.settle()
        self.finder.look()


@pytest.fixture
def simulate() -> Iterator[Callable[..., Simulation]]:
    """Make simulations; ``every``: simulated seconds between two looks."""
    made: list[Simulation] = []

    def simulate(every: float = 1.0) -> Simulation:
        made.append(Simulation(every))
        return made[-1]

    yield simulate
    for simulation in made:
        simulation.close()
