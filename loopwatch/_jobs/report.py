"""The log record of a drain: how it ended, and each task that did not finish."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from loopwatch._journal import Journal
from loopwatch._records import DrainReport, Frame, Task

LISTED = 1000
"""Tasks named in the record; further ones are only counted."""
_LIBRARIES = ("asyncio", "anyio", "uvloop")
"""Packages whose frames show how a task waits, not where the program stands."""


def tell(report: DrainReport, journal: Journal) -> None:
    """Log how a drain ended: INFO, or WARNING with the tasks that were left."""
    journal.say(logging.WARNING if report.forced else logging.INFO, "%s", _Text(report))


class _Text:
    """Formatted only when the record is written."""

    def __init__(self, report: DrainReport) -> None:
        self._report = report

    def __str__(self) -> str:
        return "\n  ".join(_lines(self._report))


def _lines(report: DrainReport) -> Iterator[str]:
    finished, cancelled, abandoned = len(report.finished), len(report.cancelled), len(report.abandoned)
    if not report.forced:
        yield f"loopwatch: drained in {report.duration:.2f} s: {finished} finished"
        return
    yield (
        f"loopwatch: drain ended after {report.duration:.2f} s with work left: {finished} finished, "
        f"{cancelled} cancelled, {abandoned} abandoned"
    )
    left = [("cancelled", task) for task in report.cancelled]
    left += [("abandoned", task) for task in report.abandoned]
    for word, task in left[:LISTED]:
        yield f"{word}: {_sentence(task)}"
    if len(left) > LISTED:
        yield f"and {len(left) - LISTED} more"


def _sentence(task: Task) -> str:
    stood = _where(task.await_stack)
    parts = [
        f"task {task.name!r} ({task.coroutine}), created by {task.site} {task.age:.1f} s ago",
        *([f"stood in {stood}"] if stood else []),
        *([f"waiting for {task.waiting_on}"] if task.waiting_on else []),
        *(f"{name}={value}" for name, value in task.context.items()),
        *([f"trace {task.trace_id}"] if task.trace_id else []),
    ]
    return "; ".join(parts)


def _where(stack: tuple[Frame, ...]) -> Frame | None:
    """Return the innermost frame of the program; failing that, the innermost frame."""
    theirs = (frame for frame in reversed(stack) if frame.module.partition(".")[0] not in _LIBRARIES)
    return next(theirs, stack[-1] if stack else None)
