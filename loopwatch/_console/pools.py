"""Commands about connection pools and executors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopwatch._records import Pool, PoolUser
from loopwatch._words import number, own_frame, place, span

from .command import Command, Question, WrongUseError
from .options import number_of, options
from .parts import field, heading, more, whose
from .tables import Table, columns


def _pools(question: Question) -> Iterator[str]:
    words = options(question.words)
    everything = question.source.pools()
    found = sorted((pool for pool in everything if words.keeps(pool.kind, pool.label)), key=_worst_first)
    if not found:
        yield "No pool is like that." if everything else "No pool or executor has been used yet."
        return
    counts = ("=used", "=max", "=~idle", "=waiting", "=longest", "=~acquires", "=~p99", "=timeouts")
    table = Table(columns("=#", "kind", "<pool", *counts))
    for pool in found[: words.limit]:
        table.add(
            str(question.desk.numbers.of("pool", (pool.kind, pool.label))),
            pool.kind,
            pool.label,
            number(pool.used),
            number(pool.max),
            number(pool.idle),
            number(pool.pending),
            span(pool.oldest_wait) if pool.oldest_wait else "-",
            number(pool.wait_count),
            span(pool.wait_p99),
            number(pool.timeouts),
        )
    yield from table.lines(question.width)
    yield from more(words.limit, len(found), "pools")


def _pool(question: Question) -> Iterator[str]:
    pool, width = _asked_for(question), question.width
    shown = question.desk.numbers.of("pool", (pool.kind, pool.label))
    yield heading(f"pool {shown}: {pool.kind} {pool.label}", width)
    limit = "no limit known" if pool.max is None else f"of {number(pool.max)}"
    opening = f", {number(pool.connecting)} being opened" if pool.connecting else ""
    yield from field("in use", f"{number(pool.used)} {limit}, {number(pool.idle)} idle{opening}", width)
    longest = f", the longest for {span(pool.oldest_wait)}" if pool.pending and pool.oldest_wait else ""
    yield from field("waiting", f"{number(pool.pending)}{longest}", width)
    yield from field("acquires", _acquires(pool), width)
    yield from field("pools", f"{number(pool.instances)} live, {number(pool.created)} created so far", width)
    yield from _people("who has them, longest first", pool.borrowers, width)
    yield from _people("who waits, longest first", pool.waiters, width)


def _acquires(pool: Pool) -> str | None:
    if pool.wait_count is None:
        return None
    mean = pool.wait_sum / pool.wait_count if pool.wait_sum is not None and pool.wait_count else None
    waited = f"waited {span(mean)} on average, p99 {span(pool.wait_p99)}"
    failed = (("timeouts", pool.timeouts), ("rejected", pool.rejected), ("cancelled", pool.cancelled))
    said = "".join(f", {number(count)} {what}" for what, count in failed if count)
    return f"{number(pool.wait_count)}, {waited}{said}"


def _people(title: str, people: Sequence[PoolUser] | None, width: int) -> Iterator[str]:
    if not people:
        return
    yield f"  {title}"
    table = Table(columns("=for", "<task", "<coroutine", ">waits for", "<stands at", ">context"))
    for one in people:
        stands = None if one.site is None else own_frame(one.await_stack, one.site)
        gone = getattr(one, "gone", False)
        table.add(
            span(getattr(one, "held", None) if hasattr(one, "held") else getattr(one, "waited", None)),
            one.task_name or "-",
            one.coroutine or "(outside of tasks)",
            "task has ended" if gone else one.waiting_on or "",
            place(stands) if stands else "",
            whose(one),
        )
    for line in table.lines(width - 2):
        yield f"  {line}"


def _asked_for(question: Question) -> Pool:
    """Return the pool of that number; without one, the only one, or the one in most trouble."""
    if len(question.words) > 1:
        raise WrongUseError("One at a time: pool N.")
    pools = sorted(question.source.pools(), key=_worst_first)
    if not pools:
        raise WrongUseError("No pool or executor has been used yet.")
    if not question.words:
        return pools[0]
    key = question.desk.numbers.key("pool", number_of(question.words[0], "pool"))
    for pool in pools:
        if (pool.kind, pool.label) == key:
            return pool
    raise WrongUseError(f"There is no pool {question.words[0]}. `pools` lists them.")


def _worst_first(pool: Pool) -> tuple[float, ...]:
    """Order by who waits now, then by what went wrong, then by use."""
    return (
        -(pool.oldest_wait or 0.0),
        -(pool.pending or 0),
        -((pool.timeouts or 0) + (pool.rejected or 0)),
        -(pool.wait_sum or 0.0),
        -(pool.used or 0),
    )


COMMANDS = (
    Command("pools", "[TEXT]", "connection pools and executors, the worst first", _pools),
    Command("pool", "[N]", "one pool: who has its connections, who waits", _pool, "Without N, the worst."),
)
