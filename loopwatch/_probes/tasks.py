"""Probe of tasks: ``create_task`` of the loop classes, through which all ways to start a task pass.

Its cost is paid for each task, so it does as little as can be: a clock read, the place of the creator and one
record at the start; a clock read and one row at the end. All shaping is left to those who ask. What is
written out at length in two functions here would cost a twentieth of an empty task for each more of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from bisect import bisect_left
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from loopwatch._clock import Clock
from loopwatch._context.reader import READS_TASKS, ContextReader, get_current
from loopwatch._internals.interpreter import getframe, place_outside
from loopwatch._internals.source_traceback import hide
from loopwatch._internals.tasks import coroutine_name, exception_of
from loopwatch._journal import Journal
from loopwatch._places import Place
from loopwatch._records import TaskState
from loopwatch._store.tasks import SITES, LiveTask, LoopTasks, Site
from loopwatch.facts import TASK_BUCKETS

from .exceptions import FallProbe

_ON_BEHALF = (
    os.path.dirname(asyncio.__file__) + os.sep,
    f"{os.sep}anyio{os.sep}",
    os.path.join("", "loopwatch", "_jobs", ""),
)
"""Where code lies that creates tasks for its caller: ``gather``, task groups, ``asyncio.run``, ``spawn``."""


class TaskProbe:
    """What ``create_task`` needs of one loop.

    The loop carries it as its attribute ``_loopwatch_tasks``: a look-up in a table of ours would cost more
    than all the rest.
    """

    __slots__ = (
        "_clock",
        "contexts",
        "done",
        "done_context",
        "falls",
        "finalised",
        "gone",
        "journal",
        "keep",
        "live",
        "sites",
        "tasks",
    )

    def __init__(
        self,
        tasks: LoopTasks,
        contexts: ContextReader,
        clock: Clock,
        journal: Journal,
        *,
        keep: bool = False,
    ) -> None:
        self.tasks = tasks
        self.keep = keep
        self.live = tasks.live
        self.sites = tasks.sites
        self.gone = tasks.gone
        self.finalised = tasks.gone.append
        self.contexts = contexts
        self.journal = journal
        self.falls = FallProbe(tasks, contexts, journal)
        self.done = _make_done(tasks, contexts, clock.monotonic, journal)
        # The done callback runs in a context of its own: a copy of the current one would be held until the
        # task ends. One for each loop, since two threads cannot be in one context at a time.
        self.done_context = contextvars.Context()
        self._clock = clock

    def adopt(self, loop: asyncio.AbstractEventLoop, task: Any) -> None:
        """Record a task that was not created through ``create_task``, at the age of zero.

        The loop's thread. Its site is where its coroutine function begins, since its creator is not known.
        """
        frame = getattr(task.get_coro(), "cr_frame", None)
        if id(task) not in self.live and not task.done() and frame is not None:
            _record(self, loop, task, task.get_coro(), self._clock.monotonic(), frame, task.get_name())

    def first_seen(self, code: CodeType) -> dict[int, Site] | None:
        """Decide once for each code object whether it creates tasks on behalf of others: then None."""
        on_behalf = any(place in code.co_filename for place in _ON_BEHALF)
        by_offset: dict[int, Site] | None = None if on_behalf else {}
        self.sites[id(code)] = by_offset
        if on_behalf:
            self.tasks.held.append(code)
        return by_offset

    def new_site(self, by_offset: dict[int, Site], frame: FrameType) -> Site:
        """Return the site ``frame`` stands at, made now unless there are too many."""
        tasks, code = self.tasks, frame.f_code
        if tasks.site_count >= SITES:
            if not by_offset:
                tasks.sites.pop(id(code), None)  # nothing keeps this code, and so its id, alive
            return tasks.further
        tasks.site_count += 1
        site = by_offset[frame.f_lasti] = Site(code, frame.f_lasti, frame.f_globals.get("__name__") or "")
        return site


def _record(
    probe: TaskProbe, loop: Any, task: Any, coro: Any, started: float, frame: FrameType, name: str | None
) -> None:
    """Record a task created at ``frame`` or, if that acts for others, at the nearest that does not."""
    sites = probe.sites
    while True:
        code = frame.f_code
        by_offset = sites[id(code)] if id(code) in sites else probe.first_seen(code)
        back = frame.f_back if by_offset is None else None
        if back is None:
            break
        frame = back
    if by_offset is None:  # nobody but asyncio itself is on the stack
        by_offset = sites[id(code)] = {}
    site = by_offset.get(frame.f_lasti) or probe.new_site(by_offset, frame)
    site.created += 1
    if probe.gone:
        probe.tasks.settle()
    live = probe.live
    record = LiveTask(task, probe.finalised)
    record.site = site
    record.key = key = id(task)
    record.coroutine = getattr(coro, "__qualname__", None) or type(coro).__qualname__
    creator = current_task(loop)
    if creator is None:
        record.parent = None
    elif (parent := live.get(id(creator))) is not None:
        record.parent = parent.coroutine
    else:  # in its eager first step, which comes before its record; or not of our making
        record.parent = coroutine_name(creator.get_coro())
    record.name = name
    record.started = started
    record.context = None if READS_TASKS else probe.contexts.current()
    record.fall = record.lost = None
    live[key] = record
    if task.done():
        probe.done(task)  # an eager one
    else:
        task.add_done_callback(probe.done, context=probe.done_context)
        if probe.keep:
            _keep(probe, loop, task)


def _keep(probe: TaskProbe, loop: Any, task: Any) -> None:
    """Hold ``task`` until it is done. It is its loop that does: with it goes what will never be done."""
    kept = vars(loop).setdefault("_loopwatch_kept", set())
    kept.add(task)
    task.add_done_callback(kept.discard, context=probe.done_context)


def let_go(loop: Any) -> None:
    """Hold none of the loop's tasks any longer."""
    vars(loop).pop("_loopwatch_kept", set()).clear()  # the callbacks hold the set still


current_task = asyncio.current_task


def _notice(notice: Callable[..., None], frame: FrameType, coro: Any, context: Any) -> None:
    """Notice a task that is created in work whose context was lost, unless it is given one of its own."""
    name = getattr(coro, "__qualname__", None)
    notice(
        functools.partial(_noticed_at, frame, coro),
        name,
        get_current if context is None else context.get,
    )


def _noticed_at(frame: FrameType, coro: Any) -> Place:
    """Return who creates the task, or where its coroutine begins if that is the loop itself."""
    place = place_outside(frame, _ON_BEHALF[:1])
    code = getattr(coro, "cr_code", None)
    if code is None or not place[2].startswith("loopwatch."):
        return place
    return code, 0, "" if coro.cr_frame is None else coro.cr_frame.f_globals.get("__name__") or ""


def wrap_create_task(
    probe_of: Callable[[asyncio.AbstractEventLoop], TaskProbe | None], monotonic: Callable[[], float]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a wrapper for the method ``create_task`` of a loop class."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def create_task(self: Any, coro: Any, **kwargs: Any) -> Any:
            try:
                probe = self._loopwatch_tasks
            except AttributeError:
                probe = probe_of(self)
            if probe is None:
                return original(self, coro, **kwargs)
            started, frame = monotonic(), getframe(1)
            task = original(self, coro, **kwargs)
            try:
                _record(probe, self, task, coro, started, frame, kwargs.get("name"))
                if probe.contexts.notice is not None:
                    _notice(probe.contexts.notice, frame, coro, kwargs.get("context"))
                if self.get_debug():
                    hide(__file__, task)
            except Exception as error:  # noqa: BLE001 - the task runs, recorded or not
                probe.journal.failure("tasks", error)
            return task

        return create_task

    return wrap


def _make_done(
    tasks: LoopTasks, contexts: ContextReader, monotonic: Callable[[], float], journal: Journal
) -> Callable[[Any], None]:
    live, ended = tasks.live, tasks.ended

    def done(task: Any) -> None:
        try:
            record = live.pop(id(task), None)
            if record is None:
                return
            now = monotonic()
            site, started, error = record.site, record.started, None
            state: TaskState
            if task.cancelled():
                site.cancelled += 1
                state = "cancelled"
            elif (exception := exception_of(task)) is None:
                site.ok += 1
                state = "ok"
            else:
                site.error += 1
                state = "error"
                error = type(exception).__name__
                del exception
            took = now - started
            site.buckets[bisect_left(TASK_BUCKETS, took)] += 1
            site.total += took
            context = contexts.of_task(task) if contexts.active else record.context
            # Asked for its name, a task that was given none makes one up, which takes as long as all of this.
            name = record.name if error is None else task.get_name()
            row = (site, record.coroutine, record.parent, name, started, now, state, error, context)
            ended.append(row)
            if error is not None:
                tasks.failed[record.key] = record
                tasks.failures.append(row)
        except Exception as error:  # noqa: BLE001 - as above
            journal.failure("tasks", error)

    return done


def wrap_exception_handler(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the method ``call_exception_handler`` of a loop class."""

    @functools.wraps(original)
    def call_exception_handler(self: Any, context: Any) -> Any:
        probe = getattr(self, "_loopwatch_tasks", None)
        if probe is not None:
            probe.falls.note(context)
        return original(self, context)

    return call_exception_handler
