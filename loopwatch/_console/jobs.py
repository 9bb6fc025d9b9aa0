"""Commands about jobs of ``spawn()`` and about drains. They only show; they drain nothing."""

from __future__ import annotations

from collections.abc import Iterator

from loopwatch._measures import Distribution
from loopwatch._records import DrainReport, Task
from loopwatch._words import number, own_frame, place, span

from .command import Command, Question
from .options import options
from .parts import more, whose
from .tables import Table, columns
from .tasks import LOOKED_AT


def _jobs(question: Question) -> Iterator[str]:
    words = options(question.words)
    counts = _values(question, "jobs")
    yield ", ".join(f"{number(count)} {state}" for state, count in counts.items()) or "No job was spawned."
    jobs = [task for task in question.source.tasks(LOOKED_AT) if task.job]
    found = [task for task in jobs if words.keeps(task.name, task.coroutine, task.site.name, whose(task))]
    if found:
        found.sort(key=lambda task: -task.age)
        yield from _table(found[: words.limit], question)
        yield from more(words.limit, len(found), "jobs")


def _drain(question: Question) -> Iterator[str]:
    words = options(question.words)
    phase = [state for state, value in _values(question, "drain_status").items() if value]
    yield f"The process is {phase[0] if phase else 'in an unknown phase'}."
    reports = question.source.drains()
    for at, report in enumerate(list(reversed(reports))[: words.limit]):
        yield from _report(report, "the last drain" if not at else f"the drain {at} before", question)
    if not reports:
        yield "Nothing has been drained so far."


def _report(report: DrainReport, which: str, question: Question) -> Iterator[str]:
    of = (("finished", report.finished), ("cancelled", report.cancelled), ("abandoned", report.abandoned))
    counts = ", ".join(f"{len(tasks)} {what}" for what, tasks in of)
    yield f"{which}: {counts}, in {span(report.duration)} of {span(report.timeout)}"
    for what, tasks in of[1:]:
        if tasks:
            yield f"{what}:"
            yield from _table(tasks[:10], question)
            yield from more(10, len(tasks), what)


def _table(tasks: list[Task] | tuple[Task, ...], question: Question) -> Iterator[str]:
    table = Table(columns("=#", "=age", "<name", "<coroutine", ">waits for", "<stands at", ">context"))
    for task in tasks:
        stands = own_frame(task.await_stack, task.site)
        table.add(
            str(question.desk.numbers.of("task", task.id)) if task.id else "-",
            span(task.age),
            task.name or "-",
            task.coroutine,
            task.waiting_on or "",
            place(stands) if stands else "",
            whose(task),
        )
    for line in table.lines(question.width - 2):
        yield f"  {line}"


def _values(question: Question, stem: str) -> dict[str, float]:
    points = question.source.snapshot().points.get(stem, ())
    return {point.labels[0]: point.value for point in points if not isinstance(point.value, Distribution)}


COMMANDS = (
    Command("jobs", "[TEXT]", "jobs of spawn(): how many ended how, which run", _jobs),
    Command(
        "drain", "", "how far the shutdown is, and what earlier drains left", _drain, "It drains nothing."
    ),
)
