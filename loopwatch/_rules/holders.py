"""LW304 and LW305: connections that do not come back, since they are held for long, or by nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loopwatch._agent_records import Borrower, Pool

from .counts import known
from .roots import blocked_by
from .rule import WINDOW, Symptom, View
from .shortage import EXECUTORS, HTTP2, holder, named, short_pools

FORGOTTEN = 10.0
"""Seconds after which a connection that an ended task did not return is reported, if others wait for one."""


def held_too_long(view: View) -> Iterator[Symptom]:
    """Name connections that tasks have held for longer than ``hold_threshold``."""
    for pool, coroutine, held in _held(
        view, (one for one in _borrowed(view) if not one[1].gone and one[1].overdue)
    ):
        longest = held[0]
        is_stuck = (longest.task_name, longest.coroutine) in deadlocked(view)
        yield Symptom(
            rule="LW304",
            key=(pool.kind, pool.label, coroutine),
            severity="warning",
            summary=f"{_connections(len(held))} of {named(pool)} held for too long, longest by "
            f"{holder(longest)}",
            evidence=known(connections=len(held), held_s=longest.held, pending=pool.pending, max=pool.max),
            fix="give the connection back before waiting for something else: leave its `async with` block "
            "first. If it is meant to be held, install(hold_threshold=...) says for how long it may",
            count=len(held),
            because="LW205" if is_stuck else blocked_by(view, min(longest.held, WINDOW)),
        )


def held_by_nobody(view: View) -> Iterator[Symptom]:
    """Name connections that tasks had not returned when they ended."""
    short = {(one.pool.kind, one.pool.label) for one in short_pools(view)}
    missed = (
        (pool, one)
        for pool, one in _borrowed(view)
        if one.gone and (one.overdue or (one.held >= FORGOTTEN and (pool.kind, pool.label) in short))
    )
    for pool, coroutine, held in _held(view, missed):
        longest = held[0]
        yield Symptom(
            rule="LW305",
            key=(pool.kind, pool.label, coroutine),
            severity="critical" if (pool.kind, pool.label) in short else "warning",
            summary=f"{_connections(len(held))} of {named(pool)} held by nobody who could give them back: "
            f"acquired by {holder(longest)}",
            evidence=known(connections=len(held), held_s=longest.held, pending=pool.pending, max=pool.max),
            fix=_give_back(pool),
            count=len(held),
        )


def _give_back(pool: Pool) -> str:
    if pool.kind in HTTP2:
        return (
            "close every response: `async with client.stream(...)`, or `await response.aclose()` in a "
            "finally; what a cancelled request has left behind comes back only with a new client"
        )
    return "acquire with `async with`, which gives back also when the task fails or is cancelled"


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"


def _borrowed(view: View) -> Iterator[tuple[Pool, Borrower]]:
    return (
        (pool, one) for pool in view.now.pools if pool.kind not in EXECUTORS for one in pool.borrowers or ()
    )


def _held(
    view: View, borrowed: Iterable[tuple[Pool, Borrower]]
) -> Iterator[tuple[Pool, str, Sequence[Borrower]]]:
    """Group borrowers by pool and coroutine, longest first."""
    groups: dict[tuple[str, str, str], tuple[Pool, list[Borrower]]] = {}
    for pool, one in borrowed:
        key = (pool.kind, pool.label, one.coroutine or "code outside of tasks")
        groups.setdefault(key, (pool, []))[1].append(one)
    for (_, _, coroutine), (pool, held) in groups.items():
        yield pool, coroutine, held


def deadlocked(view: View) -> frozenset[tuple[str | None, str | None]]:
    """Return the tasks that are known to be in a deadlock: their names and coroutines."""
    found = ((one.task_name, one.coroutine) for one in view.now.lost if one.leak == "deadlock")
    return frozenset((name, coroutine) for name, coroutine in found if name is not None)
