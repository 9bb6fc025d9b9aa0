"""The tasks of one loop that the search for leaks has to look at in one round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopwatch._collectors.references import Prover
from loopwatch._store.loop_state import LoopState
from loopwatch._store.tasks import LiveTask
from loopwatch._store.unread import Unread

from .floors import GROWTH, SPAN, WINDOW, Floors
from .lasting import is_meant_to_last, may_be_woken
from .overage import Overage, longest_usual
from .piles import Piles
from .turns import Turns


class Suspects:
    """What is remembered of one loop from round to round."""

    def __init__(self, state: LoopState, now: float, unread: Unread) -> None:
        self._state = state
        self._unread = unread
        self._looked_at = self._now = now
        self._live: Sequence[LiveTask] = ()
        self._turns = Turns()
        self._floors = Floors(now)
        self._overage = Overage(self._may_last)
        self.piles = Piles()
        self.prover = Prover()
        """What it learns goes stale: each round has its own."""

    def begin(self, now: float) -> None:
        """Begin a round."""
        self._looked_at, self._now = self._now, now
        self._live = self._state.tasks.records()
        self._turns.fall_due(self._live, self._looked_at, now)
        self.prover = Prover()

    def end(self) -> None:
        """End the round, to hold no record for longer."""
        self._live = ()
        self.prover = Prover()

    def next(self) -> LiveTask | None:
        """Return the task whose turn it is to be looked at; None when all have had theirs."""
        return self._turns.next()

    def is_meant_to_last(self, record: LiveTask) -> bool:
        """Whether a task is a daemon, or behaves like one, or cannot be read."""
        return self._unread.read(is_meant_to_last, record, self._state.entered_at) is not False

    def over_age(self) -> Iterator[LiveTask]:
        """Yield tasks that live much longer than is usual at their site."""
        sites = self._state.tasks.sites.all()
        return iter(self._overage.look(sites, self._live, self._now))

    def piled_up(self) -> Iterator[LiveTask]:
        """Yield tasks that become more and more, since none that grows as old ends."""
        for site in self._floors.look(self._state.tasks.sites.all(), self._now):
            limit = max(WINDOW, longest_usual(site))
            by_coroutine: dict[str, list[LiveTask]] = {}
            for record in self._live:
                if record.site is site and self._now - record.started > limit:
                    by_coroutine.setdefault(record.coroutine, []).append(record)
            for old in by_coroutine.values():
                found = [record for record in old if not self._may_last(record, in_turn=False)]
                if sum(self._now - record.started < SPAN for record in found) >= GROWTH:
                    yield from found

    def _may_last(self, record: LiveTask, *, in_turn: bool = True) -> bool:
        task = record()
        return (
            task is None
            or self.is_meant_to_last(record)
            or self._unread.read(may_be_woken, task, self._now, in_turn=in_turn) is not False
            or self._unread.read(self.prover.is_behind_timer, task) is not False
        )
