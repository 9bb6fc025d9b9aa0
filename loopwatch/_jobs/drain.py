"""Waits at the end of a program for the work in progress, and reports by name what was left."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import Any, Literal

from loopwatch._arguments import LONGEST_DRAIN, seconds
from loopwatch._clock import SYSTEM, Clock
from loopwatch._context.backing import backing
from loopwatch._context.reader import NOTHING, Context
from loopwatch._errors import ConfigurationError
from loopwatch._internals.await_chain import chain
from loopwatch._internals.dependencies import Needs
from loopwatch._internals.futures import cancelled_with
from loopwatch._records import DrainReport, Task
from loopwatch._store.jobs import JOBS
from loopwatch._store.loop_names import base_name
from loopwatch._store.watched import Values

from .bystanders import needs_of, parts_of, stays, waiting_for
from .interrupt import on_signal
from .off_loop import off_loop
from .report import tell
from .seen import Recorder, Seen, needs_show, see

Cancel = Literal["jobs", "all"]

RESCAN = 0.1
"""Seconds after which to look for new tasks and for new waiters..."""
RESCAN_EACH = 0.001
"""...plus this much per task: looking at one takes 20 to 50 us."""
SLICE = 50
"""Tasks looked at before the loop gets its turn."""

# After the timeout: together less than the second by which a drain may exceed it.
LAST_LOOK = 0.2
"""Seconds to note where the remaining tasks stand. For more than thousands the earlier look has to do."""
GRACE = 0.35
"""Seconds to cancel tasks, and for the cancelled tasks to end..."""
LEAST_GRACE = 0.1
"""...of which the tasks cancelled last get these. Cancelling long chains of tasks takes a while."""
DEEP = 200
"""Futures that may be cancelled in one recursion. The limit of the interpreter is 1,000 as a rule, for these
and the frames of the program together; on Python 3.11, some count twice."""
PATIENCE = 0.15
"""Seconds for the program's ``show`` functions, and as many for its log handlers."""


async def drain(timeout: float = 8.0, cancel: Cancel = "jobs") -> DrainReport:
    """Wait for the tasks of the running loop to end, and report what became of each.

    Waits for all tasks except the caller, daemons, the task whose end stops the loop, and tasks that wait for
    one of these. After ``timeout`` seconds the jobs of ``spawn()`` are cancelled (``cancel="all"``: all tasks
    that are left) and have a moment to end. Others are left alone and reported as abandoned. Returns within
    one second of the timeout, whatever the tasks do; a signal ends it at once. Meanwhile ``spawn()`` raises
    Draining.

    Raises ConfigurationError for arguments that cannot work, and nothing for a task that fails.
    """
    limit = seconds("timeout", timeout, 0.0, LONGEST_DRAIN)
    check_cancel(cancel)
    return await Drain(limit, cancel).run()


def check_cancel(cancel: str) -> None:
    """Raise ConfigurationError if ``cancel`` is neither ``"jobs"`` nor ``"all"``."""
    if cancel not in ("jobs", "all"):
        raise ConfigurationError(
            f"cancel={cancel!r}: neither 'jobs' nor 'all'. Say whom to cancel at the timeout."
        )


class Drain:
    """One drain of the running loop. Runs in the loop's thread."""

    def __init__(self, timeout: float, cancel: Cancel = "jobs", clock: Clock = SYSTEM) -> None:
        self._timeout = timeout
        self._cancel = cancel
        self._clock = clock
        self._now = clock.monotonic
        self._loop = asyncio.get_running_loop()
        self._jobs = JOBS.of(self._loop)
        self._parts = backing()
        state = self._parts.state_of(self._loop)
        self._records = {} if state is None else state.tasks.live
        self._loop_name = base_name(threading.current_thread()) if state is None else state.name
        self._seen: dict[asyncio.Task[Any], Seen] = {}
        self._pending: set[asyncio.Task[Any]] = set()
        self._waker: asyncio.Future[None] = self._loop.create_future()
        self._context = contextvars.Context()  # for our callbacks, so as not to hold the callers' own
        self._began = self._now()
        self._stopping = False
        self._interrupted = False
        self._told = False

    async def run(self) -> DrainReport:
        """Drain. Call it once."""
        caller = asyncio.current_task()
        try:
            with on_signal(self.interrupt):  # before the drain is reported: a second signal may come at once
                self._enter(caller)
                await self._wait(self._began + self._timeout)
                if not self._interrupted:
                    await self._stop()
                report = await self._report()
        except BaseException:
            self.last_words()  # the caller was cancelled, or a signal raised
            raise
        finally:
            self._leave(caller)
        self._tell(report)
        # Written and sent before we return, since the process may end right after, without notice.
        await off_loop(self._parts.flush)
        return report

    def interrupt(self) -> None:
        """End at once: wait for nothing and cancel nothing more. A signal handler may call this."""
        self._interrupted = True
        self._loop.call_soon_threadsafe(self._wake)

    def last_words(self) -> None:
        """Report now what is left, since there may be no later chance; unless it was reported already."""
        if self._told:
            return
        self._see_all()
        self._tell(self._made())

    def _enter(self, caller: Any) -> None:
        JOBS.drain_began = self._began
        JOBS.drain_status = "draining"
        for let_go in self._jobs.drainers.values():
            let_go(caller)  # it was not draining yet when the other drains saw it
        self._jobs.drainers[caller] = self._let_go
        self._see_all()
        self._parts.journal.say(
            logging.INFO,
            "loopwatch: draining for up to %g s; tasks to wait for: %d",
            self._timeout,
            len(self._pending),
        )

    def _leave(self, caller: Any) -> None:
        self._jobs.drainers.pop(caller, None)
        JOBS.drain_began = None
        for task in self._seen:
            task.remove_done_callback(self._ended)

    async def _wait(self, deadline: float) -> None:
        """Wait until nothing is left to wait for, new tasks included, or the deadline."""
        await self._look(max(deadline, self._now() + LAST_LOOK))
        while self._pending and not self._interrupted and (left := deadline - self._now()) > 0:
            await self._pause(min(left, RESCAN + RESCAN_EACH * len(self._pending)))
            self._see_all()
            await self._look(max(deadline, self._now() + LAST_LOOK))

    async def _stop(self) -> None:
        """Cancel the tasks that we may cancel, and give them a moment."""
        others: set[asyncio.Task[Any]] = set()
        if self._cancel == "jobs":
            others = {task for task in self._pending if task not in self._jobs.live}
        self._pending -= others
        self._stopping = True
        until = self._now() + GRACE
        reached: set[int] = set()
        for task in tuple(self._pending):  # in one turn of the loop: in the next, some are cleaning up
            if self._interrupted or self._now() > until:
                break
            if not task.done():
                self._cancel_task(task, reached)
        until = max(until, self._now() + LEAST_GRACE)
        while self._pending and not self._interrupted and (left := until - self._now()) > 0:
            await self._pause(left)
        self._pending.clear()
        self._see_all()  # includes what the cancelled tasks have started since
        await self._look(self._now() + LAST_LOOK / 4)

    def _cancel_task(self, task: asyncio.Task[Any], reached: set[int]) -> None:
        """Cancel ``task``, unless it is among those ``reached``: cancelled with another that waits for it.

        A task passes its cancellation on to what it waits for, and so on, in one recursion. If that exceeds
        the interpreter's limit just at its end, the future there counts as cancelled, but nobody who waits
        for it is told, ever. So where there are many, those at the end are cancelled first.
        """
        self._seen[task].cancelled = True
        if id(task) in reached:
            return
        message = f"loopwatch.drain(): not finished within {self._timeout:g} s"
        number, ends = cancelled_with(task, reached)
        for each in ends if number > DEEP else ():
            each.cancel(msg=message)  # as a task calls it on what it waits for
        try:
            task.cancel(message)
        except RecursionError:  # if its chain has an end, that ends it; a cycle has none
            self._seen[task].cancelled = False

    async def _report(self) -> DrainReport:
        """Make the report, off the loop: with thousands of tasks it takes a while."""
        if any(needs_show(seen.values) for seen in self._seen.values()):
            await off_loop(self._show, PATIENCE)
        return await off_loop(self._made) or self._made()

    def _show(self) -> None:
        """Run the program's ``show`` functions. Values not shown within ``PATIENCE`` are left out."""
        for seen in tuple(self._seen.values()):
            self._parts.contexts.shape(seen.values)

    def _context_of(self, values: Values | None) -> Context:
        return NOTHING if needs_show(values) else self._parts.contexts.shape(values)

    def _made(self) -> DrainReport:
        now = self._now()
        recorder = Recorder(now, self._clock.wall(), self._loop_name, self._context_of)
        found: dict[str, list[Task]] = {"finished": [], "cancelled": [], "abandoned": []}
        for seen in sorted(self._seen.values(), key=lambda seen: seen.started):
            record = recorder.record(seen)
            kind = "abandoned" if record.state == "pending" else "cancelled" if seen.cancelled else "finished"
            found[kind].append(record)
        return DrainReport(
            finished=tuple(found["finished"]),
            cancelled=tuple(found["cancelled"]),
            abandoned=tuple(found["abandoned"]),
            duration=now - self._began,
            timeout=self._timeout,
        )

    def _tell(self, report: DrainReport) -> None:
        """Keep and log the outcome."""
        if self._told:
            return
        self._told = True
        JOBS.drain_status = "forced" if report.forced else "drained"
        JOBS.drain_duration = report.duration
        JOBS.drain_finished += len(report.finished)
        JOBS.drain_cancelled += len(report.cancelled)
        JOBS.drain_abandoned += len(report.abandoned)
        self._parts.drains.append(report)
        if self._parts.outbox.is_open:
            from loopwatch._events import Drained  # loaded by the agent: without one it would take 20 ms

            self._parts.outbox.put(Drained(report, self._clock.wall(), self._loop_name))
        tell(report, self._parts.journal)

    def _see_all(self) -> None:
        """Note new tasks."""
        now = self._now()
        tasks = asyncio.all_tasks(self._loop)
        staying = {task for task in tasks if stays(task, self._jobs.drainers)}
        staying |= parts_of(staying).difference(self._jobs.live)
        for task in tasks.difference(staying, self._seen):
            if task.done():
                continue
            self._seen[task] = see(task, self._jobs.live.get(task), self._records, now)
            self._pending.add(task)
            task.add_done_callback(self._ended, context=self._context)

    async def _look(self, until: float) -> None:
        """Note where each task stands, and stop waiting for those that wait for us."""
        all_needs: dict[asyncio.Task[Any], Needs] = {}
        for number, task in enumerate(tuple(self._pending), 1):
            if self._now() > until or self._interrupted:
                break
            if task in self._pending and (need := self._look_at(task)) is not None:  # still
                all_needs[task] = need
            if number % SLICE == 0:
                await asyncio.sleep(0)
        for task in waiting_for(self._staying(all_needs), all_needs):
            self._let_go(task)

    def _look_at(self, task: asyncio.Task[Any]) -> Needs | None:
        """Note where a task stands; return the tasks it waits for."""
        try:
            found = chain(task)
            self._seen[task].look(found, self._parts.contexts)
            return needs_of(found)
        except Exception as error:  # noqa: BLE001 - counted; the program's call of ``drain()`` goes on
            self._parts.journal.failure("drain", error)
            return None

    def _staying(self, all_needs: dict[asyncio.Task[Any], Needs]) -> set[asyncio.Task[Any]]:
        """Return those of the needed tasks that will not end before we do."""
        needed = {task for need in all_needs.values() for task in need.tasks}
        return {task for task in needed if stays(task, self._jobs.drainers)}

    def _let_go(self, task: asyncio.Task[Any]) -> None:
        if self._seen.pop(task, None) is not None:
            task.remove_done_callback(self._ended)
            self._pending.discard(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task in self._seen:  # not let go of just now
            self._seen[task].ended = self._now()
            if self._stopping and task.cancelled():
                self._seen[task].cancelled = True  # by us, if only through a task it waited for
        self._pending.discard(task)
        if not self._pending:
            self._wake()

    async def _pause(self, duration: float) -> None:
        """Wait until nothing is pending, the drain is interrupted, or ``duration`` seconds have passed."""
        if self._interrupted:
            return
        self._waker = self._loop.create_future()
        timer = self._loop.call_later(duration, self._wake)
        try:
            await self._waker
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if not self._waker.done():
            self._waker.set_result(None)
