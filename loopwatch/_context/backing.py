"""What those functions lean on that work without an agent: its parts while there is one, else their own."""

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
    """The parts of an agent that are used so."""

    journal: Journal
    contexts: ContextReader
    states: LoopStates
    """Where the records of tasks are; none without an agent."""
    drains: deque[DrainReport]
    """Where reports go, for the agent to show..."""
    outbox: Outbox
    """...and to export. Closed without an agent."""
    flush: Callable[[], object]
    """Has what was said written, and what is known exported, as far as that goes in a moment."""

    def state_of(self, loop: asyncio.AbstractEventLoop) -> LoopState | None:
        """Return what the agent keeps of ``loop``, if it watches it."""
        for state in self.states.all():
            if state.loop is not None and state.loop() is loop:
                return state
        return None


def _nothing_to_flush() -> None:
    """Without an agent log lines are written at once."""


_of_agent: Backing | None = None
_own_journal = Journal()
_no_states = LoopStates()


def backing() -> Backing:
    """Return the parts to use now."""
    if _of_agent is not None:
        return _of_agent
    # A new reader: to refresh an old one, as a watchdog does, would run ``show`` functions in this thread.
    return Backing(
        _own_journal, ContextReader(_own_journal), _no_states, deque(), Outbox(), _nothing_to_flush
    )


def lean_on(agents: Backing | None) -> None:
    """Use an agent's parts from now on; None: parts of their own."""
    global _of_agent
    _of_agent = agents
