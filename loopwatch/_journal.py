"""loopwatch's own log lines. A thread of their own writes them.

A log handler may block for as long as it likes, or hold its lock while the loop thread is stuck inside it;
called from the watchdog, it would blind the watchdog at the very moment it is needed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from enum import Enum
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from ._clock import SYSTEM, Clock
from ._pace import Pace
from ._records import Work
from ._threads import IsToEnd, OwnThread

if TYPE_CHECKING:
    from ._agent_records import Borrower, Lost, Stall

logger = logging.getLogger("loopwatch")

WorkOf = Callable[[], Work]
"""Returns whose work a line is about. Called by the thread that writes it: ``show`` functions may run."""

_OF_LOGGING = frozenset((*dir(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime"))
"""Attributes and methods of a log record that must not be overwritten: logging's own, not those added by the
program's record factory."""

QUEUE_LIMIT = 1000
"""Lines waiting for a blocked handler; further ones are dropped and counted."""


class _Line(NamedTuple):
    level: int
    message: str
    args: tuple[object, ...]
    error: BaseException | None
    work: WorkOf | None


class _Mark(Enum):
    """What the queue holds besides lines."""

    LOOK_UP = "see whether a fork is about to come"
    END = "nothing comes any more"


class Journal:
    """Writes to the logger ``loopwatch``: from its thread while that runs, else from the calling one."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lines: SimpleQueue[_Line | threading.Event | _Mark] = SimpleQueue()
        self.thread = OwnThread("loopwatch-journal", self._write, lambda: self._lines.put(_Mark.LOOK_UP))
        self._failed: Counter[str] = Counter()
        self.dropped = 0
        self.cpu_time = 0.0

    def say(
        self,
        level: int,
        message: str,
        *args: object,
        error: BaseException | None = None,
        work: WorkOf | None = None,
    ) -> None:
        """Log one line, with the traceback of ``error``. Never blocks while our thread runs; any thread.

        ``args`` are formatted in that thread. The record gets ``work`` as attributes, as ``ContextFilter``
        would set them: the filter itself would find nothing in our thread.
        """
        line = _Line(level, message, args, error, work)
        if not self.thread.started:
            self._log(line)
        elif self._lines.qsize() < QUEUE_LIMIT:
            self._lines.put(line)
        else:
            self.dropped += 1

    def flush(self, timeout: float) -> None:
        """Wait until everything said so far is written, for ``timeout`` seconds at most."""
        if self.thread.started:
            written = threading.Event()
            self._lines.put(written)
            written.wait(timeout)

    def failure(self, component: str, error: BaseException, of: str = "") -> None:
        """Count a failure of our own part ``component``; log the first one, with the traceback.

        ``of`` says what was concerned. The caller has formatted it: it contains no text of the program's.

        Two threads that fail in one component at the same instant may count as one: accepted, since a lock
        here could be taken on the loop thread.
        """
        self._failed[component] += 1
        if self._failed[component] == 1:
            self.say(
                logging.ERROR,
                "loopwatch: %s%s failed; the program is not affected, and further failures of this part are "
                "only counted (loopwatch_internal_errors_total).\n%s",
                component,
                of,
                "".join(traceback.format_exception(error)).rstrip(),
            )

    def failures(self) -> dict[str, int]:
        """Return the failures counted so far, by component."""
        return dict(self._failed)

    def start(self) -> None:
        """Start the thread. Does nothing if it is running."""
        if not self.thread.started:
            self.thread.start()

    def stop(self, timeout: float) -> None:
        """Write what is queued and end the thread, unless a handler blocks it for more than ``timeout`` s."""
        with contextlib.suppress(RuntimeError):  # during a fork, where no thread can be started
            self.thread.resume()
        if self.thread.started:
            self._lines.put(_Mark.END)
            self.thread.leave(timeout)

    def forget_thread(self) -> None:
        """Write in the calling thread again, counts reset: in a forked child, where ours does not run."""
        self.thread.forget()
        self._lines = SimpleQueue()
        self._failed.clear()
        self.dropped, self.cpu_time = 0, 0.0

    def _write(self, is_to_end: IsToEnd) -> None:
        earlier_cpu = self.cpu_time
        while not is_to_end():
            line = self._lines.get()
            if line is _Mark.END:
                return
            if isinstance(line, threading.Event):
                line.set()
            elif isinstance(line, _Line):
                self._log(line)
            del line  # do not keep its error, and that error's frames, until the next line comes
            self.cpu_time = earlier_cpu + self._clock.thread_cpu()

    def _log(self, line: _Line) -> None:
        try:
            if logger.isEnabledFor(line.level):
                logger.handle(_record(line))
        except BaseException:  # noqa: BLE001 - a user's filter or handler may raise anything, SystemExit too
            self._failed["journal"] += 1


def _record(line: _Line) -> logging.LogRecord:
    """Build the record. ``extra=`` would raise if the program's record factory sets the same name."""
    error = line.error
    raised = None if error is None else (type(error), error, error.__traceback__)
    said_at = Journal.say.__code__.co_firstlineno  # its caller can no longer be seen
    record = logger.makeRecord(
        logger.name, line.level, __file__, said_at, line.message, line.args, raised, "say"
    )
    if line.work is not None:
        work = line.work()
        found = {"trace_id": work.trace_id, "span_id": work.span_id, "task_name": work.task_name}
        for name, text in (found | dict(work.values)).items():
            if text is not None and name not in _OF_LOGGING:
                setattr(record, name, text)
    return record


def work_of(told: Stall | Lost | Borrower) -> WorkOf:
    """Return a function that tells whose work a record is about."""
    return lambda: Work(told.context, told.trace_id, told.span_id, told.task_name)


class PacedLog:
    """Log lines about what may happen often, limited to a pace. One thread at a time."""

    def __init__(self, what: str, clock: Clock, journal: Journal) -> None:
        self._what = what
        """What the lines are about, in the plural."""
        self._pace = Pace(clock)
        self._journal = journal

    @property
    def log_suppressed(self) -> int:
        """Lines withheld since the start."""
        return self._pace.suppressed

    def clear(self) -> None:
        """Start afresh: in a forked child."""
        self._pace.clear()

    def end(self) -> None:
        """At the end, log how many lines were withheld and not yet reported."""
        if withheld := self._pace.rest():
            self._journal.say(logging.WARNING, "loopwatch: %d more %s not logged", withheld, self._what)

    def withhold(self) -> None:
        """Count a line that must not be logged, whatever the pace."""
        self._pace.withhold()

    def log(self, level: int, text: str, work: WorkOf | None = None) -> None:
        """Log a line, unless there were too many of late; the next line then says how many were withheld."""
        withheld = self._pace.admit()
        if withheld is not None:
            more = f" ({withheld} more {self._what} not logged)" if withheld else ""
            self._journal.say(level, "loopwatch: %s%s", text, more, work=work)
