"""The log line of a stall."""

from __future__ import annotations

import logging

from loopwatch._agent_records import Stall
from loopwatch._clock import Clock
from loopwatch._journal import Journal, PacedLog, work_of
from loopwatch._words import of_whom


class StallReport(PacedLog):
    """Logs one line for each stall, as WARNING on logger ``loopwatch``. Watchdog thread."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        super().__init__("stalls", clock, journal)

    def tell(self, stall: Stall) -> None:
        """Log ``stall``."""
        self.log(logging.WARNING, sentence(stall), work_of(stall))


def sentence(stall: Stall) -> str:
    """Describe a stall in one line: how long, where, why, in which task, for whom."""
    if stall.culprit is None:
        who = ", by no application code that was seen"
    elif stall.call is not None:
        who = f" by {stall.call} in {stall.culprit}"
    else:
        who = f" by {stall.culprit}"
    verb = "has been blocked for" if stall.in_progress else "was blocked for"
    name = f" {stall.task_name!r}" if stall.task_name else ""
    task = f"; task{name} ({stall.coroutine})" if stall.coroutine else ""
    whom = of_whom(stall.context, stall.trace_id)
    ms = stall.duration * 1000
    return f"event loop {stall.loop_name!r} {verb} {ms:.0f} ms [{stall.cause}]{who}{task}{whom}"
