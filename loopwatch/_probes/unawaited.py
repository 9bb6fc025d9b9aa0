"""Probe of coroutines that die without ever having been awaited.

The interpreter warns of them itself, with its own text and filters; this only notes who dropped it and for
whom, before the warning. There is no origin tracking: that would cost every coroutine of the program.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from loopwatch._context.reader import ContextReader
from loopwatch._internals.interpreter import getframe
from loopwatch._internals.unawaited import UnawaitedHook
from loopwatch._journal import Journal
from loopwatch._places import Place
from loopwatch._store.watched import Values

KEPT = 256
"""Drops that may wait for the watchdog."""


Dropped = tuple[str, Place, "Values | None"]
"""A coroutine that was never awaited: its name, the frame that let go of the last reference (where there was
none, the beginning of the coroutine), and that thread's current context."""


class UnawaitedProbe:
    """Notes such coroutines, in whichever thread drops them."""

    def __init__(self, contexts: ContextReader, journal: Journal) -> None:
        self._contexts = contexts
        self._journal = journal
        self._hook = UnawaitedHook(self._note)
        self.dropped: deque[Dropped] = deque(maxlen=KEPT)

    def install(self) -> None:
        """Begin to notice."""
        self._hook.install()

    def remove(self) -> None:
        """Put the interpreter's hook back."""
        self._hook.remove()

    def _note(self, coro: Any) -> None:
        try:
            self.dropped.append((coro.__qualname__, _dropped_by(coro), self._contexts.current()))
        except Exception as error:  # noqa: BLE001 - the warning must come as it would
            self._journal.failure("unawaited", error)


def _dropped_by(coro: Any) -> Place:
    try:
        frame = getframe(3)  # above this, the probe and the hook
    except ValueError:  # there is C code alone, as in a thread that runs no function of Python's
        frame = coro.cr_frame
        return frame.f_code, 0, frame.f_globals.get("__name__") or ""
    return frame.f_code, frame.f_lasti, frame.f_globals.get("__name__") or ""
