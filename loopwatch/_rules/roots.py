"""Which rule names the cause of another rule's symptom: if a loop does not serve, the rule of its stalls."""

from __future__ import annotations

from collections.abc import Mapping

from loopwatch._agent_records import Cause

from .rule import View

OF_STALLS: Mapping[Cause, str] = {
    "cpu": "LW101",
    "blocking": "LW102",
    "flood": "LW104",
    "gc": "LW105",
    "gil": "LW106",
    "starved": "LW107",
    "suspended": "LW108",
    "unknown": "LW109",
}
"""The rule for stalls, by their cause."""

MOST = 0.5
"""Share of a period for which a loop must have stood still to be the cause of what went wrong in it."""

QUEUED = 0.1
"""Share of the time without a CPU for a loop's thread from which on the machine counts as too busy."""
YOUNG = 30.0
"""Seconds that the share is taken of while the process is younger than that."""


def starved_for(view: View, share: float = QUEUED) -> dict[str, float]:
    """Return the seconds of the window for which loops were ready without a CPU, by loop, where too many."""
    least = share * max(view.seconds, YOUNG)
    queued = view.increases("runqueue_time").items()
    return {name: seconds for (name,), seconds in queued if seconds >= least}


def stalled_for(view: View, seconds: float, loop_name: str | None = None) -> dict[Cause, float]:
    """Return the seconds of the last ``seconds`` for which a loop stood still, by cause.

    For the named loop, else for the one that stood still longest.
    """
    since = view.now.taken_at - seconds
    by_loop: dict[str, dict[Cause, float]] = {}
    for stall in view.now.stalls:
        within = stall.started_at + stall.duration - max(stall.started_at, since)
        if within > 0 and loop_name in (None, stall.loop_name):
            causes = by_loop.setdefault(stall.loop_name, {})
            causes[stall.cause] = causes.get(stall.cause, 0.0) + within
    return max(by_loop.values(), key=lambda causes: sum(causes.values()), default={})


def blocked_by(view: View, seconds: float, loop_name: str | None = None) -> str | None:
    """Return the rule of the stalls that took most of the last ``seconds``: they explain such a wait.

    None if the loop served for most of the time: then there is another reason.
    """
    stalled = stalled_for(view, seconds, loop_name)
    if seconds <= 0 or sum(stalled.values()) < MOST * seconds:
        return None
    return OF_STALLS[max(stalled, key=lambda cause: stalled[cause])]
