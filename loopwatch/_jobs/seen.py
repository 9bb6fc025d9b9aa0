"""A task that a drain waits for: what is noted while it lives, and the record made of the notes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwatch._context.reader import Context, ContextReader
from loopwatch._internals.await_chain import Chain, describe
from loopwatch._internals.futures import coroutine_of, name_of
from loopwatch._internals.tasks import exception_of, function_of, unretrieved
from loopwatch._places import Place, shape
from loopwatch._records import Frame, Task, TaskState
from loopwatch._store.jobs import Job
from loopwatch._store.watched import Values

from .spawn import within

if TYPE_CHECKING:
    from loopwatch._store.tasks import LiveTask


@dataclass(slots=True, eq=False)
class Seen:
    """One task that a drain waits for. Written in the loop's thread."""

    task: asyncio.Task[Any]
    site: Place | None
    """The place that created it; None if its creation was not seen."""
    parent: str | None
    started: float
    """Monotonic time; for a task whose start was not seen, when the drain first saw it."""
    values: Values | None
    places: tuple[Place, ...] = ()
    """Where it stood at the last look, outermost first."""
    waiting_on: str | None = None
    ended: float | None = None
    cancelled: bool = False
    """Whether the drain cancelled it."""

    def look(self, found: Chain, contexts: ContextReader) -> None:
        """Note where it stands, and its context."""
        self.places = tuple(place for place in found.places if place[0] is not within.__code__)
        self.waiting_on = describe(found)
        self.values = contexts.of_task(self.task, self.values)

    @property
    def coroutine(self) -> str:
        """Qualified name of its coroutine function."""
        return function_of(self.task)

    @property
    def state(self) -> TaskState:
        """The state of the task. Does not call ``exception()``, which would mark it as retrieved."""
        if not self.task.done():
            return "pending"
        if self.task.cancelled():
            return "cancelled"
        return "ok" if exception_of(self.task) is None else "error"


def see(task: asyncio.Task[Any], job: Job | None, records: Mapping[int, LiveTask], now: float) -> Seen:
    """Note a task: what ``spawn()`` knows of it, or else the agent's record."""
    record = records.get(id(task))
    if record is not None and record() is not task:
        record = None  # it belongs to an earlier task with this id, and is not settled yet
    if job is not None:
        return Seen(task, job.site, record.parent if record else None, job.started, job.values)
    if record is not None:
        return Seen(task, record.site.place, record.parent, record.started, record.values)
    return Seen(task, None, None, now, None)


class Recorder:
    """Makes records of the tasks a drain has seen. Frames are shared: thousands stand in a few places."""

    def __init__(
        self, now: float, wall: float, loop_name: str, context_of: Callable[[Values | None], Context]
    ) -> None:
        self._now = now
        self._wall = wall
        self._loop_name = loop_name
        self._context_of = context_of
        self._frames: dict[Place, Frame] = {}

    def record(self, seen: Seen) -> Task:
        """Return the record of one task."""
        task, state = seen.task, seen.state
        ended = None if state == "pending" else seen.ended or self._now
        error = exception_of(task) if state == "error" else None
        context = self._context_of(seen.values)
        return Task(
            site=self._site(seen),
            coroutine=seen.coroutine,
            name=name_of(task),
            parent=seen.parent,
            state=state,
            unretrieved=unretrieved(task),
            started_at=self._wall - (self._now - seen.started),
            age=self._now - seen.started,
            duration=None if ended is None else ended - seen.started,
            exception=None if error is None else type(error).__name__,
            context=context.values,
            trace_id=context.trace_id,
            span_id=context.span_id,
            trace_flags=context.trace_flags,
            await_stack=tuple(map(self._frame, seen.places)),
            waiting_on=seen.waiting_on,
            daemon=False,
            loop_name=self._loop_name,
        )

    def _site(self, seen: Seen) -> Frame:
        if seen.site is not None:
            return self._frame(seen.site)
        code = getattr(coroutine_of(seen.task), "cr_code", None)
        if code is None:
            return Frame(seen.coroutine, "", "", 0)
        return Frame(code.co_qualname, "", code.co_filename, code.co_firstlineno)

    def _frame(self, place: Place) -> Frame:
        frame = self._frames.get(place)
        if frame is None:
            frame = self._frames[place] = shape(place)
        return frame


def needs_show(values: Values | None) -> bool:
    """Whether the program's ``show`` functions have yet to convert what was read to text."""
    return values is not None and not values.shown and any(watch.show for watch in values.watches)
