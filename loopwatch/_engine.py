"""The life of an agent: parts are attached to the program and started, and all of it is undone in reverse."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable, Mapping

from ._clock import SYSTEM, Clock
from ._context.backing import Backing, lean_on
from ._errors import LoopwatchError
from ._internals import fork_warning
from ._internals.tasks import running_loop
from ._parts import Parts
from ._settings import Settings
from ._store.jobs import JOBS
from ._threads import WITHIN, OwnThread, await_end, is_alone

WRITTEN = 0.15
"""Seconds that log handlers may take to write what a drain reports."""


class Engine(Parts):
    """Starts threads with the first loop that runs, not before."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM) -> None:
        super().__init__(settings, clock, self)
        self.installed = False
        self._started = False
        self._starting = threading.RLock()  # loops may start at the same time, signal handlers may uninstall
        self._starting_held = False
        self._forks_alone = False
        self._forks = threading.RLock()  # one fork at a time; a signal handler may fork within another fork

    def install(self) -> None:
        """Begin to watch."""
        self.installed = True
        self._done("otlp", self._exports.prepare)
        lean_on(
            Backing(self._journal, self._contexts, self._states.of, self._drains, self._outbox, self._flush)
        )
        for component, probe in self._probes.items():
            if not self._done(component, probe.install):
                self._done(component, probe.remove)
        self._done("hold_dump", self._hold_dump.notice)
        atexit.register(self.uninstall)
        loop = running_loop()
        if loop is None:
            self._done("telnet", self.console.prepare)
        else:
            self._done("attach", lambda: self._attach.watch(loop))

    def _done(self, component: str, step: Callable[[], object]) -> bool:
        """Take a step, and return whether it succeeded. A failure is counted, and other steps can follow."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - must neither reach the program nor stop us halfway
            self._journal.failure(component, error)
            return False
        return True

    def uninstall(self) -> None:
        """Undo all that was installed and started, in reverse. Does nothing when nothing is installed."""
        with self._starting:  # a loop may begin to run in another thread
            if not self.installed:
                return
            self.installed = False
        self.undo()

    def undo(self) -> None:
        """Take out of the program whatever was put in, however far the installation got."""
        self.installed = False
        threads = _running(self._threads())
        timers: set[str] = set()
        atexit.unregister(self.uninstall)
        self._done("signals", self._signals.remove)
        for component, probe in reversed(self._probes.items()):
            self._done(component, probe.remove)
        lean_on(None)
        self._done("console", self.console.stop)
        if self._started:
            self._started = False
            self._done("endpoint", self.metrics.stop)
            self._done("watchdog", self._watchdog.stop)
        self._done("hold_dump", lambda: timers.update(self._hold_dump.stop()))  # after its user, the watchdog
        self._done("watchdog", self._lost_tasks.collect)
        for told in (self._report, self._losses, self._findings):
            told.end()
        self._done("otlp", lambda: self._stop_export(threads))
        fork_warning.withdraw()
        self._journal.stop(timeout=1.0)
        await_end(threads, lambda: frozenset(timers), self._clock)  # else the program's next fork may warn

    def _stop_export(self, threads: list[threading.Thread]) -> None:
        with contextlib.suppress(RuntimeError):  # at exit no thread can be started
            if self._outbox.waits:
                self.otel.start()
        threads += _running(self._exports.threads())
        self.otel.stop()
        self._outbox.close()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Attach to a loop that already runs, here or elsewhere. Raises RuntimeError if it is closed."""
        if running_loop() is loop:
            self._attach.watch(loop)
        else:
            loop.call_soon_threadsafe(self._attach.watch, loop, True)

    def before_run(self) -> None:
        """Start what needs a thread, with the first loop that runs: importing the package starts none."""
        if not self._started:
            with self._starting:
                if self.installed and not self._started:
                    self._started = True  # even if it fails: not to be retried with each run of a loop
                    self._start()

    def loop_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the watchdog look at ``loop``, and handle the drain's signals."""
        self._watchdog.nudge()
        if self.installed:
            self._signals.enter(loop)

    def loop_left(self) -> None:
        """Stop handling signals between two runs. May raise what a signal handler raises."""
        if self.installed:
            self._signals.leave()

    def task_fell(self) -> None:
        """Have the watchdog report the lost task."""
        self._watchdog.nudge()

    def loop_beats(self) -> None:
        """Restore what others may have undone: our signal handlers, the watchdog's thread."""
        self._signals.check()
        if self._watchdog.alive:
            return
        with self._starting:  # two loops may beat at once
            if not self._watchdog.alive:
                self._journal.failure("watchdog", LoopwatchError("the watchdog's thread was killed"))
                try:
                    self._watchdog.start()
                except RuntimeError as error:  # no thread can be started now: the next heartbeat tries again
                    self._journal.failure("watchdog", error)

    def _start(self) -> None:
        """Start each part on its own: the failure of one is no reason to do without the others."""
        parts: dict[str, Callable[[], None]] = {
            "journal": self._journal.start,
            "hold_dump": self._hold_dump.start,
            "watchdog": self._watchdog.start,
            "endpoint": self.metrics.start,
            "console": self.console.start,
        }
        for component, start in parts.items():
            self._done(component, start)

    def _flush(self) -> None:
        self._done("rules", self.reader.glance)  # after a drain that left work there may be no later look
        self._journal.flush(WRITTEN)
        self.otel.flush()

    def _threads(self) -> dict[str, OwnThread]:
        """All long-running threads, by the component that counts their failures."""
        return {
            "watchdog": self._watchdog.thread,
            "journal": self._journal.thread,
            **self._exports.threads(),
            **self.console.threads(),
        }

    def before_fork(self) -> None:
        """Take back what a child must not inherit, and end all our threads."""
        self._forks.acquire()
        self._starting_held = self._starting.acquire(timeout=WITHIN)  # else the child inherits half a start
        ending = [ended for thread in self._threads().values() if (ended := thread.pause()) is not None]
        self._imports.acquire()
        self.otel.interrupt()
        await_end(ending, self._hold_dump.before_fork, self._clock)
        if fork_warning.COUNTS_LATE:
            fork_warning.withdraw()
            self._forks_alone = is_alone()
        self._signals.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on, unless uninstalled meanwhile."""
        self._hold_dump.after_fork_in_parent()
        self._imports.release()
        for component, thread in self._threads().items():
            self._done(component, thread.resume)
        if self.installed:
            self._signals.after_fork_in_parent()
        if self._starting_held:
            self._starting.release()
        self._forks.release()
        if self._forks_alone and not is_alone():
            fork_warning.pardon()

    def after_fork_in_child(self) -> None:
        """Start afresh in a forked child, where the parent's threads and loops do not run."""
        self._starting, self._starting_held, self._forks_alone = threading.RLock(), False, False
        if not self.installed:
            for thread in self._threads().values():
                thread.forget()
            self.after_fork_in_parent()
            return
        self._forks = threading.RLock()
        self._started = False
        self._pauses.running_since = None  # a thread that was collecting does not run here
        kept = self._states, self._census, self._stall_log, self._lost_log, self._lost_contexts, self._found
        counted = self._unawaited.dropped, JOBS, self._drains, self._unread
        told = self._report, self._losses, self._pool_pace, self._saturation, self._findings, self._outbox
        for each in (*kept, *counted, *told, self.pressure):
            each.clear()
        self._pools.clear(self._clock.monotonic())
        self._signals.after_fork_in_child()
        self._attach.forget()
        self._journal.forget_thread()
        self._watchdog.forget_thread()
        self._hold_dump.forget()
        self._imports.forget()
        self._exports.forget()
        self.console.forget()


def _running(threads: Mapping[str, OwnThread]) -> list[threading.Thread]:
    return [thread for own in threads.values() if (thread := own.other) is not None]
