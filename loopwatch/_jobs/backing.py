"""What spawn and drain lean on: parts of the agent while one is installed, else parts of their own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal
from loopwatch._store.loop_state import LoopState, LoopStates


@dataclass(frozen=True, slots=True)
class Backing:
    """The parts of an agent that are used here."""

    journal: Journal
    contexts: ContextReader
    states: LoopStates
    """Where the records of tasks are; none without an agent."""

    def state_of(self, loop: asyncio.AbstractEventLoop) -> LoopState | None:
        """Return what the agent keeps of ``loop``, if it watches it."""
        for state in self.states.all():
            if state.loop is not None and state.loop() is loop:
                return state
        return None


_of_agent: Backing | None = None
_own_journal = Journal()
_no_states = LoopStates()


def backing() -> Backing:
    """Return the parts to use now."""
    return _of_agent or Backing(_own_journal, ContextReader(_own_journal), _no_states)


def lean_on(agents: Backing | None) -> None:
    """Use an agent's parts from now on; None: parts of our own."""
    global _of_agent
    _of_agent = agents
