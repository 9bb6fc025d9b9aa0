"""The log line of a stall."""

from __future__ import annotations

import logging

from loopwatch._clock import Clock
from loopwatch._journal import Journal
from loopwatch._pace import Pace
from loopwatch._records import Stall


class StallReport:
    """Logs one line for each stall, as WARNING on logger ``loopwatch``. The watchdog's thread."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self._pace = Pace(clock)
        self._journal = journal

    @property
    def log_suppressed(self) -> int:
        """Lines withheld since the start."""
        return self._pace.suppressed

    def clear(self) -> None:
        """Begin anew: in a forked child."""
        self._pace.clear()

    def tell(self, stall: Stall) -> None:
        """Log ``stall``, unless too many were of late; then the next line says how many were not."""
        withheld = self._pace.admit()
        if withheld is None:
            return
        more = f" ({withheld} more stalls not logged)" if withheld else ""
        self._journal.say(logging.WARNING, "loopwatch: %s%s", sentence(stall), more)

    def end(self) -> None:
        """Say at the end how many stalls no line has told of."""
        if withheld := self._pace.rest():
            self._journal.say(logging.WARNING, "loopwatch: %d more stalls not logged", withheld)


def sentence(stall: Stall) -> str:
    """Say a stall in one line: how long, where, why, in which task."""
    if stall.culprit is None:
        who = ", by no application code that was seen"
    elif stall.call is not None:
        who = f" by {stall.call} in {stall.culprit}"
    else:
        who = f" by {stall.culprit}"
    verb = "has been blocked for" if stall.in_progress else "was blocked for"
    name = f" {stall.task_name!r}" if stall.task_name else ""
    task = f"; task{name} ({stall.coroutine})" if stall.coroutine else ""
    ms = stall.duration * 1000
    return f"event loop {stall.loop_name!r} {verb} {ms:.0f} ms [{stall.cause}]{who}{task}"
