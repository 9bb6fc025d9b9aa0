"""Lines that several commands have in common: stacks, whose work it is, how many more there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from loopwatch._records import Frame, Lost, PoolUser, Stall, Task
from loopwatch._words import clean, frames_shown, number, place, span

from .command import Question
from .tables import Column, Table, cut, paragraph

INDENT = "  "


def stack_lines(
    stack: Sequence[Frame], marked: Frame | None, width: int, *, whole: bool = False
) -> Iterator[str]:
    """Yield frames, one a line, innermost last, with a mark at one of them; what is left out is counted."""
    shown = stack if whole else frames_shown(stack, marked)
    table = Table((Column(""), Column("", cut="start"), Column("", cut="start")))
    for frame in shown:
        table.add(">" if frame == marked else " ", frame.name, place(frame))
    if len(shown) < len(stack):
        yield f"{INDENT}({len(shown)} of {len(stack)} frames; innermost last)"
    for line in table.lines(width - len(INDENT)):
        yield INDENT + line


def stall_line(question: Question, stall: Stall) -> str:
    """Say in one line which loop was stalled, for how long, why and by whom."""
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
    """Write the numbers that something rests on; those that are nothing are left out."""
    said = []
    for name, value in numbers.items():
        if name.endswith("_s"):
            if value >= 0.001:
                said.append(f"{name.removesuffix('_s')} {span(value)}")
        elif value:
            said.append(f"{name} {number(value)}")
    return ", ".join(said)


def more(shown: int, there: int, what: str) -> Iterator[str]:
    """Yield a line on how many are not shown, if any."""
    if there > shown:
        yield f"... and {number(there - shown)} more {what}; limit=N shows up to N, words filter"


def heading(text: str, width: int) -> str:
    """Return a line that fits."""
    return cut(clean(text), width)
