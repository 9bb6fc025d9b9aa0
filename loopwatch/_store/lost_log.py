"""The tasks that were lost: the last ones whole, all of them as totals."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from loopwatch._places import Place
from loopwatch._records import LeakReason, Lost, LostReason
from loopwatch.facts import OTHER, TOP

from .watched import Values


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss as it was found, before it is made a record: see there for what each field says."""

    reason: LostReason
    site: Place
    coroutine: str
    since: float | None
    """Monotonic time from which its age counts; None where that is not known."""
    values: Values | None
    exception: str | None = None
    stack: tuple[Place, ...] = ()
    """Outermost first."""
    waiting_on: str | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


class LostLog:
    """Written by the watchdog; any thread may read."""

    KEPT = 256

    def __init__(self) -> None:
        self._lost: deque[Lost] = deque(maxlen=self.KEPT)
        self.reasons: Counter[LostReason] = Counter()
        self.unretrieved: Counter[str] = Counter()
        """By type of the exception; types beyond the first TOP under OTHER."""
        self.leaked: dict[LeakReason, int] = {}
        """Tasks found to be leaked that live still."""

    def add(self, lost: Lost) -> None:
        """Keep a loss."""
        self._lost.append(lost)
        self.reasons[lost.reason] += 1
        if lost.reason == "unretrieved_exception":
            error = lost.exception or OTHER
            known = error in self.unretrieved or len(self.unretrieved) < TOP
            self.unretrieved[error if known else OTHER] += 1

    def last(self) -> tuple[Lost, ...]:
        """Return the losses kept, oldest first."""
        return tuple(self._lost)

    def clear(self) -> None:
        """Forget everything: in a forked child, whose losses they are not."""
        self._lost.clear()
        self.reasons.clear()
        self.unretrieved.clear()
        self.leaked.clear()
