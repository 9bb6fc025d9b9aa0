"""Whether a pool or an executor is short: full, while callers have waited for long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loopwatch._agent_records import Borrower, Pool
from loopwatch._measures import Distribution
from loopwatch.facts import BUCKETS, NOBODY, OTHER

from .libraries import JOB_RUNNERS, Waits, library_of
from .rule import STAYS, Symptom, View
from .stand import stands
from .words import place, span

EXECUTORS = frozenset(("thread_pool", "process_pool", "anyio"))
"""Kinds that give out workers, not connections."""
HTTP2 = frozenset(("httpcore", "httpcore2"))
"""Kinds that can have many requests on one connection."""
LONG = 1.0
"""Seconds of a wait from which a pool counts as short, rather than full for a moment."""
SLOW = 0.25
"""Seconds of a wait that a user notices: a bound of the histogram."""
MANY = 10
"""Slow waits in the window that are more than one burst..."""
SHARE = 0.05
"""...and their share of all waits."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """What shows that a pool is short."""

    pool: Pool
    used: int
    pending: int
    wait_p99: float | None
    """Seconds, over the waits that ended in the window."""
    slow: int
    """Waits that ended in the window and took longer than SLOW."""
    often: bool
    """Whether many of all waits were slow."""

    @property
    def oldest_wait(self) -> float:
        """Seconds for which the first in the queue has waited."""
        return self.pool.oldest_wait or 0.0

    @property
    def evidence(self) -> dict[str, float]:
        """The known numbers."""
        numbers = {
            "used": self.used,
            "connecting": self.pool.connecting or None,
            "max": self.pool.max,
            "pending": self.pending,
            "oldest_wait_s": self.pool.oldest_wait,
            "wait_p99_s": self.wait_p99,
            "slow_waits": self.slow,
            "oldest_held_s": self.longest.held if self.longest else None,
        }
        return {name: number for name, number in numbers.items() if number is not None}

    @property
    def waited(self) -> str:
        """How long callers wait, in words: ``p99 4.2 s``, or the oldest current wait if that is longer."""
        if self.wait_p99 is not None and self.wait_p99 >= max(SLOW, self.oldest_wait):
            return p99_of(self.wait_p99)
        if self.pool.oldest_wait is None:
            return "for how long is not known"
        return f"the oldest for {span(self.oldest_wait)}"

    @property
    def lately(self) -> str:
        """How many callers have waited for long, in words."""
        p99 = f", {p99_of(self.wait_p99)}" if self.wait_p99 is not None else ""
        return f"{callers(self.slow)} waited for more than {span(SLOW)} in the last minute{p99}"

    def now_and_then(
        self, rule: str, summary: str, fix: str, because: str | None, *, faint: bool = True
    ) -> Symptom:
        """Make a symptom that keeps a finding, but begins none if it is ``faint``."""
        return Symptom(
            rule=rule,
            key=(self.pool.kind, self.pool.label),
            severity="warning",
            faint=faint,
            summary=summary,
            evidence=self.evidence,
            fix=fix,
            count=max(1, self.slow),
            because=because,
        )

    @property
    def longest(self) -> Borrower | None:
        """Who has held something of the pool for longest."""
        return self.pool.borrowers[0] if self.pool.borrowers else None


def shortages(view: View) -> Iterator[Shortage]:
    """Yield the pools that callers wait for, and have waited for too long, even if not all is in use.

    Leaves out the pools beyond the label limit, whose numbers are added up over different pools.
    """
    ended = Waits(view)
    for pool in view.now.pools:
        if pool.kind not in JOB_RUNNERS and pool.label != OTHER and pool.pending and pool.used is not None:
            waits = ended.of(pool)
            slow = _slower(waits, SLOW)
            often = _often(slow, waits)
            # Where a library's waits are not read, the length of the queue has to do.
            unknown = pool.oldest_wait is None and pool.pending >= pool.used
            if (pool.oldest_wait or 0.0) >= LONG or often or unknown:
                p99 = None if waits is None else waits.quantile(0.99)
                yield Shortage(pool, pool.used, pool.pending, p99, slow, often)


def short_pools(view: View) -> Iterator[Shortage]:
    """Return the shortages of connection pools."""
    return (one for one in shortages(view) if one.pool.kind not in EXECUTORS)


def slow_lately(view: View) -> Iterator[Shortage]:
    """Yield the pools and executors that callers had to wait for too long in the window.

    Whether or not a caller waits right now, and with bounds a little below those of a shortage, so that a
    pool that is full now and then is reported once.
    """
    ended = Waits(view)
    for pool in view.now.pools:
        waits = ended.of(pool)
        slow = _slower(waits, SLOW)
        if waits is None or slow < STAYS * max(MANY, SHARE * waits.count) or pool.used is None:
            continue
        if pool.kind not in JOB_RUNNERS and pool.label != OTHER:
            p99, often = waits.quantile(0.99), _often(slow, waits)
            yield Shortage(pool, pool.used, pool.pending or 0, p99, slow, often)


def is_full(pool: Pool) -> bool:
    """Whether a whole pool is in use, or about to be."""
    return pool.max is not None and pool.used is not None and pool.used + (pool.connecting or 0) >= pool.max


def opens_none(pool: Pool) -> bool:
    """Whether no connection of a pool is open, though some are being opened: its server is the bottleneck.

    A connection that a cancelled request has left half open does not count: it has a borrower, who is gone.
    """
    return not pool.used and not pool.idle and bool(pool.connecting) and not pool.borrowers


def see_the_server(pool: Pool) -> str:
    """Write what to do when no connection opens."""
    return (
        "find out why no connection opens: whether the server is up, can be reached and lets the program in. "
        f"Raising {library_of(pool.kind).limit} does not help"
    )


def named(pool: Pool) -> str:
    """Name a pool: ``the httpx pool `app.clients:42```."""
    name = library_of(pool.kind).name
    if pool.label in (NOBODY, OTHER):
        return f"a {name} pool that is {'not known by name' if pool.label == NOBODY else 'one of very many'}"
    return f"the {name} pool `{pool.label}`"


def p99_of(waits: float) -> str:
    """Write a 99th percentile of waits, which a histogram knows only up to its highest bound."""
    return f"p99 {'over ' if waits >= BUCKETS[-1] else ''}{span(waits)}"


def callers(count: int) -> str:
    """Write how many callers wait."""
    return "1 caller" if count == 1 else f"{count} callers"


def holder(borrower: Borrower) -> str:
    """Write who holds something of a pool, for how long, and where the task stands."""
    if borrower.coroutine is None:
        return f"code outside of tasks, for {span(borrower.held)}"
    who = f"`{borrower.coroutine}`"
    if borrower.gone:
        made = f", created by {place(borrower.site)}" if borrower.site else ""
        return f"{who}{made}, for {span(borrower.held)}; that task has ended"
    stand = (
        f", which stands {stands(borrower.await_stack, borrower.waiting_on)}" if borrower.await_stack else ""
    )
    return f"{who}, for {span(borrower.held)}{stand}"


def _often(slow: int, waits: Distribution | None) -> bool:
    return waits is not None and slow >= max(MANY, SHARE * waits.count)


def _slower(waits: Distribution | None, bound: float) -> int:
    if waits is None:
        return 0
    above = (
        count
        for upper, count in zip((*waits.bounds, float("inf")), waits.counts, strict=True)
        if upper > bound
    )
    return sum(above)
