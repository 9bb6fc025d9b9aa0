"""Commands about connection pools and executors."""

from __future__ import annotations

from collections.abc import Iterator

from loopwatch._agent_records import Pool
from loopwatch._words import number, span

from .command import Command, Question, WrongUseError
from .options import number_of, options
from .parts import field, heading, more, people_of, titled, use_of
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
    yield from use_of(pool, width)
    yield from field("acquires", _acquires(pool), width)
    yield from field("pools", f"{number(pool.instances)} live, {number(pool.created)} created so far", width)
    for title, people in people_of(pool):
        yield from titled(title, people, width)


def _acquires(pool: Pool) -> str | None:
    if pool.wait_count is None:
        return None
    mean = pool.wait_sum / pool.wait_count if pool.wait_sum is not None and pool.wait_count else None
    waited = f"waited {span(mean)} on average, p99 {span(pool.wait_p99)}"
    failed = (("timeouts", pool.timeouts), ("rejected", pool.rejected), ("cancelled", pool.cancelled))
    said = "".join(f", {number(count)} {what}" for what, count in failed if count)
    return f"{number(pool.wait_count)}, {waited}{said}"


def _asked_for(question: Question) -> Pool:
    """Return the pool with the given number; without a number, the only one, or the one in most trouble."""
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
    """Sort key: current waiters first, then failures, then use."""
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
