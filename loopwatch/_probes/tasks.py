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
from loopwatch._internals.futures import coroutine_of
from loopwatch._internals.interpreter import getframe, place_outside
from loopwatch._internals.source_traceback import hide
from loopwatch._internals.tasks import ANYIO_TASK, exception_of, function_of
from loopwatch._journal import Journal
from loopwatch._places import Place
from loopwatch._records import TaskState
from loopwatch._store.tasks import LiveTask, LoopTasks, Site
from loopwatch.facts import TASK_BUCKETS

from .exceptions import FallProbe

_ON_BEHALF = (
    os.path.dirname(asyncio.__file__) + os.sep,
    f"{os.sep}anyio{os.sep}",
    os.path.join("", "loopwatch", "_jobs", ""),
)
"""Where code lies that creates tasks for its caller: ``gather``, task groups, ``asyncio.run``, ``spawn``."""
_LOOPS = (_ON_BEHALF[0], os.path.join("", "loopwatch", "_probes", ""))
"""Where a ``run_forever`` lies beyond which nobody creates tasks: asyncio's, and ours around it."""
_NOBODY: dict[int, Site] = {}
"""Stands for the sites of such code; stays empty."""


NAMES_ASKED = 10
"""Tasks of each site that are asked for their name; further ones if it turns out that they have any. A task
that was given none makes one up when asked, which takes as long as all else that is done at its end."""


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

    def adopt_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Record the tasks that were there before us, at the age of zero. The loop's thread.

        Their site is where their coroutine function begins, since their creator is not known.
        """
        now = self._clock.monotonic()
        for task in asyncio.all_tasks(loop):
            if id(task) not in self.live and not task.done():
                _record(self, loop, task, coroutine_of(task), now, None, task.get_name())
                self.live[id(task)].parent = None  # not the task that we happen to run in

    def first_seen(self, code: CodeType) -> dict[int, Site] | None:
        """Decide once for each code object whether it creates tasks on behalf of others: then None."""
        by_offset: dict[int, Site] | None = {}
        if code.co_name == "run_forever" and any(place in code.co_filename for place in _LOOPS):
            by_offset = _NOBODY
        elif any(place in code.co_filename for place in _ON_BEHALF):
            by_offset = None
        self.sites[id(code)] = by_offset
        if by_offset is None or by_offset is _NOBODY:
            self.tasks.held.append(code)
        return by_offset

    def new_site(self, by_offset: dict[int, Site] | None, frame: FrameType | None, coro: Any) -> Site:
        """Return the site ``frame`` stands at; that of ``coro`` itself if the loop alone is on the stack."""
        if frame is not None and by_offset is not None and by_offset is not _NOBODY:
            return self.tasks.site(id(frame.f_code), frame.f_code, frame.f_lasti, _module(frame))
        code, own = getattr(coro, "cr_code", None), getattr(coro, "cr_frame", None)
        if code is None:
            return self.tasks.further  # a coroutine of C code
        return self.tasks.site(-id(code), code, 0, "" if own is None else _module(own))


def _module(frame: FrameType) -> str:
    return frame.f_globals.get("__name__") or ""


def _record(
    probe: TaskProbe,
    loop: Any,
    task: Any,
    coro: Any,
    started: float,
    frame: FrameType | None,
    name: str | None,
) -> None:
    """Record a task created at ``frame`` or, if that acts for others, at the nearest that does not."""
    sites, site, by_offset = probe.sites, None, None
    while frame is not None:
        code = frame.f_code
        by_offset = sites[id(code)] if id(code) in sites else probe.first_seen(code)
        if by_offset is not None:
            site = by_offset.get(frame.f_lasti)
            break
        frame = frame.f_back
    if site is None:
        site = probe.new_site(by_offset, frame, coro)
    if probe.gone:
        probe.tasks.settle()
    live = probe.live
    record = LiveTask(task, probe.finalised)
    record.site = site
    record.key = key = id(task)
    coroutine = getattr(coro, "__qualname__", None) or type(coro).__qualname__
    record.coroutine = name if name and coroutine == ANYIO_TASK else coroutine
    creator = current_task(loop)
    if creator is None:
        record.parent = None
    elif (parent := live.get(id(creator))) is not None:
        record.parent = parent.coroutine
    else:  # in its eager first step, which comes before its record; or not of our making
        record.parent = function_of(creator)
    record.name = name
    record.started = started
    record.values = None if READS_TASKS else probe.contexts.current()
    record.fall = record.stood = record.lost = None
    done = task.done()  # an eager one
    if not done:
        task.add_done_callback(probe.done, context=probe.done_context)
    site.created += 1  # only now: what a factory of the program's made may not have been a task
    live[key] = record
    if done:
        probe.done(task)
    elif probe.keep:
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
            values = contexts.of_task(task) if contexts.active else record.values
            name = record.name
            if name is None and error is not None:
                name = task.get_name()
            elif name is None and (site.named or site.ok <= NAMES_ASKED):
                name = _given_name(task, site)
            row = (site, record.coroutine, record.parent, name, started, now, state, error, values)
            ended.append(row)
            if error is not None:
                tasks.failed[record.key] = record
                tasks.failures.append(row)
        except Exception as error:  # noqa: BLE001 - as above
            journal.failure("tasks", error)

    return done


def _given_name(task: Any, site: Site) -> str | None:
    """Return the name that a task was given once it was made, as by ``asyncio.create_task`` before 3.13.3."""
    name = task.get_name()
    if name.startswith("Task-") or name == "None":  # of Python 3.13.0
        return None
    site.named = True
    return str(name)


def wrap_exception_handler(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the method ``call_exception_handler`` of a loop class."""

    @functools.wraps(original)
    def call_exception_handler(self: Any, context: Any) -> Any:
        probe = getattr(self, "_loopwatch_tasks", None)
        if probe is not None:
            probe.falls.note(context)
        return original(self, context)

    return call_exception_handler
