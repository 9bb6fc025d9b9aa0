"""A look at tasks just before the garbage collector may destroy them.

The collector closes the coroutine of a task before it calls the finaliser of the task itself, and then nobody
can tell any more where the task stood. The watchdog looks at tasks once they are a second old; younger ones
are looked at here. This happens only before a full collection: the others come too often.
"""

from __future__ import annotations

import contextlib
from itertools import islice

from loopwatch._internals.await_chain import stand_of
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.tasks import LoopTasks
from loopwatch._store.unread import Unread

NEWEST = 200
"""The newest tasks of each loop, which are considered."""
LOOKS = 25
"""How many of those are looked at: some 15 us each, in the thread that collects."""


class LastLook:
    """Notes where the newest tasks stand, if nobody has looked at them yet."""

    def __init__(self, states: LoopStates, unread: Unread) -> None:
        self._states = states
        self._unread = unread

    def take(self) -> None:
        """Look. Any thread, in the middle of whatever it does."""
        for state in self._states.all():
            with contextlib.suppress(RuntimeError):  # its thread adds or removes tasks meanwhile
                self._look_at_newest(state.tasks)

    def _look_at_newest(self, tasks: LoopTasks) -> None:
        newest = islice(reversed(tasks.live.values()), NEWEST)
        for record in islice((record for record in newest if record.stood is None), LOOKS):
            record.stood = self._unread.read(stand_of, record())
