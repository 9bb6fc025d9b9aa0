"""The lists: stalls, sites, tasks, pools, waits, losses, findings, drains."""

from __future__ import annotations

from collections.abc import Sequence

from loopwatch._agent_records import Finding, Lost, Pool, Stall, Waiting
from loopwatch._console.parts import whose
from loopwatch._document import Document, TaskSite
from loopwatch._records import DrainReport, Task
from loopwatch._words import ago, number, place, span

from . import details
from .listing import Column, Listing

SEVERITY = {"critical": 0, "warning": 1, "info": 2}
STYLES = {"critical": "bold red", "warning": "yellow", "info": ""}


def culprit(stall: Stall) -> str:
    """Name the function that caused a stall."""
    return stall.culprit.name if stall.culprit else "(no application code seen)"


def _stalls(document: Document) -> Sequence[Column]:
    now = document.snapshot.taken_at
    return (
        Column("=began", lambda stall: ago(stall.started_at, now), lambda stall: stall.started_at),
        Column(
            "=for",
            lambda stall: span(stall.duration) + ("+" if stall.in_progress else ""),
            lambda stall: stall.duration,
        ),
        Column("cause", lambda stall: stall.cause, lambda stall: stall.cause, falling=False),
        Column("<culprit", culprit, culprit, falling=False),
        Column(">call", lambda stall: stall.call or "", lambda stall: stall.call, falling=False),
        Column("~>loop", lambda stall: stall.loop_name, lambda stall: stall.loop_name, falling=False),
        Column("~<task", lambda stall: stall.task_name or "", lambda stall: stall.task_name, falling=False),
        Column("~>context", whose, whose, falling=False),
    )


def _sites(document: Document) -> Sequence[Column]:
    return (
        Column("<created by", lambda site: site.site.name, lambda site: site.site.name, falling=False),
        Column("~<at", lambda site: place(site.site), lambda site: place(site.site), falling=False),
        Column("=live", lambda site: number(site.live), lambda site: site.live),
        Column("=oldest", lambda site: span(site.oldest), lambda site: site.oldest),
        Column("=created", lambda site: number(site.created), lambda site: site.created),
        Column("=ok", lambda site: number(site.ok), lambda site: site.ok),
        Column("=error", lambda site: number(site.error), lambda site: site.error),
        Column("=~cancelled", lambda site: number(site.cancelled), lambda site: site.cancelled),
        Column("=~p50", lambda site: span(site.duration_p50), lambda site: site.duration_p50),
        Column("=~p99", lambda site: span(site.duration_p99), lambda site: site.duration_p99),
    )


def _tasks(document: Document) -> Sequence[Column]:
    return (
        Column("=age", lambda task: span(task.age), lambda task: task.age),
        Column("<task", lambda task: task.name or "", lambda task: task.name, falling=False),
        Column("<coroutine", lambda task: task.coroutine, lambda task: task.coroutine, falling=False),
        Column(">waits for", lambda task: task.waiting_on or "", lambda task: task.waiting_on, falling=False),
        Column("<stands at", details.stand, details.stand, falling=False),
        Column("~<created by", lambda task: task.site.name, lambda task: task.site.name, falling=False),
        Column("~>loop", lambda task: task.loop_name, lambda task: task.loop_name, falling=False),
        Column("~>context", whose, whose, falling=False),
    )


def _pools(document: Document) -> Sequence[Column]:
    return (
        Column("kind", lambda pool: pool.kind, lambda pool: pool.kind, falling=False),
        Column("<pool", lambda pool: pool.label, lambda pool: pool.label, falling=False),
        Column("=used", lambda pool: number(pool.used), lambda pool: pool.used),
        Column("=max", lambda pool: number(pool.max), lambda pool: pool.max),
        Column("=~idle", lambda pool: number(pool.idle), lambda pool: pool.idle),
        Column("=waiting", lambda pool: number(pool.pending), lambda pool: pool.pending),
        Column("=longest", lambda pool: span(pool.oldest_wait or None), lambda pool: pool.oldest_wait),
        Column("=~acquires", lambda pool: number(pool.wait_count), lambda pool: pool.wait_count),
        Column("=~p99", lambda pool: span(pool.wait_p99), lambda pool: pool.wait_p99),
        Column("=timeouts", lambda pool: number(pool.timeouts), lambda pool: pool.timeouts),
    )


def _waits(document: Document) -> Sequence[Column]:
    return (
        Column("=tasks", lambda wait: number(wait.count), lambda wait: wait.count),
        Column(">wait for", lambda wait: wait.primitive, lambda wait: wait.primitive, falling=False),
        Column("=of", lambda wait: number(wait.objects), lambda wait: wait.objects),
        Column("<in", lambda wait: wait.site.name, lambda wait: wait.site.name, falling=False),
        Column("<at", lambda wait: place(wait.site), lambda wait: place(wait.site), falling=False),
        Column(
            ">owned by",
            lambda wait: ", ".join(wait.owners),
            lambda wait: ", ".join(wait.owners),
            falling=False,
        ),
    )


def _lost(document: Document) -> Sequence[Column]:
    now = document.snapshot.taken_at
    return (
        Column("=found", lambda lost: ago(lost.lost_at, now), lambda lost: lost.lost_at),
        Column("reason", lambda lost: lost.reason, lambda lost: lost.reason, falling=False),
        Column("<coroutine", lambda lost: lost.coroutine, lambda lost: lost.coroutine, falling=False),
        Column("<created by", lambda lost: lost.site.name, lambda lost: lost.site.name, falling=False),
        Column("=~age", lambda lost: span(lost.age or None), lambda lost: lost.age),
        Column(">why", details.why_lost, details.why_lost, falling=False),
        Column("~>context", whose, whose, falling=False),
    )


def _findings(document: Document) -> Sequence[Column]:
    now = document.snapshot.taken_at
    return (
        Column("rule", lambda one: one.rule, lambda one: one.rule, falling=False),
        Column("severity", lambda one: one.severity, lambda one: SEVERITY.get(one.severity), falling=False),
        Column("=times", lambda one: number(one.count), lambda one: one.count),
        Column("=~since", lambda one: ago(one.first_seen, now), lambda one: one.first_seen, falling=False),
        Column(">what", lambda one: one.summary, lambda one: one.summary, falling=False),
    )


def _drains(document: Document) -> Sequence[Column]:
    return (
        Column("=took", lambda drain: span(drain.duration), lambda drain: drain.duration),
        Column("=of", lambda drain: span(drain.timeout), lambda drain: drain.timeout),
        Column("=finished", lambda drain: number(len(drain.finished)), lambda drain: len(drain.finished)),
        Column("=cancelled", lambda drain: number(len(drain.cancelled)), lambda drain: len(drain.cancelled)),
        Column("=abandoned", lambda drain: number(len(drain.abandoned)), lambda drain: len(drain.abandoned)),
    )


def _newest_first(document: Document) -> Sequence[Stall]:
    return sorted(document.snapshot.stalls, key=lambda stall: (stall.in_progress, stall.started_at))[::-1]


def trouble(pool: Pool) -> tuple[float, ...]:
    """Return the sort key of pools: current waiters, then failures, then use."""
    wrong = (pool.timeouts or 0) + (pool.rejected or 0)
    return (pool.oldest_wait or 0.0, pool.pending or 0, wrong, pool.wait_sum or 0.0, pool.used or 0)


def _worst_first(document: Document) -> Sequence[Pool]:
    return sorted(document.snapshot.pools, key=trouble, reverse=True)


def _of_stall(stall: Stall) -> str:
    return "bold red" if stall.in_progress else ""


def _of_pool(pool: Pool) -> str:
    full = pool.max is not None and pool.used is not None and pool.used >= pool.max
    return "red" if full and pool.pending else ""


def _site_id(site: TaskSite) -> tuple[str, str, int]:
    return site.site.file, site.site.function, site.site.line


def _task_id(task: Task) -> tuple[object, ...]:
    return task.loop_name, task.id, task.started_at if not task.id else 0.0


def _wait_id(wait: Waiting) -> tuple[str, str, int]:
    return wait.primitive, wait.site.file, wait.site.line


def _lost_id(lost: Lost) -> tuple[float, str, str]:
    return lost.lost_at, lost.coroutine, lost.reason


def _finding_id(one: Finding) -> tuple[str, float]:
    return one.rule, one.first_seen


def _drain_id(drain: DrainReport) -> tuple[float, float, int]:
    return drain.duration, drain.timeout, len(drain.finished)


STALLS = Listing(
    "stalls",
    _newest_first,
    lambda stall: (stall.loop_name, stall.id or stall.started_at),
    _stalls,
    details.of_stall,
    "No stall so far.",
    _of_stall,
)
SITES = Listing(
    "sites", lambda document: document.sites, _site_id, _sites, details.of_site, "No task was created yet."
)
TASKS = Listing(
    "tasks", lambda document: document.tasks, _task_id, _tasks, details.of_task, "No task is alive."
)
POOLS = Listing(
    "pools",
    _worst_first,
    lambda pool: (pool.kind, pool.label),
    _pools,
    details.of_pool,
    "No pool or executor has been used yet.",
    _of_pool,
)
WAITS = Listing(
    "waits",
    lambda document: document.waits,
    _wait_id,
    _waits,
    details.of_wait,
    "Nobody waits for a lock, a semaphore, an event or a queue.",
)
LOST = Listing(
    "lost",
    lambda document: document.snapshot.lost[::-1],
    _lost_id,
    _lost,
    details.of_lost,
    "Nothing was lost so far.",
)
FINDINGS = Listing(
    "findings",
    lambda document: document.snapshot.findings,
    _finding_id,
    _findings,
    details.of_finding,
    "Nothing is found to be wrong.",
    lambda one: STYLES.get(one.severity, ""),
)
DRAINS = Listing(
    "drains",
    lambda document: document.snapshot.drains[::-1],
    _drain_id,
    _drains,
    details.of_drain,
    "No drain so far.",
)

LISTINGS: tuple[Listing, ...] = (STALLS, SITES, TASKS, POOLS, WAITS, LOST, FINDINGS, DRAINS)
