"""LW302 and LW303: pools whose callers gave up waiting, or were turned away."""

from __future__ import annotations

from collections.abc import Iterator

from loopwatch._agent_records import Pool

from .counts import counted, known
from .libraries import Waits, higher, library_of
from .roots import blocked_by
from .rule import Symptom, View
from .shortage import LONG, callers, is_full, named, opens_none, p99_of, see_the_server, short_pools
from .words import period, times


def timeouts(view: View) -> Iterator[Symptom]:
    """Name pools whose callers waited until the pool's timeout."""
    short = {(one.pool.kind, one.pool.label) for one in short_pools(view)}
    ended = Waits(view)
    for pool, count in counted(view, "pool_timeouts", "database_timeouts"):
        waits = ended.of(pool)
        p99 = waits.quantile(0.99) if waits is not None else None
        is_short = is_full(pool) or (pool.kind, pool.label) in short
        yield Symptom(
            rule="LW302",
            key=(pool.kind, pool.label),
            severity="critical",
            summary=f"{callers(count)} of {named(pool)} gave up waiting for a connection "
            f"{period(view.seconds)}{f'; of all waits, {p99_of(p99)}' if p99 else ''}",
            evidence=known(
                timeouts=count,
                waits=None if waits is None else waits.count,
                wait_p99_s=p99,
                used=pool.used,
                connecting=pool.connecting or None,
                max=pool.max,
                pending=pool.pending,
            ),
            fix=see_the_server(pool) if opens_none(pool) else _shorter_waits(pool),
            count=count,
            because="LW301" if is_short else blocked_by(view, max(p99 or 0.0, LONG)),
        )


def _shorter_waits(pool: Pool) -> str:
    """Write how to get more connections, or get each of them sooner."""
    # Once nobody waits, it is unknown which of aiohttp's two limits was reached.
    either = "limit or limit_per_host" if pool.kind == "aiohttp" and not is_full(pool) else None
    return (
        f"{higher(pool, either)}, bound the jobs that want a connection at once, or hold each for less long; "
        "a longer timeout only makes them wait longer"
    )


def rejections(view: View) -> Iterator[Symptom]:
    """Name pools whose callers were refused without waiting."""
    for pool, count in counted(view, "pool_rejected"):
        library = library_of(pool.kind)
        yield Symptom(
            rule="LW303",
            key=(pool.kind, pool.label),
            severity="critical",
            summary=f"{named(pool)} turned callers away {times(count)} {period(view.seconds)}, since all "
            f"of its {f'{pool.max} ' if pool.max else ''}connections were in use",
            evidence=known(rejected=count, used=pool.used, max=pool.max, pending=pool.pending),
            fix=f"{higher(pool)}, bound the jobs that want a connection at once"
            f"{f', or {library.turns_away}' if library.turns_away else ''}",
            count=count,
        )
