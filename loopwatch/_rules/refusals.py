"""LW302 and LW303: pools that callers gave up waiting for, or were turned away from."""

from __future__ import annotations

from collections.abc import Iterator

from .counts import counted, known
from .libraries import Waits, library_of
from .roots import blocked_by
from .rule import Symptom, View
from .shortage import LONG, callers, is_full, named, p99_of, short_pools
from .words import period, times


def timeouts(view: View) -> Iterator[Symptom]:
    short = {(one.pool.kind, one.pool.label) for one in short_pools(view)}
    ended = Waits(view)
    for pool, count in counted(view, "pool_timeouts", "database_timeouts"):
        library = library_of(pool.kind)
        waits = ended.of(pool)
        p99 = waits.quantile(0.99) if waits is not None else None
        is_short = is_full(pool) or (pool.kind, pool.label) in short
        yield Symptom(
            rule="LW302",
            key=(pool.kind, pool.label),
            severity="critical",
            summary=f"{callers(count)} of {named(pool)} gave up waiting for a connection "
            f"{period(view.seconds)}"
            f"{f'; their waits: {p99_of(p99)}' if p99 else ''}",
            evidence=known(
                timeouts=count,
                waits=None if waits is None else waits.count,
                wait_p99_s=p99,
                used=pool.used,
                max=pool.max,
                pending=pool.pending,
            ),
            fix=f"raise {library.limit}{f' above {pool.max}' if pool.max and pool.instances == 1 else ''}"
            f"{f' ({library.written})' if library.written else ''}, bound the jobs that want a connection at "
            "once, or hold each for less long; a longer timeout only makes them wait longer",
            count=count,
            because="LW301" if is_short else blocked_by(view, max(p99 or 0.0, LONG)),
        )


def rejections(view: View) -> Iterator[Symptom]:
    for pool, count in counted(view, "pool_rejected"):
        library = library_of(pool.kind)
        limit = f"raise {library.limit}{f' above {pool.max}' if pool.max and pool.instances == 1 else ''}"
        yield Symptom(
            rule="LW303",
            key=(pool.kind, pool.label),
            severity="critical",
            summary=f"{named(pool)} turned callers away {times(count)} {period(view.seconds)}, since all "
            f"of its {pool.max or ''} connections were in use",
            evidence=known(rejected=count, used=pool.used, max=pool.max, pending=pool.pending),
            fix=f"{limit} ({library.written}), bound the jobs that want a connection at once"
            f"{f', or {library.turns_away}' if library.turns_away else ''}",
            count=count,
        )
