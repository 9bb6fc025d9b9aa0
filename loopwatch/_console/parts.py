"""Lines that several views share: stacks, findings, users of a pool, how many more there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from loopwatch._agent_records import Finding, Lost, Pool, PoolUser, Stall
from loopwatch._records import Frame, Task
from loopwatch._words import ago, clean, frames_shown, number, own_frame, place, span

from .command import Question
from .tables import Column, Table, columns, cut, paragraph

INDENT = "  "


def stack_lines(
    stack: Sequence[Frame], marked: Frame | None, width: int, *, whole: bool = False
) -> Iterator[str]:
    """Yield frames, one per line, innermost last, one of them marked; frames left out are counted."""
    shown = stack if whole else frames_shown(stack, marked)
    table = Table((Column(""), Column("", cut="start"), Column("", cut="start")))
    for frame in shown:
        table.add(">" if frame == marked else " ", frame.name, place(frame))
    if len(shown) < len(stack):
        yield f"{INDENT}({len(shown)} of {len(stack)} frames; innermost last)"
    for line in table.lines(width - len(INDENT)):
        yield INDENT + line


def stall_line(question: Question, stall: Stall) -> str:
    """Return in one line which loop was stalled, for how long, why and by what."""
    tense = "has been stalled for" if stall.in_progress else "was stalled for"
    call = f" in {stall.call}" if stall.call else ""
    shown = question.desk.numbers.of("stall", stall.id)
    what = f"{stall.cause}: {culprit_of(stall)}{call}"
    return heading(f"stall {shown}: {stall.loop_name} {tense} {span(stall.duration)}, {what}", question.width)


def culprit_of(stall: Stall) -> str:
    """Name the function that caused a stall."""
    return stall.culprit.name if stall.culprit else "(no application code seen)"


def whose(of: Stall | Lost | Task | PoolUser) -> str:
    """Return the watched variables of a task, such as the id of its request, and its trace."""
    named = [f"{name}={value}" for name, value in of.context.items()]
    return " ".join([*named, f"trace={of.trace_id}"] if of.trace_id else named)


def field(name: str, value: str | None, width: int) -> Iterator[str]:
    """Yield a named value, on as many lines as it takes; nothing if it is not known."""
    if value:
        yield from paragraph(value, width, f"{INDENT}{name:11} ", " " * (len(INDENT) + 12))


def evidence(numbers: Mapping[str, float]) -> str:
    """Write the numbers of some evidence, leaving out zeros."""
    said = []
    for name, value in numbers.items():
        if name.endswith("_s"):
            if value >= 0.001:
                said.append(f"{name.removesuffix('_s')} {span(value)}")
        elif value:
            said.append(f"{name} {number(value)}")
    return ", ".join(said)


def finding_lines(one: Finding, now: float, width: int) -> Iterator[str]:
    """Yield everything about a finding."""
    others = f" (and {number(one.more)} more like it)" if one.more else ""
    yield from paragraph(one.summary + others, width, f"{one.rule} {one.severity}: ", INDENT)
    yield from field("evidence", evidence(one.evidence), width)
    yield from field("fix", one.fix, width)
    yield from field("because of", f"{one.because}, mend that first" if one.because else None, width)
    how_often = "once" if one.count == 1 else f"{number(one.count)} times"
    seen = f"{how_often}, first {ago(one.first_seen, now)}, last {ago(one.last_seen, now)}"
    yield from field("seen", seen, width)
    yield from field("docs", one.docs_url, width)


def use_of(pool: Pool, width: int) -> Iterator[str]:
    """Yield how much of a pool is in use, and how many callers wait."""
    limit = "no limit known" if pool.max is None else f"of {number(pool.max)}"
    opening = f", {number(pool.connecting)} being opened" if pool.connecting else ""
    yield from field("in use", f"{number(pool.used)} {limit}, {number(pool.idle)} idle{opening}", width)
    longest = f", the longest for {span(pool.oldest_wait)}" if pool.pending and pool.oldest_wait else ""
    yield from field("waiting", f"{number(pool.pending)}{longest}", width)


def people_of(pool: Pool) -> Iterator[tuple[str, Table]]:
    """Yield the holders of connections of a pool, and the waiters, if there are any."""
    have = [(one.held, "task has ended" if one.gone else one.waiting_on, one) for one in pool.borrowers or ()]
    want = [(one.waited, one.waiting_on, one) for one in pool.waiters or ()]
    if have:
        yield "who has them, longest first", _table_of(have)
    if want:
        yield "who waits, longest first", _table_of(want)


def _table_of(people: Iterable[tuple[float, str | None, PoolUser]]) -> Table:
    table = Table(columns("=for", "<task", "<coroutine", ">waits for", "<stands at", ">context"))
    for seconds, waits_for, one in people:
        stands = None if one.site is None else own_frame(one.await_stack, one.site)
        table.add(
            span(seconds),
            one.task_name or "-",
            one.coroutine or "(outside of tasks)",
            waits_for or "",
            place(stands) if stands else "",
            whose(one),
        )
    return table


def titled(title: str, table: Table, width: int) -> Iterator[str]:
    """Yield a table below its title."""
    yield INDENT + title
    for line in table.lines(width - len(INDENT)):
        yield INDENT + line


def more(shown: int, there: int, what: str) -> Iterator[str]:
    """Yield a line on how many are not shown, if any."""
    if there > shown:
        yield f"... and {number(there - shown)} more {what}; limit=N shows up to N, words filter"


def heading(text: str, width: int) -> str:
    """Return a heading cut to ``width``."""
    return cut(clean(text), width)
