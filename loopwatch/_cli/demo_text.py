"""What the agent's records look like on a terminal, and in a file that ``loopwatch demo`` is piped to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from loopwatch._records import Cause, Frame, Loop, Stall

CAUSE_STYLE: Mapping[Cause, str] = {"cpu": "red", "blocking": "magenta", "unknown": "dim"}
"""The others are yellow: mostly they are not the fault of the code that stood there."""
STACK_SHOWN = 10
BLOCKED_SHOWN = 0.1
"""Seconds of a step beyond which it is worth a number."""


def span(seconds: float | None) -> str:
    """Write a span of time with its unit, short; a dash for what is not known."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def place(frame: Frame) -> str:
    """Write where ``frame`` is: directory, file and line, enough to find it."""
    return f"{'/'.join(Path(frame.file).parts[-2:])}:{frame.line}"


def function(stall: Stall) -> str:
    """Name the function that caused ``stall``."""
    return stall.culprit.name if stall.culprit else "(no application code seen)"


def headline(stall: Stall) -> Text:
    """Say in one line how long, why and where the loop stood."""
    tense = "has been stalled for" if stall.in_progress else "stalled"
    line = Text(f"{stall.loop_name} {tense} ")
    line.append(span(stall.duration), "bold")
    line.append("  ")
    line.append(stall.cause, CAUSE_STYLE.get(stall.cause, "yellow"))
    line.append("  ")
    line.append(function(stall), "bold")
    if stall.call:
        line.append(f" in {stall.call}")
    return line


def evidence(stall: Stall) -> Iterator[str]:
    """Yield the numbers the cause rests on, those that are nothing left out."""
    for name, value in stall.evidence.items():
        if name.endswith("_s") and value >= 0.001:
            yield f"{name.removesuffix('_s')} {span(value)}"
        elif value >= 1:
            yield f"{name} {value:.0f}"
    yield f"{stall.samples} stacks taken"


def details(stall: Stall) -> Text:
    """Show the task, the evidence, and the stack from the callback of the loop inwards."""
    lines = Text()
    if stall.coroutine:
        task = f"task {stall.task_name}, " if stall.task_name else ""
        lines.append(f"{task}coroutine {stall.coroutine}\n", "dim")
    lines.append(f"evidence: {', '.join(evidence(stall))}\n", "dim")
    stack = stack_shown(stall)
    width = max((len(frame.name) for frame in stack), default=0)
    for frame in stack:
        guilty = frame == stall.culprit
        style = "bold" if guilty else ""
        lines.append(f"{'>' if guilty else ' '} {frame.name:{width}}  {place(frame)}\n", style)
    lines.rstrip()
    return lines


def stack_shown(stall: Stall) -> Sequence[Frame]:
    """Cut the stack down to what is around the culprit, or to its end where there is none."""
    stack = list(dropwhile(lambda frame: frame.module.startswith("asyncio"), stall.stack))
    if stall.culprit not in stack:
        return stack[-STACK_SHOWN:]
    place_of_culprit = len(stack) - 1 - stack[::-1].index(stall.culprit)
    first = max(0, place_of_culprit - STACK_SHOWN // 2)
    return stack[first : first + STACK_SHOWN]


def status(loop: Loop) -> str:
    """Write one loop's health in a line."""
    busy = "" if loop.utilization is None else f", {loop.utilization:.0%} busy"
    delay = f"delay p50 {span(loop.delay_p50)}, p99 {span(loop.delay_p99)}, max {span(loop.delay_max)}"
    return f"{loop.name}: {delay}{busy}"


def loops_table(loops: Iterable[Loop]) -> Table:
    """Show the health of all loops, one a row."""
    health = ("=busy", "=delay p50", "=p99", "=max 60 s", "=blocked now", "=ready", "=timers")
    table = _table("loop", "kind", *health)
    for loop in loops:
        table.add_row(
            loop.name,
            loop.kind,
            "-" if loop.utilization is None else f"{loop.utilization:.0%}",
            span(loop.delay_p50),
            span(loop.delay_p99),
            span(loop.delay_max),
            Text(span(loop.blocked), "bold red") if loop.blocked >= BLOCKED_SHOWN else "no",
            "-" if loop.ready is None else str(loop.ready),
            "-" if loop.timers is None else str(loop.timers),
        )
    return table


@dataclass(slots=True)
class Culprit:
    """The stalls that have function, call and cause in common."""

    last: Stall
    count: int = 0
    total: float = 0.0
    worst: float = 0.0

    def add(self, stall: Stall) -> None:
        """Take one more."""
        self.last = stall
        self.count += 1
        self.total += stall.duration
        self.worst = max(self.worst, stall.duration)


def culprits_table(culprits: Iterable[Culprit]) -> Table:
    """Show who blocked the loop, worst first."""
    table = _table("stalled by", "=line", "in", "cause", "=times", "=in all", "=worst")
    for culprit in sorted(culprits, key=lambda culprit: -culprit.total):
        stall = culprit.last
        table.add_row(
            Text(function(stall), "bold"),
            str(stall.culprit.line) if stall.culprit else "",
            stall.call or "",
            Text(stall.cause, CAUSE_STYLE.get(stall.cause, "yellow")),
            str(culprit.count),
            span(culprit.total),
            span(culprit.worst),
        )
    return table


def _table(*headings: str) -> Table:
    """Make a table; a heading that begins with ``=`` stands over numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        justify: JustifyMethod = "right" if heading.startswith("=") else "left"
        table.add_column(heading.lstrip("="), justify=justify, overflow="fold")
    return table
