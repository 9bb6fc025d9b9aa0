"""The losses: the last ones whole, all of them as totals."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from loopwatch._agent_records import LeakReason, Lost, LostReason
from loopwatch._places import Place
from loopwatch.facts import OTHER, TOP

from .watched import Values


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss as it was found, before it becomes a ``Lost`` record, which documents the fields."""

    reason: LostReason
    site: Place
    coroutine: str
    since: float | None
    """Monotonic time from which its age counts; None if unknown."""
    values: Values | None
    exception: str | None = None
    stack: tuple[Place, ...] = ()
    """Outermost first."""
    waiting_on: str | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    task_name: str | None = None
    leak: LeakReason | None = None


class LostLog:
    """Written by the watchdog; any thread may read."""

    KEPT = 256
    OF_SITE = 64
    """Losses kept of the same reason and site, so that many of one kind push out no others."""

    def __init__(self) -> None:
        self._lost: deque[Lost] = deque(maxlen=self.KEPT)
        self.reasons: Counter[LostReason] = Counter()
        self.unretrieved: Counter[str] = Counter()
        """By type of the exception; types beyond the first TOP under OTHER."""
        self.leaked: dict[LeakReason, int] = {}
        """Leaked tasks that still exist."""

    def add(self, lost: Lost, instead_of: Lost | None = None) -> None:
        """Keep a loss, in place of an earlier one of the same task if there is one."""
        if instead_of is not None:
            self._drop(instead_of)
        alike = [one for one in self._lost if one.reason == lost.reason and one.site == lost.site]
        if len(alike) >= self.OF_SITE:
            self._drop(alike[0])
        self._lost.append(lost)
        self.reasons[lost.reason] += 1
        if lost.reason == "unretrieved_exception":
            error = lost.exception or OTHER
            known = error in self.unretrieved or len(self.unretrieved) < TOP
            self.unretrieved[error if known else OTHER] += 1

    def _drop(self, lost: Lost) -> None:
        for index, one in enumerate(self._lost):
            if one is lost:
                del self._lost[index]
                return

    def last(self) -> tuple[Lost, ...]:
        """Return the losses kept, oldest first."""
        return tuple(self._lost)

    def clear(self) -> None:
        """Forget everything: in a forked child, whose losses they are not."""
        self._lost.clear()
        self.reasons.clear()
        self.unretrieved.clear()
        self.leaked.clear()
