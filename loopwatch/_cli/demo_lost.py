"""Tasks as the agent shows them on a terminal: which were lost, which there are, and what a drain left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from loopwatch._agent_records import Lost, PoolUser
from loopwatch._measures import Distribution, Point
from loopwatch._records import DrainReport, Frame, Task
from loopwatch._words import own_frame, place, span

from .demo_text import stack_lines, table

Points = Mapping[str, tuple[Point, ...]]
"""The facts of a snapshot, by stem."""

SITES_SHOWN = 6
LEFT_SHOWN = 10
"""Kinds of tasks left by a drain that are shown; further ones are only counted."""


def headline(lost: Lost) -> Text:
    """Return in one line what was lost, why, and by whom."""
    line = Text("lost ")
    line.append(lost.reason, "red")
    line.append("  ")
    line.append(lost.coroutine, "bold")
    if lost.reason == "context_lost":
        line.append(f" runs without {' and '.join(lost.missing)}, handed over by {lost.site.name}")
    elif lost.reason == "never_awaited":
        line.append(f" dropped by {lost.site.name}")
    else:
        line.append(f" created by {lost.site.name}")
        line.append(f": {lost.exception}" if lost.exception else "")
        line.append(f" ({lost.leak})" if lost.reason == "leaked" else "")
    return line


def details(lost: Lost) -> Text:
    """Show whose task it was, its age, what it waited for, and where it stood or the loss was noticed."""
    facts = [
        f"{'handed over' if lost.reason == 'context_lost' else 'created'} at {place(lost.site)}",
        *([f"{span(lost.age)} before"] if lost.age else []),
        *([f"task {lost.task_name}"] if lost.task_name else []),
        *whose(lost),
        *([f"waiting for {lost.waiting_on}"] if lost.waiting_on else []),
    ]
    lines = Text(f"{', '.join(facts)}\n", "dim")
    if not lost.await_stack:
        lines.append("where it stood was not seen", "dim")
    lines.append_text(stack_lines(lost.await_stack, own_frame(lost.await_stack, lost.site)))
    lines.rstrip()
    return lines


def whose(of: Lost | Task | PoolUser) -> list[str]:
    """Return the watched variables of a task, such as the id of its request, and its trace."""
    named = [f"{name} {value}" for name, value in of.context.items()]
    return [*named, f"trace {of.trace_id}"] if of.trace_id else named


@dataclass(slots=True)
class Kind:
    """Losses that differ only in the task."""

    first: Lost
    count: int = 0

    @staticmethod
    def key(lost: Lost) -> tuple[object, ...]:
        """Return what the losses of a kind have in common: for contexts, who handed over."""
        if lost.reason == "context_lost":
            return (lost.reason, lost.site)
        return (lost.reason, lost.site, lost.coroutine, lost.exception, lost.leak)


def lost_table(kinds: Iterable[Kind], points: Points) -> Table:
    """Show what was lost, by kind, the most frequent first. A ``+`` marks counts that are too low.

    Of many losses at once the agent keeps the last and counts all; of lost contexts, it reports the first.
    """
    works, totals = _by_label(points, "task_context_lost"), _by_label(points, "task_lost")
    rows: list[tuple[float, Lost]] = []
    seen: Counter[str] = Counter()
    for kind in kinds:
        lost = kind.first
        of_context = lost.reason == "context_lost"
        rows.append((works.get(lost.site.name, kind.count) if of_context else kind.count, lost))
        seen[lost.reason] += kind.count
    drawn = table("lost", "why", "", "created or handed over by", "=line", "=times")
    for count, lost in sorted(rows, key=lambda row: -row[0]):
        drawn.add_row(
            Text(lost.coroutine, "bold"),
            Text(lost.reason, "red"),
            lost.exception or ", ".join(lost.missing) or (lost.leak if lost.reason == "leaked" else ""),
            lost.site.function,
            str(lost.site.line),
            f"{count:.0f}{'+' if seen[lost.reason] < totals.get(lost.reason, 0) else ''}",
        )
    return drawn


def lost_so_far(points: Points) -> str:
    """Write how many tasks were lost, by reason; empty if none were."""
    counts = _by_label(points, "task_lost")
    counts["context_lost"] = sum(_by_label(points, "task_context_lost").values())
    return ", ".join(f"{count:.0f} {reason}" for reason, count in counts.items() if count)


def sites_table(points: Points) -> Table:
    """Show the tasks by the function that created them, for the functions that created most."""
    created = _by_label(points, "task_created")
    live = _by_label(points, "task_site_count")
    durations = {point.labels[0]: point.value for point in points.get("task_duration", ())}
    ended = {point.labels: point.value for point in points.get("task_finished", ())}
    drawn = table("tasks created by", "=live", "=created", "=ok", "=error", "=cancelled", "=p99")
    for function in sorted(created, key=lambda function: -created[function])[:SITES_SHOWN]:
        took = durations.get(function)
        outcomes = [ended.get((outcome, function), 0) for outcome in ("ok", "error", "cancelled")]
        drawn.add_row(
            function,
            f"{live.get(function, 0):.0f}",
            f"{created[function]:.0f}",
            *(str(outcome) for outcome in outcomes),
            span(took.quantile(0.99) if isinstance(took, Distribution) else None),
        )
    return drawn


def _by_label(points: Points, stem: str) -> dict[str, float]:
    """Return the values of a fact that has one label and is not a histogram."""
    values = {point.labels[0]: point.value for point in points.get(stem, ())}
    return {label: value for label, value in values.items() if not isinstance(value, Distribution)}


def drain_lines(report: DrainReport) -> Iterator[Text]:
    """Yield a line on how a drain ended, and one for each kind of task that it left."""
    finished, cancelled, abandoned = map(len, (report.finished, report.cancelled, report.abandoned))
    if not report.forced:
        yield Text(f"at shutdown no work was left: {finished} finished in {span(report.duration)}")
        return
    counts = f"{finished} finished, {cancelled} cancelled, {abandoned} abandoned"
    yield Text(f"at shutdown, after {report.timeout:g} s for it to end, work was left: {counts}")
    kinds: dict[tuple[str, str, Frame | None], list[Task]] = {}
    for word, left in (("cancelled", report.cancelled), ("abandoned", report.abandoned)):
        for task in left:
            kinds.setdefault((word, task.coroutine, own_frame(task.await_stack, task.site)), []).append(task)
    by_number = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    for (word, coroutine, stood), tasks in by_number[:LEFT_SHOWN]:
        oldest = tasks[0]
        line = Text(f"  {len(tasks)} ")
        line.append(word, "red")
        line.append("  ")
        line.append(coroutine, "bold")
        line.append(f" created by {oldest.site.name}")
        line.append(f", stood at {place(stood)}" if stood else "")
        line.append(
            f", the oldest for {span(oldest.age)}: {', '.join([f'task {oldest.name}', *whose(oldest)])}"
        )
        yield line
    if len(by_number) > LEFT_SHOWN:
        yield Text(f"  and tasks of {len(by_number) - LEFT_SHOWN} more kinds")
