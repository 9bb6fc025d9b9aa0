"""Draining when SIGTERM or SIGINT tells a plain program to end; the signal is passed on afterwards.

Our handler is on top only while a loop runs in the main thread: ``asyncio.run`` checks before and after that
its own is in place. When the drain is over, the previous handler is restored and the signal raised again, so
that whatever was to act on it does, if only by terminating the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import signal
import threading
import weakref
from types import FrameType

from loopwatch._clock import SYSTEM
from loopwatch._internals.tasks import running_loop
from loopwatch._journal import Journal
from loopwatch._records import DrainReport
from loopwatch._store.jobs import JOBS

from . import lifespan
from .disposition import Disposition, name_of, set_default
from .drain import Drain
from .interrupt import SIGNALS

SERVERS = frozenset(("aiohttp", "gunicorn", "hypercorn", "uvicorn"))
"""Servers whose handlers begin a shutdown that ends the requests first: they stay in charge, and the drain
belongs in that shutdown."""
LOADED = 2.0
"""Seconds after which it is known whether an application drains in its lifespan: Starlette builds its
middleware when first called, while the server's loop runs."""
FLUSH = 0.5
"""Seconds the log handlers may take to write what is pending, before a signal is raised that may kill."""


class DrainSignals:
    """Handles the signals for a program that would not drain by itself; none without a timeout.

    Takes effect only in the main thread.
    """

    def __init__(self, timeout: float | None, journal: Journal) -> None:
        self._wanted = timeout is not None
        self._timeout = timeout or 0.0
        self._journal = journal
        self._before: dict[int, Disposition] = {}
        """What was set for the signals that our handler handles, or did before others were set."""
        self._left: dict[int, Disposition] = {}
        """Handlers left in charge..."""
        self._left_at = 0.0
        """...and since when: monotonic time."""
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._drained: weakref.ref[asyncio.AbstractEventLoop] | None = None
        """The loop whose signals we no longer handle, since one was passed on."""
        self._pid = 0
        self._taken: int | None = None
        """The signal that began a drain and has not been passed on."""
        self._drain: Drain | None = None
        self._task: asyncio.Task[DrainReport] | None = None
        self._said = False

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Install our handlers over those set for the signals, as ``loop`` begins to run."""
        if not self._wanted or not _in_main_thread():
            return
        if self._drained is None or self._drained() is not loop:
            self._loop = weakref.ref(loop)
            self._left.clear()
            self._pid = os.getpid()
            for signum in SIGNALS:
                self._take(loop, signum)

    def check(self) -> None:
        """Install our handlers over those set meanwhile. At each heartbeat. Never raises."""
        loop = None if self._loop is None else self._loop()
        if loop is None or self._taken is not None or self._drained is self._loop or not _in_main_thread():
            return
        try:
            for signum in SIGNALS:
                self._take(loop, signum)
            self._say_what_was_left()
        except Exception as error:  # noqa: BLE001 - the heartbeat goes on
            self._journal.failure("signals", error)

    def leave(self) -> None:
        """Give the signals back as the loop ends, and pass on a signal that is still held."""
        if self._taken is not None and _in_main_thread():
            self._hand_on(self._taken)
        self.remove()

    def remove(self) -> None:
        """Give the signals back. If others were set over ours, ours stays and passes on what it gets."""
        if _in_main_thread():
            self._before = {
                signum: before for signum, before in self._before.items() if not before.give_back()
            }

    def before_fork(self) -> None:
        """Give the signals back for the child, where our handler would swallow a signal that comes early."""
        self.remove()

    def after_fork_in_parent(self) -> None:
        """Install our handlers again."""
        loop = None if self._loop is None else self._loop()
        if loop is not None and loop.is_running() and self._taken is None:
            self.enter(loop)

    def after_fork_in_child(self) -> None:
        """Drop the ongoing drain, and the loop, which does not run in the child."""
        self._drain = self._task = self._taken = self._loop = None

    def _take(self, loop: asyncio.AbstractEventLoop, signum: int) -> None:
        """Install our handler over the one set for ``signum``, unless that has to stay in charge."""
        taken, left = self._before.get(signum), self._left.get(signum)
        if (taken is not None and taken.is_taken) or (left is not None and left.stands):
            return
        found = Disposition(loop, signum, self._on_signal)
        # Code that calls ``signal.signal`` after us, as uvicorn does, will restore our handler and raise the
        # signal for it; if ours took precedence again, it would call theirs when they are gone.
        late = taken is not None and not found.of_loop and not found.is_default
        if late or found.owner in SERVERS or not found.can_be_taken:
            self._left[signum] = found
            self._left_at = SYSTEM.monotonic()
        else:
            found.take()
            self._before[signum] = found

    def _say_what_was_left(self) -> None:
        """Log once that the setting has no effect, unless the application drains in its lifespan."""
        if SYSTEM.monotonic() - self._left_at < LOADED:
            return
        for signum, left in self._left.items():
            if self._said or lifespan.in_use or not left.can_be_taken:
                continue
            self._said = True
            self._journal.say(
                logging.WARNING,
                "loopwatch: %s is handled by %s, so that drain_timeout does nothing here. Drain in the "
                "shutdown it begins: await loopwatch.drain(), or loopwatch.drain_lifespan(app) for ASGI.",
                signal.Signals(signum).name,
                name_of(left.callback),
            )

    def _on_signal(self, signum: int, _: FrameType | None = None) -> None:
        """Begin to drain, or pass the signal on at once if that is impossible or a drain has begun before."""
        loop = running_loop()
        ours = signum in self._before and self._pid == os.getpid()  # not in a forked child
        if loop is None or not ours or self._taken is not None or JOBS.of(loop).shut_down:
            self._hand_on(signum)
            return
        self._taken, self._drain = signum, Drain(self._timeout)
        loop.call_soon_threadsafe(self._begin, loop, self._drain)

    def _begin(self, loop: asyncio.AbstractEventLoop, drain: Drain) -> None:
        if drain is not self._drain:
            return
        work = drain.run()
        try:
            # In an empty context: the current one belongs to whatever ran when the signal came.
            create_task = functools.partial(loop.create_task, work, name="loopwatch-drain")
            self._task = contextvars.Context().run(create_task)
            self._task.add_done_callback(self._ended)
        except Exception as error:  # noqa: BLE001 - raised by a task factory; the signal is passed on anyway
            work.close()
            self._journal.failure("signals", error)
            if self._taken is not None:
                self._hand_on(self._taken)

    def _ended(self, task: asyncio.Task[DrainReport]) -> None:
        """Pass the signal on. In a callback, so that a handler can end the loop with KeyboardInterrupt."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._journal.failure("drain", error)
        if self._taken is not None:
            self._hand_on(self._taken)

    def _hand_on(self, signum: int) -> None:
        """Restore the handler from before us, and raise the signal for it. The process may end here."""
        drain, self._drain, self._taken = self._drain, None, None
        if self._pid == os.getpid():
            if drain is not None:
                drain.last_words()
            self._journal.flush(FLUSH)
        self._drained = self._loop
        before = self._before.pop(signum, None)
        if before is None:
            set_default(signum)
        else:
            before.restore()
        self.remove()
        signal.raise_signal(signum)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
