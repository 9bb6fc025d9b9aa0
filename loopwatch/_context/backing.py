"""What functions that also work without an agent rely on: the agent's parts if there is one, else others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from loopwatch._journal import Journal
from loopwatch._records import DrainReport
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._store.outbox import Outbox

from .reader import ContextReader


@dataclass(frozen=True, slots=True)
class Backing:
    """The parts of an agent that such functions use."""

    journal: Journal
    contexts: ContextReader
    states: LoopStates
    """Holds the records of tasks; empty without an agent."""
    drains: deque[DrainReport]
    """Where reports go, for the agent to show..."""
    outbox: Outbox
    """...and to export. Closed without an agent."""
    flush: Callable[[], object]
    """Writes pending log lines and exports what is known, as far as possible in a moment."""

    def state_of(self, loop: asyncio.AbstractEventLoop) -> LoopState | None:
        """Return the agent's state of ``loop``; None if it does not watch it."""
        for state in self.states.all():
            if state.loop is not None and state.loop() is loop:
                return state
        return None


def _nothing_to_flush() -> None:
    """Without an agent, log lines are written at once."""


_of_agent: Backing | None = None
_own_journal = Journal()
_no_states = LoopStates()


def backing() -> Backing:
    """Return the parts to use now."""
    if _of_agent is not None:
        return _of_agent
    # A new reader: refreshing an old one, as a watchdog does, would run ``show`` functions in this thread.
    return Backing(
        _own_journal, ContextReader(_own_journal), _no_states, deque(), Outbox(), _nothing_to_flush
    )


def lean_on(agents: Backing | None) -> None:
    """Use an agent's parts from now on; None: parts without an agent."""
    global _of_agent
    _of_agent = agents
