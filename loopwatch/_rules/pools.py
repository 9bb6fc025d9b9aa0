"""LW3xx: connection pools that are short, turn callers away, or get connections back too late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopwatch._agent_records import Borrower, Pool

from .clients import clients
from .holders import deadlocked, held_by_nobody, held_too_long
from .libraries import higher, library_of
from .refusals import rejections, timeouts
from .roots import blocked_by
from .rule import STAYS, Rule, Symptom, View
from .shortage import (
    EXECUTORS,
    HTTP2,
    LONG,
    Shortage,
    callers,
    holder,
    is_full,
    named,
    opens_none,
    see_the_server,
    short_pools,
    slow_lately,
)

IN_PART = 5.0
"""Seconds of a wait for a pool with free connections: below that, the caller may be about to get one."""
CRITICAL = 10.0
"""Seconds of a wait after which the caller's own client has given up."""


def _saturated(view: View) -> Iterator[Symptom]:
    told = set()
    for short in short_pools(view):
        pool = short.pool
        if not is_full(pool) and not _is_full_in_part(short):
            continue
        nested = _nested(pool)
        told.add((pool.kind, pool.label))
        yield Symptom(
            rule="LW301",
            key=(pool.kind, pool.label),
            severity="critical" if nested or short.oldest_wait >= CRITICAL else "warning",
            holds="critical" if short.oldest_wait >= STAYS * CRITICAL else "warning",
            summary=f"{named(pool)} {_fullness(short)} and {callers(short.pending)} wait, {short.waited}"
            f"{_of_holder(short, nested)}",
            evidence=short.evidence | ({"holders_that_wait": len(nested)} if nested else {}),
            fix=_hand_down(pool) if nested else _more(short),
            count=max(1, short.slow),
            because=None if nested else _root(view, short),
        )
    for short in slow_lately(view):
        pool = short.pool
        if pool.kind not in EXECUTORS and (pool.kind, pool.label) not in told:
            yield short.now_and_then(
                "LW301",
                f"{named(pool)} was full now and then: {short.lately}; right now {short.used} "
                f"connections are in use, and {callers(short.pending)} wait",
                _more(short),
                _root(view, short),
            )


def _is_full_in_part(short: Shortage) -> bool:
    """Whether part of a pool is full: the part of one host, or one of several pools that are added up.

    Waits that have ended are no evidence here, since they include the opening of connections.
    """
    pool = short.pool
    in_parts = pool.kind == "aiohttp" or pool.instances > 1
    return in_parts and short.oldest_wait >= IN_PART and not pool.connecting


def _fullness(short: Shortage) -> str:
    pool = short.pool
    if is_full(pool):
        together = f" ({pool.instances} pools together)" if pool.instances > 1 else ""
        opening = f" and {pool.connecting} being opened" if pool.connecting else ""
        return f"is full: {short.used} of {pool.max} connections are in use{opening}{together},"
    limit = f"{pool.max}" if pool.max is not None else "any number of"
    part = f"one of its {pool.instances} pools" if pool.instances > 1 else "the limit for one host"
    return f"has {short.used} of {limit} connections in use, yet {part} is full,"


def _of_holder(short: Shortage, nested: Sequence[Borrower]) -> str:
    if nested:
        return f"; every holder waits for a second connection of it, so none comes back: {holder(nested[0])}"
    return f"; held longest by {holder(short.longest)}" if short.longest else ""


def _more(short: Shortage) -> str:
    """Write how to get more connections, or fewer callers; or any connection at all."""
    pool = short.pool
    if opens_none(pool):
        return see_the_server(pool)
    limit = None if is_full(pool) or pool.kind != "aiohttp" else "limit_per_host"
    bound = f"bound the jobs that want a connection at once: {short.pending} wait, {short.waited}"
    return f"{higher(pool, limit)}, or {bound}"


def _hand_down(pool: Pool) -> str:
    return (
        "take one connection in each task and hand it down: who holds one must not wait for a second of the "
        f"same pool. Raising {library_of(pool.kind).limit} only puts it off"
    )


def _nested(pool: Pool) -> list[Borrower]:
    """Return the holders that wait for a second connection, if they hold them all: none will come back."""
    waiting = {(one.task_name, one.coroutine, one.await_stack) for one in pool.waiters or ()}
    borrowers = pool.borrowers or ()
    found = [
        one
        for one in borrowers
        if one.await_stack and (one.task_name, one.coroutine, one.await_stack) in waiting
    ]
    return found if len(found) == len(borrowers) and is_full(pool) else []


def _root(view: View, short: Shortage) -> str | None:
    """Return the rule that names why connections do not come back."""
    borrowers = short.pool.borrowers or ()
    most = min(short.used, len(borrowers)) / 2
    if most and sum(one.gone for one in borrowers) >= most:
        return "LW305"
    stuck = deadlocked(view)
    if most and sum((one.task_name, one.coroutine) in stuck for one in borrowers) >= most:
        return "LW205"
    blocked = blocked_by(view, max(short.oldest_wait, short.wait_p99 or 0.0, LONG))
    if blocked is not None:
        return blocked
    return "LW304" if most and sum(one.overdue for one in borrowers) >= most else None


def _streams(view: View) -> Iterator[Symptom]:
    for short in short_pools(view):
        pool = short.pool
        if pool.kind not in HTTP2 or is_full(pool) or short.oldest_wait < LONG or not _shares(pool):
            continue
        package = library_of(pool.kind).name
        limit = "" if pool.max is None else f" of {pool.max}"
        yield Symptom(
            rule="LW308",
            key=(pool.kind, pool.label),
            severity="warning",
            summary=f"{callers(short.pending)} of {named(pool)} wait, {short.waited}, though only "
            f"{short.used}{limit} connections are open: all HTTP/2 streams that the server allows on one "
            "are in use",
            evidence=short.evidence | {"streams_at_least": len(pool.borrowers or ())},
            fix="spread the requests over several clients, each with a connection of its own, or use "
            f"{package}.AsyncClient(http2=False), which opens up to max_connections; the number of streams "
            "(SETTINGS_MAX_CONCURRENT_STREAMS) is the server's to raise",
            count=max(1, short.slow),
            because=blocked_by(view, max(short.oldest_wait, LONG)),
        )


def _shares(pool: Pool) -> bool:
    """Whether more requests are under way than there are connections, as is possible only with HTTP/2.

    Waiting requests do not count; requests whose connection is being opened do, and so do connections that a
    cancelled request has left half open. An HTTP/1.1 pool that is not full keeps nobody waiting, but with a
    loop that hardly runs it may seem to.
    """
    return pool.used is not None and len(pool.borrowers or ()) > pool.used + (pool.connecting or 0)


POOLS: tuple[Rule, ...] = (
    Rule("LW301", "Pool saturated", "critical", _saturated),
    Rule("LW302", "Pool timeouts", "critical", timeouts, looks=1),
    Rule("LW303", "Pool turns callers away", "critical", rejections, looks=1),
    Rule("LW304", "Connection held too long", "warning", held_too_long),
    Rule("LW305", "Connection held by nobody", "critical", held_by_nobody),
    Rule("LW307", "Client made for each request", "warning", clients),
    Rule("LW308", "HTTP/2 streams exhausted", "warning", _streams),
)
