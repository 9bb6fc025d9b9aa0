"""Jobs: background tasks that are held until they end, and whose failure is logged at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

from loopwatch._arguments import seconds
from loopwatch._clock import SYSTEM
from loopwatch._context.backing import backing
from loopwatch._context.reader import Context, ContextReader
from loopwatch._errors import Draining, LoopwatchError
from loopwatch._internals.interpreter import getframe
from loopwatch._internals.tasks import coroutine_name
from loopwatch._places import Place, shape
from loopwatch._records import Task, TaskState, Work
from loopwatch._store.jobs import JOBS, Job, LoopJobs
from loopwatch._store.loop_names import base_name
from loopwatch._store.watched import Values
from loopwatch._words import of_whom

T = TypeVar("T")

LONGEST = 30 * 86400.0
"""Longest timeout of a job, in seconds."""


def spawn(
    coro: Coroutine[Any, Any, T], *, name: str | None = None, timeout: float | None = None
) -> asyncio.Task[T]:
    """Run ``coro`` as a job: a background task that cannot get lost or fail silently.

    The job is held until it ends and runs in a copy of the caller's context; ``drain()`` waits for it and may
    cancel it. If it fails, logger ``loopwatch`` says so at once, with the traceback and the context. After
    ``timeout`` seconds it fails with TimeoutError. Works without an installed agent.

    Raises Draining while the loop is being drained, TypeError if ``coro`` is not a coroutine, LoopwatchError
    if no loop runs. Whenever it raises, the coroutine has been closed.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError(
            f"spawn({coro!r}): got {type(coro).__name__}, not a coroutine. Call the function: spawn(work())."
        )
    try:
        jobs = _open_jobs(coro, name)
        limit = None if timeout is None else seconds("timeout", timeout, 0.0, LONGEST)
    except BaseException:
        coro.close()
        raise
    frame = getframe(1)
    job = Job(
        site=(frame.f_code, frame.f_lasti, frame.f_globals.get("__name__") or ""),
        coroutine=coroutine_name(coro),
        started=SYSTEM.monotonic(),
        values=backing().contexts.at_creation(),
        close=coro.close,
    )
    work = coro if limit is None else _limited(coro, limit)
    try:
        task = asyncio.get_running_loop().create_task(work, name=name)
    except BaseException:  # raised by the program's task factory
        work.close()
        coro.close()
        raise
    jobs.live[task] = job
    task.add_done_callback(_ended)
    return task


def _open_jobs(coro: Coroutine[Any, Any, Any], name: str | None) -> LoopJobs:
    """Return the jobs of the running loop. Raises if it accepts no more."""
    what = f"spawn({coroutine_name(coro)})" + (f", {name!r}" if name else "")
    try:
        jobs = JOBS.of(asyncio.get_running_loop())
    except RuntimeError:
        raise LoopwatchError(
            f"{what}: no event loop runs in this thread. Call it from a coroutine; from another thread, use "
            "asyncio.run_coroutine_threadsafe with a coroutine that calls it."
        ) from None
    if jobs.drainers:
        raise Draining(
            f"{what}: this event loop is being drained, so the job was not started. Catch loopwatch.Draining "
            "and put the work back where it came from."
        )
    return jobs


def _limited(coro: Coroutine[Any, Any, T], limit: float) -> Coroutine[Any, Any, T]:
    """Return ``coro`` with a time limit, under the same name."""
    limited: Any = within(coro, limit)
    limited.__name__ = getattr(coro, "__name__", limited.__name__)
    limited.__qualname__ = coroutine_name(coro)
    return limited  # type: ignore[no-any-return]


async def within(coro: Coroutine[Any, Any, T], limit: float) -> T:
    """Await ``coro`` for at most ``limit`` seconds."""
    async with asyncio.timeout(limit):
        return await coro


def _ended(task: asyncio.Task[Any]) -> None:
    """Count a job and log its failure. Retrieves the exception, since it is reported here."""
    jobs = JOBS.of(task.get_loop())
    job = jobs.live.pop(task, None)
    if job is None:
        return
    job.close()
    error = None if task.cancelled() else task.exception()
    state: TaskState = "cancelled" if task.cancelled() else "ok" if error is None else "error"
    jobs.ended[state] += 1
    if error is not None:
        _tell(task, job, error)
    if backing().outbox.wants_jobs:
        _export(task, job, state, error)


def _export(task: asyncio.Task[Any], job: Job, state: TaskState, error: BaseException | None) -> None:
    """Queue the job for export: what is known of it, without the task."""
    from loopwatch._events import JobEnded  # loaded by an agent that exports

    parts, loop = backing(), task.get_loop()
    watched = parts.state_of(loop)
    ended = _Ended(
        site=job.site,
        coroutine=job.coroutine,
        started=job.started,
        name=task.get_name(),
        state=state,
        exception=None if error is None else type(error).__name__,
        at=SYSTEM.monotonic(),
        values=parts.contexts.of_task(task, job.values),
        loop_name=base_name(threading.current_thread()) if watched is None else watched.name,
    )
    parts.outbox.put(JobEnded(partial(ended.record, parts.contexts)))


class _Ended(NamedTuple):
    """What is noted of a job at its end. Holds no task, coroutine or exception of the program."""

    site: Place
    coroutine: str
    started: float
    name: str
    state: TaskState
    exception: str | None
    at: float
    values: Values | None
    loop_name: str

    def record(self, contexts: ContextReader) -> Task:
        """Make the record of the job."""
        context = contexts.shape(self.values)
        duration = self.at - self.started
        return Task(
            site=shape(self.site),
            coroutine=self.coroutine,
            name=self.name,
            parent=None,
            state=self.state,
            unretrieved=False,
            started_at=SYSTEM.wall_at(self.started),
            age=duration,
            duration=duration,
            exception=self.exception,
            context=context.values,
            trace_id=context.trace_id,
            span_id=context.span_id,
            await_stack=(),
            waiting_on=None,
            daemon=False,
            loop_name=self.loop_name,
            trace_flags=context.trace_flags,
        )


def _tell(task: asyncio.Task[Any], job: Job, error: BaseException) -> None:
    parts = backing()
    origin = _Origin(job.site, parts.contexts.of_task(task, job.values), parts.contexts)
    name = task.get_name()
    parts.journal.say(
        logging.ERROR,
        "loopwatch: job %r (%s) failed after %.1f s: %s; spawned by %s",
        name,
        job.coroutine,
        SYSTEM.monotonic() - job.started,
        type(error).__name__,
        origin,
        error=error,
        work=partial(origin.work, name),
    )


class _Origin:
    """Who spawned a job, and its context: text only once it is logged, since that runs ``show`` functions."""

    def __init__(self, site: Place, values: Values | None, contexts: ContextReader) -> None:
        self._site = site
        self._values = values
        self._contexts = contexts

    @cached_property
    def _context(self) -> Context:
        return self._contexts.shape(self._values)

    def work(self, task_name: str) -> Work:
        """Return whose work the job does."""
        return Work(self._context.values, self._context.trace_id, self._context.span_id, task_name)

    def __str__(self) -> str:
        return f"{shape(self._site)}{of_whom(self._context.values, self._context.trace_id)}"
