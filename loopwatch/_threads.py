"""loopwatch's own threads, which end for a fork and resume after it.

A thread does not live on in a forked child, but the locks it held stay locked there, and since Python 3.12
forking beside one warns. So ours are asked to end before a fork. One that does not end in time, because it is
in a system call, is not waited for; after the fork the request is withdrawn.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from os import listdir  # by name: a test of the program's may put a mock in its place

from ._clock import Clock

WITHIN = 0.05
"""Seconds for which threads that do not end may delay a fork."""
LOOK_AGAIN = 0.0002
"""Seconds until the kernel is asked again which threads exist: about as long as one takes to end."""

STACK = 1 << 20
"""Minimum stack of a thread of ours, in bytes: 32 KiB, which a program may give its own, is too little to
import in."""

_FAULTS = {
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
    if hasattr(signal, name)
}
"""Delivered to the thread at fault; where that blocks them, they end the process unhandled."""

IsToEnd = Callable[[], bool]
"""Called by a thread between two pieces of work. When it returns True, the thread has to return."""


class Imports:
    """Held while a thread of ours imports, so that no fork happens meanwhile.

    A child would wait for ever for a module that its parent's thread was in the middle of importing. One
    thread can hold it several times over.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *raised: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Wait for imports under way, and let none begin."""
        self._lock.acquire()

    def release(self) -> None:
        """Let others import again."""
        self._lock.release()

    def forget(self) -> None:
        """Be free, whoever held it: in a forked child."""
        self._lock = threading.RLock()


class OwnThread:
    """Runs ``work``, which asks ``is_to_end()``, in a daemon thread; ``wake`` makes it ask soon.

    Its methods may be used by one thread at a time.
    """

    def __init__(self, name: str, work: Callable[[IsToEnd], object], wake: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self._wake = wake
        self._thread: threading.Thread | None = None
        self._requests: deque[None] = deque()
        """At most one, to this one thread. Either the thread takes it and ends, or it is withdrawn."""
        self._paused = False

    @property
    def started(self) -> bool:
        """Whether it was started and not ended since. A pause is not an end."""
        return self._thread is not None

    @property
    def alive(self) -> bool:
        """Whether it runs or is not meant to: False for one that was killed."""
        return self._thread is None or self._paused or self._thread.is_alive()

    def start(self) -> None:
        """Start a thread. Raises RuntimeError if none can be had."""
        requests: deque[None] = deque()
        thread = start(self._name, partial(self._work, lambda: _taken(requests)))
        self._thread, self._requests, self._paused = thread, requests, False

    def end(self, timeout: float) -> None:
        """Make it end, and wait for that."""
        if self._thread is not None:
            self._ask()
        self.leave(timeout)

    def leave(self, timeout: float) -> None:
        """Let go of the thread, which ends by itself, and wait for it, unless it is the caller."""
        thread, self._thread, self._paused = self._thread, None, False
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    @property
    def other(self) -> threading.Thread | None:
        """The thread it runs in; None if that is the caller's, or it does not run."""
        thread = self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return None
        return thread

    def pause(self) -> threading.Thread | None:
        """Make it end for a fork. Returns the thread to wait for; None if that is forking, or not running."""
        thread = self.other
        if thread is not None:
            self._paused = True
            self._ask()
        return thread

    def resume(self) -> None:
        """Go on after a fork, in the parent. Raises RuntimeError if no thread can be had."""
        if self._paused:
            self._paused = False
            if not _taken(self._requests):
                self.start()

    def forget(self) -> None:
        """Be as if never started: in a forked child, where it does not run."""
        self._thread, self._paused = None, False

    def _ask(self) -> None:
        if not self._requests:
            self._requests.append(None)
        self._wake()


def _taken(requests: deque[None]) -> bool:
    """Take the request; return whether there was one."""
    try:
        requests.pop()
    except IndexError:
        return False
    return True


def start(name: str, work: Callable[[], object]) -> threading.Thread:
    """Start a daemon thread of ours, and return it. Raises RuntimeError if none can be had."""
    thread = threading.Thread(target=partial(_without_signals, work), name=name, daemon=True)
    given = threading.stack_size()
    if not 0 < given < STACK:
        thread.start()
        return thread
    threading.stack_size(STACK)  # threads that the program starts meanwhile get as much: no harm
    try:
        thread.start()
    finally:
        threading.stack_size(given)
    return thread


def _without_signals(work: Callable[[], object]) -> None:
    """Leave all signals to the program's threads, including those they block in order to wait for them.

    A signal to the process goes to any thread that does not block it: to ours, while the program's did, and
    its handler ran amid what must not be interrupted. SIGPIPE goes to a thread that writes to a peer that has
    gone, and by default ends the program. Threads that this one starts inherit its mask.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
    work()


def await_end(ending: Sequence[threading.Thread], disarm: Callable[[], frozenset[str]], clock: Clock) -> None:
    """Wait for threads that were asked to end, ``WITHIN`` seconds at most, so that none is there at the fork.

    ``disarm`` ends further ones, timers of ``faulthandler``, and returns their kernel ids. The warning counts
    the threads that the kernel knows, where one may remain for a moment after ``join()`` has returned.
    """
    until = clock.monotonic() + WITHIN
    for thread in ending:
        thread.join(max(0.0, until - clock.monotonic()))
    ours = {str(thread.native_id) for thread in ending}
    ours |= disarm()  # now that the watchdog no longer arms the timer
    never = threading.Lock()
    never.acquire()
    while ours & _in_kernel() and clock.monotonic() < until:
        never.acquire(timeout=LOOK_AGAIN)


def is_alone() -> bool:
    """Whether this thread is the only one of the process, as far as can be told."""
    return len(_in_kernel() or threading.enumerate()) == 1


def _in_kernel() -> frozenset[str]:
    """Return the kernel's ids of all threads of this process; empty if it does not tell."""
    try:
        return frozenset(listdir("/proc/self/task"))
    except OSError:
        return frozenset()
