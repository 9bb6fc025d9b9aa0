"""What the agent's records look like on a terminal, and in a file that ``loopwatch demo`` is piped to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from loopwatch._agent_records import Cause, Loop, Stall
from loopwatch._records import Frame
from loopwatch._words import frames_shown, place, span

CAUSE_STYLE: Mapping[Cause, str] = {"cpu": "red", "blocking": "magenta", "unknown": "dim"}
"""All other causes are yellow: they are mostly not the fault of the code that was running."""
BLOCKED_SHOWN = 0.1
"""Seconds of a step above which its duration is shown."""


def function(stall: Stall) -> str:
    """Name the function that caused ``stall``."""
    return stall.culprit.name if stall.culprit else "(no application code seen)"


def headline(stall: Stall) -> Text:
    """Return in one line for how long, why and where the loop was blocked."""
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
    """Yield the numbers that the cause is based on, leaving out zeros."""
    for name, value in stall.evidence.items():
        if name.endswith("_s") and value >= 0.001:
            yield f"{name.removesuffix('_s')} {span(value)}"
        elif value >= 1:
            yield f"{name} {value:.0f}"
    yield f"{stall.samples} stacks taken"


def details(stall: Stall) -> Text:
    """Show the task, the evidence, and the stack from the loop's callback inwards."""
    lines = Text()
    if stall.coroutine:
        task = f"task {stall.task_name}, " if stall.task_name else ""
        whose = "".join(f", {name} {value}" for name, value in stall.context.items())
        lines.append(f"{task}coroutine {stall.coroutine}{whose}\n", "dim")
    lines.append(f"evidence: {', '.join(evidence(stall))}\n", "dim")
    lines.append_text(stack_lines(stall.stack, stall.culprit))
    lines.rstrip()
    return lines


def stack_lines(stack: Sequence[Frame], marked: Frame | None) -> Text:
    """Show frames, one per line, innermost last, one of them marked."""
    lines = Text()
    shown = frames_shown(stack, marked)
    width = max((len(frame.name) for frame in shown), default=0)
    for frame in shown:
        style = "bold" if frame == marked else ""
        lines.append(f"{'>' if frame == marked else ' '} {frame.name:{width}}  {place(frame)}\n", style)
    return lines


def status(loop: Loop) -> str:
    """Write one loop's health in a line."""
    busy = "" if loop.utilization is None else f", {loop.utilization:.0%} busy"
    delay = f"delay p50 {span(loop.delay_p50)}, p99 {span(loop.delay_p99)}, max {span(loop.delay_max)}"
    return f"{loop.name}: {delay}{busy}"


def loops_table(loops: Iterable[Loop]) -> Table:
    """Show the health of all loops, one per row."""
    health = ("=busy", "=delay p50", "=p99", "=max 60 s", "=blocked now", "=ready", "=timers")
    drawn = table("loop", "kind", *health)
    for loop in loops:
        drawn.add_row(
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
    return drawn


@dataclass(slots=True)
class Culprit:
    """The stalls that share function, call and cause."""

    last: Stall
    count: int = 0
    total: float = 0.0
    worst: float = 0.0

    def add(self, stall: Stall) -> None:
        """Add one more stall."""
        self.last = stall
        self.count += 1
        self.total += stall.duration
        self.worst = max(self.worst, stall.duration)


def culprits_table(culprits: Iterable[Culprit]) -> Table:
    """Show what blocked the loop, worst first."""
    drawn = table("stalled by", "=line", "in", "cause", "=times", "=in all", "=worst")
    for culprit in sorted(culprits, key=lambda culprit: -culprit.total):
        stall = culprit.last
        drawn.add_row(
            Text(function(stall), "bold"),
            str(stall.culprit.line) if stall.culprit else "",
            stall.call or "",
            Text(stall.cause, CAUSE_STYLE.get(stall.cause, "yellow")),
            str(culprit.count),
            span(culprit.total),
            span(culprit.worst),
        )
    return drawn


def table(*headings: str) -> Table:
    """Make an empty table; a heading that begins with ``=`` is for a column of numbers."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        justify: JustifyMethod = "right" if heading.startswith("=") else "left"
        drawn.add_column(heading.lstrip("="), justify=justify, overflow="fold")
    return drawn
