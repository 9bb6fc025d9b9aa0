"""Probe of coroutines that die without ever having been awaited.

The interpreter warns of them itself, with its own text and filters; before that, this only notes who dropped
the coroutine, and on whose behalf. There is no origin tracking: every coroutine would pay for it.
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
"""Dropped coroutines that may wait for the watchdog."""


Dropped = tuple[str, Place, "Values | None"]
"""A coroutine that was never awaited: its name, the frame that dropped the last reference (if there was none,
the beginning of the coroutine), and that thread's current context."""


class UnawaitedProbe:
    """Notes such coroutines, in whichever thread drops them."""

    def __init__(self, contexts: ContextReader, journal: Journal) -> None:
        self._contexts = contexts
        self._journal = journal
        self._hook = UnawaitedHook(self._note)
        self.dropped: deque[Dropped] = deque(maxlen=KEPT)

    def install(self) -> None:
        """Begin watching."""
        self._hook.install()

    def remove(self) -> None:
        """Restore the interpreter's hook."""
        self._hook.remove()

    def _note(self, coro: Any) -> None:
        try:
            self.dropped.append((coro.__qualname__, _dropped_by(coro), self._contexts.current()))
        except Exception as error:  # noqa: BLE001 - the interpreter's warning must still come
            self._journal.failure("unawaited", error)


def _dropped_by(coro: Any) -> Place:
    try:
        frame = getframe(3)  # the frames below are the probe's and the hook's
    except ValueError:  # there is only C code, as in a thread that runs no Python function
        frame = coro.cr_frame
        return frame.f_code, 0, frame.f_globals.get("__name__") or ""
    return frame.f_code, frame.f_lasti, frame.f_globals.get("__name__") or ""
