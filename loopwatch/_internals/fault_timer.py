"""The one timer of ``faulthandler``, shared with anyone else who may use it.

``dump_traceback_later`` is the only thing in the process that fires while C code holds the GIL. There is one
timer per process, and arming ours cancels the user's. So the timer's two functions are replaced by ones that
notice a foreign call; from then on the timer is left to others for good. A timer armed before ``install()``,
or through an earlier ``from faulthandler import``, cannot be noticed: ours takes its place, as documented.
"""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import threading
from collections.abc import Callable, Iterator

# Imported by name: a test of the program's may put a mock in their place.
from os import O_RDONLY, O_RDWR, close, listdir, read, write
from os import open as open_file
from typing import IO, Any

NAME = "loopwatch-timer"
"""Kernel name of the timer's thread, by which alone it can be found. The kernel takes 15 characters."""
LONGEST = 64
"""Bytes read of a name: more than a name has."""


class FaultTimer:
    """Arms the timer for as long as nobody else does."""

    def __init__(self, on_other_user: Callable[[], None]) -> None:
        self._on_other_user = on_other_user
        self._originals: dict[str, Callable[..., Any]] = {}
        self._replaced: dict[str, Callable[..., Any]] = {}
        # Reentrant: a signal handler may interrupt any of these, and fork or use the timer itself.
        self._turn = threading.RLock()
        self._armed = False
        self._ran = False
        """Whether it was armed since the last fork: if so its thread may still exist, though disarmed."""
        self.available = True

    @staticmethod
    def debugged() -> bool:
        """Whether this program is stopped or timed on purpose, by a debugger or by pytest's own timer."""
        return sys.gettrace() is not None or any(
            name in sys.modules for name in ("pytest", "pydevd", "debugpy")
        )

    def install(self) -> None:
        """Begin to notice other users."""
        for name in ("dump_traceback_later", "cancel_dump_traceback_later"):
            original = getattr(faulthandler, name)
            self._originals[name] = original
            self._replaced[name] = self._noticing(original)
            setattr(faulthandler, name, self._replaced[name])

    def remove(self) -> frozenset[str]:
        """Cancel our timer, and restore the functions where ours are still on top.

        Returns the kernel ids of the threads that are ending.
        """
        with self._turn:
            ending = self._disarm()
            self.available = False
        for name, ours in self._replaced.items():
            if getattr(faulthandler, name) is ours:
                setattr(faulthandler, name, self._originals[name])
        return ending

    def arm(self, seconds: float, file: IO[bytes]) -> None:
        """Dump all stacks to ``file`` unless armed again within ``seconds``."""
        with self._turn:
            if self.available:
                self._armed = self._ran = True
                with _named(NAME):
                    self._originals["dump_traceback_later"](seconds, file=file)

    def cancel(self) -> None:
        """Disarm, unless the timer is left to others."""
        with self._turn:
            if self.available and self._armed:
                self._armed = False
                self._originals["cancel_dump_traceback_later"]()

    def before_fork(self) -> frozenset[str]:
        """Disarm, and stay disarmed until ``after_fork``. Returns the kernel ids of the ending threads.

        The timer is a thread. A child does not inherit it, yet waits for its end as soon as it cancels the
        timer or exits: forever.
        """
        self._turn.acquire()
        return self._disarm()

    def after_fork(self) -> None:
        """Allow arming again, in parent and child."""
        self._turn.release()

    def _disarm(self) -> frozenset[str]:
        """Disarm, and return the threads that are ending.

        There may be two, since rearming ends one without waiting until the kernel has forgotten it: of 2,000,
        8 still existed when the next one did.
        """
        ending = _threads_named(NAME) if self._ran else frozenset()
        self._ran = False
        self.cancel()
        return ending

    def _noticing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            with self._turn:  # else the watchdog, arming just now, would cancel what the user arms next
                first, self.available = self.available, False
                if first and self._armed:
                    self._originals["cancel_dump_traceback_later"]()
            if first:
                self._on_other_user()  # must not raise: this is the user's call
            return original(*args, **kwargs)

        function.__name__ = function.__qualname__ = original.__name__
        function.__doc__ = original.__doc__
        return function


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Name threads that C code starts meanwhile ``name`` in the kernel: they inherit this thread's name."""
    try:
        file = open_file(f"/proc/self/task/{threading.get_native_id()}/comm", O_RDWR)
    except OSError:  # the system has no such names, or does not let us set them
        yield
        return
    before = read(file, LONGEST).removesuffix(b"\n")
    write(file, name.encode())
    try:
        yield
    finally:
        write(file, before)
        close(file)


def _threads_named(name: str) -> frozenset[str]:
    """Return the kernel ids of the threads of that name; none if the system does not tell."""
    with contextlib.suppress(OSError):
        return frozenset(thread for thread in listdir("/proc/self/task") if _is_named(thread, name))
    return frozenset()


def _is_named(thread: str, name: str) -> bool:
    try:
        file = open_file(f"/proc/self/task/{thread}/comm", O_RDONLY)
    except OSError:  # it has ended
        return False
    try:
        return read(file, LONGEST).removesuffix(b"\n") == name.encode()
    except OSError:
        return False
    finally:
        close(file)
