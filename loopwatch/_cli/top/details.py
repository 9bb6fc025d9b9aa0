"""The details of one row: the lines that a list leads to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopwatch._agent_records import Finding, Lost, Pool, Stall, Waiting
from loopwatch._console.parts import (
    evidence,
    field,
    finding_lines,
    people_of,
    stack_lines,
    titled,
    use_of,
    whose,
)
from loopwatch._console.tables import Table, columns, paragraph
from loopwatch._document import Document, TaskSite
from loopwatch._records import DrainReport, Frame, Task
from loopwatch._words import ago, number, own_frame, place, span

TASKS_SHOWN = 20


def stand(task: Task) -> str:
    """Write where a task stands, in the program's own code if possible."""
    frame = own_frame(task.await_stack, task.site) or next(reversed(task.await_stack), None)
    return place(frame) if frame else ""


def why_lost(lost: Lost) -> str:
    """Write what is known of a loss besides its reason."""
    return lost.exception or ", ".join(lost.missing) or lost.leak or lost.waiting_on or ""


def of_stall(stall: Stall, document: Document, width: int) -> Iterator[str]:
    """Yield everything about a stall."""
    now = document.snapshot.taken_at
    tense = "has been stalled for" if stall.in_progress else "was stalled for"
    yield from paragraph(f"loop {stall.loop_name} {tense} {span(stall.duration)}: {stall.cause}", width)
    yield from field("began", ago(stall.started_at, now), width)
    if stall.culprit is not None:
        call = f", calling {stall.call}" if stall.call else ""
        yield from field("culprit", f"{stall.culprit.name} at {place(stall.culprit)}{call}", width)
    task = f"{stall.task_name or '-'} ({stall.coroutine})" if stall.coroutine else None
    yield from field("task", task, width)
    yield from field("context", whose(stall), width)
    yield from field("evidence", evidence(stall.evidence), width)
    yield from field("samples", f"{stall.samples} stacks taken", width)
    victims = ", ".join(f"{victim.task_name or '-'} ({victim.coroutine or '-'})" for victim in stall.victims)
    yield from field("waited", victims, width)
    yield from _stack(stall.stack, stall.culprit, width, "its stack, while it lasted")


def of_site(site: TaskSite, document: Document, width: int) -> Iterator[str]:
    """Yield everything about a place that creates tasks, with some of its tasks."""
    yield from paragraph(f"tasks created by {site.site.name}", width)
    yield from field("at", place(site.site), width)
    oldest = f", the oldest for {span(site.oldest)}" if site.oldest is not None else ""
    yield from field("live", f"{number(site.live)}{oldest}", width)
    ended = f"{number(site.ok)} ok, {number(site.error)} error, {number(site.cancelled)} cancelled"
    yield from field("ended", f"of {number(site.created)} created: {ended}", width)
    yield from field("lived for", f"p50 {span(site.duration_p50)}, p99 {span(site.duration_p99)}", width)
    tasks = [task for task in document.tasks if task.site == site.site]
    yield from _tasks("the oldest that live", tasks, width)
    if tasks:
        yield from _stack(tasks[0].await_stack, None, width, "where the oldest stands")


def of_task(task: Task, document: Document, width: int) -> Iterator[str]:
    """Yield everything about a task."""
    yield from paragraph(f"task {task.name or '-'}: {task.coroutine}, {task.state}", width)
    yield from field("age", span(task.age), width)
    yield from field("created by", f"{task.site.name} at {place(task.site)}", width)
    yield from field("in task", task.parent, width)
    yield from field("waits for", task.waiting_on, width)
    yield from field("context", whose(task), width)
    yield from field("loop", task.loop_name + (", a daemon" if task.daemon else ""), width)
    marked = own_frame(task.await_stack, task.site)
    yield from _stack(task.await_stack, marked, width, "where it stands")


def of_pool(pool: Pool, document: Document, width: int) -> Iterator[str]:
    """Yield everything about a pool, with its holders and waiters."""
    yield from paragraph(f"{pool.kind} {pool.label}", width)
    yield from use_of(pool, width)
    counts = (pool.wait_count, pool.timeouts, pool.rejected, pool.cancelled)
    words = ("acquires", "timeouts", "rejected", "cancelled")
    said = ", ".join(f"{number(n)} {word}" for n, word in zip(counts, words, strict=True) if n is not None)
    yield from field("so far", f"{said}, wait p99 {span(pool.wait_p99)}", width)
    yield from field("pools", f"{number(pool.instances)} live, {number(pool.created)} created", width)
    for title, people in people_of(pool):
        yield ""
        yield from titled(title, people, width)


def of_wait(wait: Waiting, document: Document, width: int) -> Iterator[str]:
    """Yield everything about tasks that wait at one place."""
    yield from paragraph(f"{number(wait.count)} tasks wait in {wait.primitive}", width)
    yield from field("in", f"{wait.site.name} at {place(wait.site)}", width)
    yield from field("for", f"{number(wait.objects)} of them", width)
    yield from field("tasks", ", ".join(wait.tasks), width)
    yield from field("owned by", ", ".join(wait.owners), width)


def of_lost(lost: Lost, document: Document, width: int) -> Iterator[str]:
    """Yield everything about a loss."""
    yield from paragraph(f"lost, {lost.reason}: {lost.coroutine}", width)
    yield from field("found", ago(lost.lost_at, document.snapshot.taken_at), width)
    yield from field("created by", f"{lost.site.name} at {place(lost.site)}", width)
    yield from field("age", span(lost.age) if lost.age else None, width)
    yield from field("task", lost.task_name, width)
    yield from field("exception", lost.exception, width)
    yield from field("leak", lost.leak, width)
    yield from field("missing", ", ".join(lost.missing), width)
    yield from field("waited for", lost.waiting_on, width)
    yield from field("context", whose(lost), width)
    yield from field("evidence", evidence(lost.evidence), width)
    marked = own_frame(lost.await_stack, lost.site)
    yield from _stack(lost.await_stack, marked, width, "where it stood")


def of_finding(one: Finding, document: Document, width: int) -> Iterator[str]:
    """Yield everything about a finding."""
    return finding_lines(one, document.snapshot.taken_at, width)


def of_drain(drain: DrainReport, document: Document, width: int) -> Iterator[str]:
    """Yield everything about a drain."""
    left = "work was left" if drain.forced else "no work was left"
    yield from paragraph(f"drained for {span(drain.duration)} of {span(drain.timeout)}: {left}", width)
    yield from _tasks(f"{len(drain.abandoned)} abandoned", drain.abandoned, width)
    yield from _tasks(f"{len(drain.cancelled)} cancelled", drain.cancelled, width)
    yield from _tasks(f"{len(drain.finished)} finished", drain.finished, width)


def _stack(stack: Sequence[Frame], marked: Frame | None, width: int, title: str) -> Iterator[str]:
    yield ""
    if not stack:
        yield "  no stack was seen"
        return
    yield f"  {title}"
    yield from stack_lines(stack, marked, width, whole=True)


def _tasks(title: str, tasks: Sequence[Task], width: int) -> Iterator[str]:
    if not tasks:
        return
    table = Table(columns("=age", "<task", "<coroutine", ">waits for", "<stands at", "~>context"))
    for task in tasks[:TASKS_SHOWN]:
        table.add(
            span(task.age), task.name or "", task.coroutine, task.waiting_on or "", stand(task), whose(task)
        )
    yield ""
    yield from titled(title, table, width)
    if len(tasks) > TASKS_SHOWN:
        yield f"  and {len(tasks) - TASKS_SHOWN} more"
