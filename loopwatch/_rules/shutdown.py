"""LW501 and LW502: shutdowns that cut work short, or take long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from loopwatch._agent_records import Lost, LostReason
from loopwatch._records import DrainReport, Task

from .roots import blocked_by
from .rule import Rule, Symptom, View
from .tasks import REMEMBERED
from .words import place, span

NAMED = 3
"""Kinds of work that are named; further ones are only counted."""
UNATTENDED: tuple[tuple[str, LostReason], ...] = (
    ("LW204", "unreferenced"),
    ("LW201", "destroyed_pending"),
    ("LW202", "unretrieved_exception"),
)
"""Rules for tasks that nobody waits for, by the reason of their loss."""
SLOW = 5.0
"""Seconds of a drain after which people may wonder what it waits for."""


def _incomplete(view: View) -> Iterator[Symptom]:
    cut = {stem: sum(view.increases(stem).values()) for stem in ("drain_cancelled", "drain_abandoned")}
    left = next((report for report in reversed(view.now.drains) if report.forced), None)
    if not any(cut.values()) or left is None:
        return
    cancelled, abandoned = len(left.cancelled), len(left.abandoned)
    yield Symptom(
        rule="LW501",
        key=tuple(_kinds(left)),
        severity="critical",
        summary=f"the shutdown cut work short: after {span(left.duration)} {_counted(left)}: {_named(left)}",
        evidence={
            "finished": len(left.finished),
            "cancelled": cancelled,
            "abandoned": abandoned,
            "duration_s": round(left.duration, 3),
            "timeout_s": left.timeout,
            "oldest_s": round(max(task.age for task in (*left.cancelled, *left.abandoned)), 3),
        },
        fix=_fix(left),
        count=cancelled + abandoned,
        because=_unattended(view, left),
    )


def _unattended(view: View, report: DrainReport) -> str | None:
    """Return the rule of tasks that nobody holds or asks for, if most tasks left come from the same sites.

    Or were created by such tasks: nobody waits for them at a shutdown either.
    """
    left = (*report.cancelled, *report.abandoned)
    for rule, reason in UNATTENDED:
        sites = {one.site for one in view.now.lost if one.reason == reason and _lives_on(view, one)}
        parents = {task.coroutine for task in left if task.site in sites}
        if sum(task.site in sites or task.parent in parents for task in left) > len(left) / 2:
            return rule
    return None


def _lives_on(view: View, lost: Lost) -> bool:
    """Whether there is still a finding for such a loss."""
    if lost.reason == "unreferenced":
        return view.values("task_leaked").get(("unreferenced",), 0.0) > 0
    return view.now.taken_at - lost.lost_at < REMEMBERED


def _counted(report: DrainReport) -> str:
    parts = [
        f"{len(tasks)} {word}"
        for word, tasks in (("cancelled", report.cancelled), ("abandoned", report.abandoned))
        if tasks
    ]
    return f"{' and '.join(parts)}, {len(report.finished)} finished"


def _kinds(report: DrainReport) -> list[str]:
    """Return the functions that created the tasks left, most tasks first."""
    left = (*report.cancelled, *report.abandoned)
    return [name for name, _ in Counter(task.site.name for task in left).most_common(NAMED)]


def _named(report: DrainReport) -> str:
    kinds: dict[tuple[str, str], list[Task]] = {}
    for task in (*report.cancelled, *report.abandoned):
        kinds.setdefault((task.coroutine, task.site.name), []).append(task)
    by_number = sorted(kinds.values(), key=lambda tasks: -len(tasks))
    told = [
        f"{len(tasks)} of `{tasks[0].coroutine}`, created by {place(tasks[0].site)}, "
        f"the oldest for {span(max(task.age for task in tasks))}"
        for tasks in by_number[:NAMED]
    ]
    more = len(by_number) - NAMED
    return "; ".join(told) + (f"; and {more} more kinds" if more > 0 else "")


def _fix(report: DrainReport) -> str:
    if report.abandoned and not report.cancelled:
        return (
            "start background work by loopwatch.spawn(), and wait for it before the loop ends: "
            "loopwatch.drain_lifespan() or install(drain_timeout=...); a job that does not end when it is "
            "cancelled swallows CancelledError"
        )
    return (
        "give the drain more time, and the process manager more than that (terminationGracePeriodSeconds, "
        "--timeout-graceful-shutdown), or make the jobs shorter or able to go on after a restart"
    )


def _slow(view: View) -> Iterator[Symptom]:
    draining = view.values("drain_status").get(("draining",), 0.0)
    lasted = view.values("drain_duration").get((), 0.0)
    if not draining or lasted < SLOW:
        return
    jobs = view.values("jobs").get(("running",), 0.0)
    live = view.values("task_count").get((), 0.0)
    yield Symptom(
        rule="LW502",
        key=(),
        severity="info",
        summary=f"the shutdown has waited for {span(lasted)}, and still does: {jobs:.0f} jobs run, "
        f"{live:.0f} tasks live",
        evidence={"duration_s": round(lasted, 3), "jobs": jobs, "tasks": live},
        fix="agent.tasks() says where each stands; at the timeout they are cancelled, and named",
        because=blocked_by(view, lasted),
    )


SHUTDOWN: tuple[Rule, ...] = (  # one look each: there may be no second
    Rule("LW501", "Drain incomplete", "critical", _incomplete, looks=1),
    Rule("LW502", "Shutdown takes long", "info", _slow, looks=1),
)
