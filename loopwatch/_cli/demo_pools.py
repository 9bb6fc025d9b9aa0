"""Connection pools and executors as the agent shows them on a terminal: how full, who holds, who waits."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from loopwatch._agent_records import Borrower, Pool
from loopwatch._words import own_frame, place, span

from .demo_lost import whose
from .demo_text import table

BORROWERS_SHOWN = 3
LONG = 0.1
"""Seconds of a wait from which a pool is short of connections, and not just between two of them."""


def short(pool: Pool) -> bool:
    """Whether a whole pool is in use, and callers have waited for it for a while."""
    full = pool.max is not None and pool.used is not None and pool.used >= pool.max
    return full and bool(pool.pending) and (pool.oldest_wait or 0.0) >= LONG


def headline(pool: Pool) -> Text:
    """Return in one line how full a pool is, and how many callers wait."""
    line = Text(f"{pool.kind} pool ")
    line.append(pool.label, "bold")
    line.append(": ")
    line.append(f"{pool.used} of {pool.max} used, {pool.pending} wait", "red")
    line.append(f", the oldest for {span(pool.oldest_wait)}")
    return line


def details(pool: Pool) -> Text:
    """Show who has held connections of a pool for longest."""
    lines = Text()
    for borrower in (pool.borrowers or ())[:BORROWERS_SHOWN]:
        lines.append(f"held for {span(borrower.held)} by {_named(borrower)}\n", "dim")
    lines.rstrip()
    return lines


def _named(borrower: Borrower) -> str:
    """Name the holder of a connection: the task, for whom it works, and where it stands."""
    stand = None if borrower.site is None else own_frame(borrower.await_stack, borrower.site)
    stands = f", stands at {place(stand)}" if stand else ""
    gone = ", which has ended" if borrower.gone else ""
    task = [f"task {borrower.task_name}"] if borrower.task_name else []
    named = [*task, borrower.coroutine or "code outside of tasks", *whose(borrower)]
    return ", ".join(named) + gone + stands


def pools_table(pools: Iterable[Pool]) -> Table:
    """Show each pool that was used: pools with failed waits first, then by the time waited."""
    drawn = table("pool", "kind", "=used", "=max", "=waiting", "=acquires", "=wait p99", "=timeouts")
    used = [pool for pool in pools if pool.wait_count]
    for pool in sorted(used, key=lambda pool: (-(pool.timeouts or 0), -(pool.wait_sum or 0.0))):
        drawn.add_row(
            Text(pool.label, "bold"),
            pool.kind,
            *(_number(number) for number in (pool.used, pool.max, pool.pending, pool.wait_count)),
            span(pool.wait_p99),
            Text(_number(pool.timeouts), "red" if pool.timeouts else ""),
        )
    return drawn


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)
