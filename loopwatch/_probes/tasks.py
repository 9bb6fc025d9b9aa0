"""Probe of tasks: ``create_task`` of the loop classes, which every way to start a task goes through.

Each task pays its cost, so it does as little as possible: a clock read, the place of the creator and one
record at the start; a clock read and one row at the end. All shaping is left to readers. Two functions here
are long because each further call would cost a twentieth of an empty task.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from bisect import bisect_left
from collections.abc import Callable
from types import CoroutineType, FrameType
from typing import Any

from loopwatch._clock import Clock
from loopwatch._context.handover import HANDED
from loopwatch._context.reader import READS_TASKS, ContextReader, get_current
from loopwatch._internals.futures import coroutine_of, is_done, name_of
from loopwatch._internals.interpreter import getframe, module_at
from loopwatch._internals.source_traceback import hide
from loopwatch._internals.tasks import (
    ANYIO_TASK,
    coroutine_name,
    current_task,
    exception_of,
    function_of,
    tasks_known,
)
from loopwatch._journal import Journal
from loopwatch._records import TaskState
from loopwatch._store.sites import Site
from loopwatch._store.tasks import LiveTask, LoopTasks
from loopwatch.facts import TASK_BUCKETS

from .creators import place_of, site_of
from .exceptions import FallProbe

_FOR_ITS_CALLER = (asyncio.tasks.__name__, asyncio.taskgroups.__name__)
"""Modules whose functions create nearly all tasks, each for its caller. A function of the program's that
wraps one of theirs by ``functools`` counts as theirs: it stands in its place."""
_NOT_GIVEN: Any = object()
_SHORT = TASK_BUCKETS[0]
"""Seconds that most tasks of a busy loop take at most: comparing with it costs a sixth of a search."""


class TaskProbe:
    """What ``create_task`` needs to know of one loop.

    The loop carries it as its attribute ``_loopwatch_tasks``: a look-up in a table of ours would cost more
    than everything else.
    """

    __slots__ = ("_clock", "begin", "contexts", "falls", "journal", "live")

    def __init__(
        self,
        tasks: LoopTasks,
        contexts: ContextReader,
        clock: Clock,
        journal: Journal,
        *,
        keep: bool = False,
        fell: Callable[[], None] = lambda: None,
    ) -> None:
        self.live = tasks.live
        self._clock = clock
        self.contexts = contexts
        self.journal = journal
        self.falls = FallProbe(tasks, contexts, journal, fell)
        self.begin = _make_begin(tasks, contexts, _make_done(tasks, contexts, clock.monotonic, journal), keep)

    def adopt_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Record the tasks that existed before us, with an age of zero. The loop's thread.

        Their site is where their coroutine function begins, since their creator is unknown.
        """
        live, now = self.live, self._clock.monotonic()
        for task in tasks_known(loop):
            if id(task) not in live and not is_done(task):
                try:
                    self.begin(loop, task, coroutine_of(task), name_of(task), None, now)
                    live[id(task)].parent = None  # not the task that happens to run us
                except Exception as error:  # noqa: BLE001 - counted; the others are still recorded
                    self.journal.failure("tasks", error)


def _make_begin(
    tasks: LoopTasks, contexts: ContextReader, done: Callable[[Any], None], keep: bool
) -> Callable[..., None]:
    live, gone, sites = tasks.live, tasks.gone, tasks.sites
    by_address, finalised = sites.by_address, gone.append
    # The done callback runs in a context of its own: a copy of the current one would be held until the
    # task ends. One per loop, since two threads cannot be in one context at a time.
    done_context = contextvars.Context()

    def begin(
        loop: Any, task: Any, coro: Any, name: str | None, frame: FrameType | None, started: float
    ) -> None:
        """Record a task that is created at ``frame``."""
        site = None if frame is None else by_address.get(id(frame.f_code) + frame.f_lasti)
        if site is None:
            site = site_of(sites, frame, coro)
        if gone:
            tasks.make_way(id(task))
        record = LiveTask(task, finalised)
        record.site = site
        record.key = key = id(task)
        coroutine = coro.__qualname__ if type(coro) is CoroutineType else coroutine_name(coro)
        record.coroutine = name if name and coroutine == ANYIO_TASK else coroutine
        creator = current_task(loop)
        if creator is None:
            record.parent = None
        elif (parent := live.get(id(creator))) is not None:
            record.parent = parent.coroutine
        else:  # it is in its eager first step, which precedes its record; or we never recorded it
            record.parent = function_of(creator)
        record.name = name
        record.started = started
        record.values = None if READS_TASKS or not contexts.active else contexts.current()
        record.fall = record.stood = record.lost = None
        ended = task.done()  # an eager one
        if not ended:
            task.add_done_callback(done, context=done_context)
        site.created += 1  # only now: what the program's factory returned may not have been a task
        live[key] = record
        if ended:
            done(task)
        elif keep:
            _keep(loop, task, done_context)

    return begin


def _make_done(
    tasks: LoopTasks, contexts: ContextReader, monotonic: Callable[[], float], journal: Journal
) -> Callable[[Any], None]:
    live, ended = tasks.live, tasks.ended

    def done(task: Any) -> None:
        """Record the end of a task. Called by its loop."""
        try:
            record = live.pop(id(task), None)
            if record is None:
                return
            now = monotonic()
            site, started, name = record.site, record.started, record.name  # four would build a tuple
            error = None
            state: TaskState = "ok"
            counts = site.as_ok
            if task.cancelled():
                state, counts = "cancelled", site.as_cancelled
            elif (exception := exception_of(task)) is not None:
                state, counts, error = "error", site.as_error, type(exception).__name__
                del exception
            took = now - started
            site.total += took
            counts[0 if took <= _SHORT else bisect_left(TASK_BUCKETS, took)] += 1
            if name is None and error is not None:
                name = name_of(task)
            elif name is None and site.names_left:
                name = _given_name(task, site)
            values = contexts.of_task(task, record.values) if contexts.active else None
            row = (site.address, record.coroutine, record.parent, name, started, now, state, error, values)
            ended.append(row)
            if error is not None:
                tasks.failed[record.key] = record
                tasks.failures.append(row)
        except Exception as error:  # noqa: BLE001 - the program goes on, whatever happens to us
            journal.failure("tasks", error)

    return done


def _given_name(task: Any, site: Site) -> str | None:
    """Return a name set after the task was created, as ``asyncio.create_task`` does before 3.13.3."""
    name = name_of(task)
    given = name is not None and not name.startswith("Task-")
    site.told_name(given)
    return name if given else None


def _keep(loop: Any, task: Any, done_context: contextvars.Context) -> None:
    """Hold ``task`` until it is done. Its loop does the holding: tasks that never end go when it goes."""
    kept = vars(loop).setdefault("_loopwatch_kept", set())
    kept.add(task)
    task.add_done_callback(kept.discard, context=done_context)


def let_go(loop: Any) -> None:
    """Stop holding the loop's tasks."""
    vars(loop).pop("_loopwatch_kept", set()).clear()  # the callbacks still hold the set


def wrap_create_task(
    probe_of: Callable[[asyncio.AbstractEventLoop], TaskProbe | None],
    monotonic: Callable[[], float],
    journal: Journal,
    original: Callable[..., Any],
) -> Callable[..., Any]:
    """Wrap the method ``create_task`` of a loop class, for the agent that has ``journal``.

    Below somebody's wrapper ours stays after ``uninstall()``, and must not serve the next agent, too.
    """

    @functools.wraps(original)
    def create_task(self: Any, coro: Any, *, name: Any = _NOT_GIVEN, **others: Any) -> Any:
        try:
            probe = self._loopwatch_tasks
        except AttributeError:
            probe = probe_of(self)
        started = monotonic()
        if others:
            task = original(self, coro, **(others if name is _NOT_GIVEN else {"name": name, **others}))
        elif name is _NOT_GIVEN:
            task = original(self, coro)
        else:
            task = original(self, coro, name=name)
        if probe is None or probe.journal is not journal:
            return task
        try:
            try:
                frame = getframe(2 if module_at(1) in _FOR_ITS_CALLER else 1)
            except ValueError:  # there is no such frame: called from C, or at the bottom of a thread's stack
                frame = None
            probe.begin(self, task, coro, None if name is _NOT_GIVEN else name, frame, started)
            notice = probe.contexts.notice
            if notice is not None and frame is not None and (others or HANDED.get() is not None):
                _notice(notice, frame, coro, others.get("context"))
            if self.get_debug():
                hide(__file__, task)
        except Exception as error:  # noqa: BLE001 - the task runs, recorded or not
            probe.journal.failure("tasks", error)
        return task

    return create_task


def _notice(notice: Callable[..., None], frame: FrameType, coro: Any, context: Any) -> None:
    """Report a task created in work whose context was lost, unless it is given a context of its own."""
    name = getattr(coro, "__qualname__", None)
    notice(functools.partial(place_of, frame, coro), name, get_current if context is None else context.get)


def wrap_exception_handler(journal: Journal, original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the method ``call_exception_handler`` of a loop class, likewise."""

    @functools.wraps(original)
    def call_exception_handler(self: Any, context: Any) -> Any:
        probe = getattr(self, "_loopwatch_tasks", None)
        if probe is not None and probe.journal is journal:
            probe.falls.note(self, context)
        return original(self, context)

    return call_exception_handler
