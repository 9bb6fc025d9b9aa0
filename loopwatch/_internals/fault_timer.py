"""The one timer of ``faulthandler``, shared with whoever else may use it.

``dump_traceback_later`` is the only thing in the process that fires while C code holds the GIL. There is one
timer per process, and arming ours cancels the user's. So its two functions are replaced by ones that notice
another's call; from then on the timer is theirs for good. A timer armed before ``install()``, or through a
``from faulthandler import`` that came earlier, cannot be noticed.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

_arming = threading.Lock()
"""Held while we arm the timer, and during every fork."""
_latest: FaultTimer | None = None


def _disarm_for_fork() -> None:
    """Keep children from inheriting an armed timer. The next round of chores arms it again in the parent.

    The timer is a thread, which a child does not have; touching it there, as exiting does, waits for that
    thread for ever (CPython 3.11 to 3.15).
    """
    _arming.acquire()
    if _latest is not None:
        _latest.cancel()


class FaultTimer:
    """Arms the timer as long as nobody else does."""

    def __init__(self, on_other_user: Callable[[], None]) -> None:
        self._on_other_user = on_other_user
        self._originals: dict[str, Callable[..., Any]] = {}
        self._replaced: dict[str, Callable[..., Any]] = {}
        self.available = True

    @staticmethod
    def debugged() -> bool:
        """Whether somebody stops or times this program on purpose: a debugger, or pytest's own timer."""
        return sys.gettrace() is not None or any(
            name in sys.modules for name in ("pytest", "pydevd", "debugpy")
        )

    def install(self) -> None:
        """Begin to notice others, and forks."""
        global _latest
        if _latest is None and hasattr(os, "register_at_fork"):  # once: hooks of forks cannot be removed
            release = _arming.release
            os.register_at_fork(before=_disarm_for_fork, after_in_parent=release, after_in_child=release)
        _latest = self
        for name in ("dump_traceback_later", "cancel_dump_traceback_later"):
            original = getattr(faulthandler, name)
            self._originals[name] = original
            self._replaced[name] = self._noticing(original)
            setattr(faulthandler, name, self._replaced[name])

    def remove(self) -> None:
        """Cancel our timer and put the functions back, where ours are still on top."""
        self.cancel()
        for name, ours in self._replaced.items():
            if getattr(faulthandler, name) is ours:
                setattr(faulthandler, name, self._originals[name])
        self.available = False

    def arm(self, seconds: float, file: IO[bytes]) -> None:
        """Dump all stacks into ``file`` unless armed again within ``seconds``."""
        with _arming:
            if self.available:
                self._originals["dump_traceback_later"](seconds, file=file)

    def cancel(self) -> None:
        """Disarm, unless the timer is another's."""
        if self.available:
            self._originals["cancel_dump_traceback_later"]()

    def _noticing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            if self.available:
                self.cancel()
                self.available = False
                self._on_other_user()
            return original(*args, **kwargs)

        function.__name__ = function.__qualname__ = original.__name__
        function.__doc__ = original.__doc__
        return function
