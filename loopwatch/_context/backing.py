"""What functions that also work without an agent rely on: the agent's parts if there is one, else others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from loopwatch._journal import Journal
from loopwatch._records import DrainReport
from loopwatch._store.outbox import Outbox

from .reader import ContextReader

if TYPE_CHECKING:
    from loopwatch._store.loop_state import LoopState


class Backing(NamedTuple):
    """The parts of an agent that such functions use."""

    journal: Journal
    contexts: ContextReader
    state_of: Callable[[asyncio.AbstractEventLoop], LoopState | None]
    """Returns the agent's state of a loop, with the records of its tasks; None if it does not watch it."""
    drains: deque[DrainReport]
    """Where reports go, for the agent to show..."""
    outbox: Outbox
    """...and to export. Closed without an agent."""
    flush: Callable[[], object]
    """Writes pending log lines and exports what is known, as far as possible in a moment."""


def _no_state(_: asyncio.AbstractEventLoop) -> None:
    """Without an agent, no loop is watched."""


def _nothing_to_flush() -> None:
    """Without an agent, log lines are written at once."""


_of_agent: Backing | None = None
_own_journal = Journal()


def backing() -> Backing:
    """Return the parts to use now."""
    if _of_agent is not None:
        return _of_agent
    # A new reader: refreshing an old one, as a watchdog does, would run ``show`` functions in this thread.
    return Backing(_own_journal, ContextReader(_own_journal), _no_state, deque(), Outbox(), _nothing_to_flush)


def lean_on(agents: Backing | None) -> None:
    """Use an agent's parts from now on; None: parts without an agent."""
    global _of_agent
    _of_agent = agents
