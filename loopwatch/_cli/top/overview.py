"""The first page: the loops' health, what stalls them now, and the top of each list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

from rich.text import Text

from loopwatch._agent_records import Loop, Stall
from loopwatch._console.parts import stack_lines
from loopwatch._console.tables import Table, cells, columns, cut
from loopwatch._document import Document
from loopwatch._words import ago, clean, frames_shown, number, percent, span

from .history import History, Series, sparkline
from .listings import POOLS, STYLES, culprit

Section = Callable[[Document, int, int], list[Text]]
"""Draws the top of a list: a heading and rows, given the columns and lines available; nothing if empty."""

WIDE = 150
"""Columns from which on the lists stand side by side."""
GAP = 3
ONE_ROW = 3
"""Lines of a section with one row, including an empty line and the heading."""
LOOPS = 4
"""Loops that are shown."""
BLOCKED = 0.05
"""Seconds for which a loop must have been blocked to be coloured."""
STACK = 8
"""Frames shown of a stall in progress."""
MARK = "  >"
"""Prefix of the line of the frame that matters."""


def overview(document: Document, history: History, width: int, height: int) -> list[Text]:
    """Return the lines of the page, about as many as there is room for."""
    loops = sorted(document.snapshot.loops, key=lambda loop: not loop.running)[:LOOPS]
    lines = [line for loop in loops for line in _loop(loop, history.of.get(loop.name, Series()), width)]
    if not loops:
        lines.append(Text("  No event loop runs."))
    for stall in (stall for stall in document.snapshot.stalls if stall.in_progress):
        lines += _stalled(stall, width)
    room = height - len(lines)
    if width < WIDE:
        return lines + _below(SECTIONS, document, width, room)
    half = (width - GAP) // 2
    left, right = (_below(part, document, half, room) for part in (SECTIONS[:2], SECTIONS[2:]))
    return lines + _beside(left, right, half)


def _loop(loop: Loop, series: Series, width: int) -> Iterable[Text]:
    """Yield two lines on a loop: how busy it is, and how late."""
    room = max(10, min(100, width - 50))
    state = "" if loop.running else ", not running"
    busy = series.utilization[-1] if series.utilization else loop.utilization
    delay = series.delay[-1] if series.delay else loop.delay_p99
    name = cut(clean(f"{loop.name} ({loop.kind}{state})"), 24)
    line = Text(f"{name}{' ' * (24 - cells(name))} busy  {percent(busy):>8} ", "bold")
    line.append(sparkline(series.utilization, room, 1.0), "green")
    yield line
    late = loop.blocked >= BLOCKED
    said = f"blocked for {span(loop.blocked)}" if late else f"max {span(loop.delay_max)} in 60 s"
    line = Text(f"{said:24}", "bold red" if late else "")
    line.append(f" delay {span(delay):>8} ", "bold")
    line.append(sparkline(series.delay, room), "yellow")
    yield line


def _stalled(stall: Stall, width: int) -> Iterable[Text]:
    """Yield what stalls a loop right now, with its stack."""
    said = f"loop {stall.loop_name} has been stalled for {span(stall.duration)}: {culprit(stall)}"
    said += f" in {stall.call}" if stall.call else ""
    said += f" ({stall.cause})" if stall.cause != "unknown" else ""
    yield Text(cut(clean(said), width), "bold white on red")
    shown = frames_shown(stall.stack, stall.culprit)
    frames = list(stack_lines(shown, stall.culprit, width, whole=True))
    marked = next((at for at, line in enumerate(frames) if line.startswith(MARK)), len(frames))
    for line in frames[min(max(0, len(frames) - STACK), marked) :][:STACK]:
        yield Text(cut(clean(line), width), "bold yellow" if line.startswith(MARK) else "")


def _findings(document: Document, width: int, room: int) -> list[Text]:
    found = document.snapshot.findings[:room]
    table = Table(columns("finding", "", ">"))
    for one in found:
        table.add(one.rule, one.severity, one.summary)
    return _styled(table, width, [STYLES.get(one.severity, "") for one in found])


def _stalls(document: Document, width: int, room: int) -> list[Text]:
    """Draw what stalled the loops, by total time."""
    by_culprit: dict[tuple[str, str, str], list[Stall]] = {}
    for stall in document.snapshot.stalls:
        by_culprit.setdefault((culprit(stall), stall.call or "", stall.cause), []).append(stall)
    table = Table(columns("<stalled by", ">call", "cause", "=times", "=in all", "=worst", "=~last"))
    ranked = sorted(by_culprit.items(), key=lambda one: -sum(stall.duration for stall in one[1]))
    for (function, call, cause), stalls in ranked[:room]:
        durations = [stall.duration for stall in stalls]
        last = ago(max(stall.started_at for stall in stalls), document.snapshot.taken_at)
        times = number(len(stalls))
        table.add(function, call, cause, times, span(sum(durations)), span(max(durations)), last)
    return _styled(table, width, [])


def _sites(document: Document, width: int, room: int) -> list[Text]:
    table = Table(
        columns("<tasks created by", "=live", "=oldest", "=created", "=ok", "=error", "=~cancelled")
    )
    for site in document.sites[:room]:
        counts = map(number, (site.created, site.ok, site.error, site.cancelled))
        table.add(site.site.name, number(site.live), span(site.oldest), *counts)
    return _styled(table, width, [])


def _pools(document: Document, width: int, room: int) -> list[Text]:
    pools = list(POOLS.rows(document))[:room]
    table = Table(columns("<pool", "~kind", "=used", "=max", "=waiting", "=longest", "=~p99", "=timeouts"))
    for pool in pools:
        longest = span(pool.oldest_wait or None)
        numbers = number(pool.used), number(pool.max), number(pool.pending), longest
        table.add(pool.label, pool.kind, *numbers, span(pool.wait_p99), number(pool.timeouts))
    return _styled(table, width, [POOLS.style(pool) for pool in pools])


def _styled(table: Table, width: int, styles: Sequence[str]) -> list[Text]:
    """Lay a table out, its heading bold; nothing if it has no rows."""
    if not table.rows:
        return []
    heading, *rows = [cut(line, width) for line in table.lines(width)]
    drawn = (Text(row, style) for row, style in zip(rows, styles or [""] * len(rows), strict=True))
    return [Text(heading, "bold cyan"), *drawn]


SECTIONS: tuple[Section, ...] = (_findings, _stalls, _sites, _pools)


def _below(sections: Sequence[Section], document: Document, width: int, room: int) -> list[Text]:
    """Return the sections one below the other: each gets its share of the room left by those before it.

    If there is too little room for all, the first ones get a row each.
    """
    lines: list[Text] = []
    for at, section in enumerate(sections):
        left = room - len(lines)
        if left < ONE_ROW:
            break
        drawn = section(document, width, max(1, left // (len(sections) - at) - 2))
        lines += [Text(), *drawn] if drawn else []
    return lines


def _beside(left: Sequence[Text], right: Sequence[Text], half: int) -> list[Text]:
    """Return two columns as one."""
    lines = []
    for one, other in zip_longest(left, right, fillvalue=Text()):
        line = one.copy()
        line.append(" " * (half + GAP - line.cell_len))
        line.append_text(other)
        lines.append(line)
    return lines
