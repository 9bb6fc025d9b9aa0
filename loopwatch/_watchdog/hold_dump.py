"""The stacks during a hold of the GIL that lasts for seconds, written while no Python code can run.

During such a hold the watchdog is as stuck as the loop. So the timer of ``faulthandler`` is armed ahead,
in every round of the watchdog's chores; if the watchdog stays away for ``HOLD`` seconds, C code writes the
stacks of all threads to a file. Arming costs about 0.1 ms, so it is done once a second, not at every tick.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from os import fstat  # by name, as in evidence
from pathlib import Path
from typing import IO

from loopwatch._internals.fault_timer import FaultTimer
from loopwatch._journal import Journal

HOLD = 5.0
"""Seconds without the watchdog until the dump; it may come one round of chores, a second, earlier."""
SUFFIX = ".dump"
YOUNG = 60.0
"""Seconds for which another process's file is left alone: it may not have locked it yet."""


class HoldDump:
    """Keeps the timer armed while loops run, and reports what it has written."""

    def __init__(self, where: bool | str, journal: Journal) -> None:
        self._where = where
        self._journal = journal
        self._timer: FaultTimer | None = None
        self._file: IO[bytes] | None = None
        self._size = 0
        self._tidied = False

    @property
    def path(self) -> str | None:
        """Path of the dump file; None while there is none."""
        return None if self._file is None else self._file.name

    def notice(self) -> None:
        """Begin to notice other users of the timer, unless switched off or debugged. Before ``start``."""
        if self._timer is None and self._where is not False and not FaultTimer.debugged():
            self._timer = FaultTimer(self._stand_back)
            self._timer.install()

    def start(self) -> None:
        """Open the file and begin. If it cannot be opened, only log that."""
        self.notice()
        if self._timer is not None and self._timer.available:
            try:
                self._file = self._open()
            except OSError as error:
                message = "loopwatch: long holds of the GIL will not be dumped: %s"
                self._journal.say(logging.WARNING, message, error)
            else:
                self._size = fstat(self._file.fileno()).st_size  # the user's own file is appended to

    def stop(self) -> frozenset[str]:
        """Disarm; remove the file if nothing was written. Returns the kernel ids of the threads that end."""
        ending: frozenset[str] = frozenset()
        if self._timer is not None:
            ending = self._timer.remove()
            self._timer = None
        if self._file is not None:
            self._tell_if_grown(self._file)
            self._file.close()
            if not self._size and self._where is True:
                with contextlib.suppress(OSError):  # somebody tidied up the temporary directory
                    os.unlink(self._file.name)
            self._file = None
        return ending

    def before_fork(self) -> frozenset[str]:
        """Disarm: a child forked while the timer runs could never exit. Returns ids of the ending threads."""
        return self._timer.before_fork() if self._timer is not None else frozenset()

    def after_fork_in_parent(self) -> None:
        """Allow the next round to arm again."""
        if self._timer is not None:
            self._timer.after_fork()

    def forget(self) -> None:
        """Close the parent's file without changing it, and start afresh: in a forked child."""
        if self._timer is not None:
            self._timer.after_fork()
            self._timer.remove()
            self._timer = None
        if self._file is not None:
            self._file.close()
            self._file = None
        self.notice()

    def chore(self, needed: bool) -> None:
        """Arm for the next round if ``needed``, that is, while a loop runs."""
        if self._timer is None or self._file is None:
            return
        self._tell_if_grown(self._file)
        if not self._tidied:
            self._tidied = True
            _tidy(self._file)
        if needed:
            self._timer.arm(HOLD, self._file)
        else:
            self._timer.cancel()

    def _open(self) -> IO[bytes]:
        if isinstance(self._where, str):
            return open(self._where, "ab", buffering=0, opener=_open_at_once)
        prefix = f"loopwatch-{os.getpid()}-"
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - open as long as loops run
            prefix=prefix, suffix=SUFFIX, delete=False, buffering=0
        )
        _lock(file)
        return file

    def _tell_if_grown(self, file: IO[bytes]) -> None:
        size = fstat(file.fileno()).st_size
        if size > self._size:
            self._journal.say(
                logging.WARNING,
                "loopwatch: nothing in this process could run Python for about %.0f s or more; "
                "the stacks of all threads at that time are in %s",
                HOLD,
                file.name,
            )
        self._size = size

    def _stand_back(self) -> None:
        self._journal.say(
            logging.INFO,
            "loopwatch: this program uses faulthandler's timer, so long holds of the GIL are not dumped",
        )


def _open_at_once(path: str, flags: int) -> int:
    """Open what may be a pipe, without ever waiting for a reader, at open or at write."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def _lock(file: IO[bytes]) -> None:
    """Mark ``file`` as one of a living process. Raises OSError if another process holds it."""
    if sys.platform != "win32":
        import fcntl  # absent on Windows, where ended processes' files stay

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _tidy(own: IO[bytes]) -> None:
    """Remove the empty files of processes that were killed, and so could not remove them themselves.

    A living process is recognised by its lock: process ids mean nothing where containers share a directory.
    """
    born = fstat(own.fileno()).st_mtime
    for path in Path(own.name).parent.glob(f"loopwatch-*{SUFFIX}"):
        with contextlib.suppress(OSError), path.open("rb") as file:  # gone meanwhile, or another user's
            found = fstat(file.fileno())
            if not found.st_size and born - found.st_mtime > YOUNG:
                _lock(file)
                path.unlink()
