"""LW306: executors and thread limiters whose work waits for a worker."""

from __future__ import annotations

from collections.abc import Iterator

from loopwatch._agent_records import Cause

from .roots import MOST, OF_STALLS, QUEUED, blocked_by, starved_for
from .rule import STAYS, Rule, Symptom, View
from .shortage import EXECUTORS as KINDS
from .shortage import LONG, Shortage, callers, holder, is_full, shortages, slow_lately

OF_PROCESSES: tuple[Cause, ...] = ("starved", "suspended")
OF_THREADS: tuple[Cause, ...] = (*OF_PROCESSES, "cpu", "gil")
"""Causes that stall a loop and slow down workers as well: no CPU or, for threads, no GIL."""
SLOW_TO_START = frozenset(("process_pool",))
"""Kinds for which many slow waits prove a shortage only if a wait is still going on: slow waits may include
the start of a worker. Threads start quickly."""
DEFAULT = ("thread_pool", "default")
"""Kind and label of the executor that a loop creates for itself."""
CRITICAL = 5.0
"""Seconds of a DNS look-up after which clients give up."""


def _starved(view: View) -> Iterator[Symptom]:
    told = set()
    for short in shortages(view):
        pool = short.pool
        if pool.kind not in KINDS or not is_full(pool):
            continue
        is_default = (pool.kind, pool.label) == DEFAULT
        told.add((pool.kind, pool.label))
        yield Symptom(
            rule="LW306",
            key=(pool.kind, pool.label),
            severity="critical" if is_default and short.oldest_wait >= CRITICAL else "warning",
            holds="critical" if is_default and short.oldest_wait >= STAYS * CRITICAL else "warning",
            summary=f"all {pool.max} {_workers(short)} are at work and {short.pending} calls wait, "
            f"{short.waited}"
            f"{', DNS look-ups of all clients among or behind them' if is_default else ''}"
            f"{f'; the longest at work is for {holder(short.longest)}' if short.longest else ''}",
            evidence=short.evidence,
            fix=_remedy(short, is_default),
            count=max(1, short.slow),
            because=_root(view, short),
        )
    for short in slow_lately(view):
        pool = short.pool
        if pool.kind in KINDS and pool.max is not None and (pool.kind, pool.label) not in told:
            yield short.now_and_then(
                "LW306",
                f"all {pool.max} {_workers(short)} were at work now and then: {short.lately}; "
                f"right now {short.used} are, and {callers(short.pending)} wait",
                _remedy(short, (pool.kind, pool.label) == DEFAULT),
                _root(view, short),
                faint=not short.often or pool.kind in SLOW_TO_START,
            )


def _root(view: View, short: Shortage) -> str | None:
    """Return the rule that names why workers are slow, if a loop of this process suffers from the same."""
    computes = short.pool.kind == "process_pool"
    found = blocked_by(view, max(short.oldest_wait, short.wait_p99 or 0.0, LONG))
    if found in map(OF_STALLS.get, OF_PROCESSES if computes else OF_THREADS):
        return found
    # Computing takes longer in proportion; a thread that mostly waits does so only with hardly any CPU.
    return OF_STALLS["starved"] if starved_for(view, QUEUED if computes else MOST) else None


def _workers(short: Shortage) -> str:
    pool = short.pool
    if pool.kind == "anyio":
        return f"threads of the anyio limiter `{pool.label}`"
    workers = "threads" if pool.kind == "thread_pool" else "processes"
    return f"{workers} of the executor `{pool.label}`"


def _remedy(short: Shortage, is_default: bool) -> str:
    pool = short.pool
    if is_default:
        return (
            "run what takes long in an executor of its own: loop.run_in_executor(ThreadPoolExecutor(), f), "
            f"or give the loop more than {pool.max} threads: "
            "loop.set_default_executor(ThreadPoolExecutor(max_workers=...))"
        )
    if pool.kind == "anyio":
        return (
            f"raise total_tokens above {pool.max} "
            "(anyio.to_thread.current_default_thread_limiter().total_tokens = ...), or make the endpoints "
            "that take long `async def`"
        )
    if pool.kind == "process_pool":
        return (
            f"raise max_workers above {pool.max} if there are CPUs for more, or bound the work that is "
            f"submitted{_waiting(short)}"
        )
    return f"raise max_workers above {pool.max}, or bound the work{_waiting(short)}"


def _waiting(short: Shortage) -> str:
    return f": {short.pending} wait, {short.waited}" if short.pending else ""


EXECUTORS: tuple[Rule, ...] = (Rule("LW306", "Executor starved", "critical", _starved),)
