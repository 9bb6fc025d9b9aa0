"""The command ``top``: what has changed most since an earlier look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loopwatch._words import number, percent, span

from .command import Command, Question, WrongUseError
from .looks import Labels, Look
from .options import Options, options
from .parts import stall_line
from .tables import Table, columns

ROWS = 8
"""Rows of each table, unless ``limit`` says otherwise."""


def _top(question: Question) -> Iterator[str]:
    words, seconds = _asked(question)
    looks = question.desk.looks
    before = looks.before(seconds)
    snapshot = question.source.snapshot()
    now = looks.take(snapshot)
    window = max(now.at - before.at, 0.001)
    since = "since loopwatch was installed" if looks.is_first(before) else "since an earlier look"
    yield f"Changes in {span(window)}, {since}; the next `top` is about the time from now on."
    yield from (stall_line(question, stall) for stall in snapshot.stalls if stall.in_progress)
    tables = (
        _loops(now, before, words),
        _culprits(now, before, window, words),
        _tasks(now, before, window, words),
        _pools(now, before, window, words),
    )
    for table in tables:
        if table.rows:
            yield ""
            yield from table.lines(question.width)
    if not any(table.rows for table in tables):
        yield "Nothing has changed" + (" of that name." if words.filters else ".")


def _asked(question: Question) -> tuple[Options, float | None]:
    """Return the options, and the number of seconds if the words begin with one."""
    words = list(question.words)
    seconds = None
    if words and words[0][:1].isdigit():
        try:
            seconds = float(words.pop(0).removesuffix("s"))
        except ValueError:
            raise WrongUseError("top [SECONDS] [TEXT], such as `top 60`.") from None
        if not 0 < seconds < 1e9:
            raise WrongUseError("That is no number of seconds: give 1 or more.")
    return options(words, limit=ROWS), seconds


def _loops(now: Look, before: Look, words: Options) -> Table:
    table = Table(columns("<loop", "=busy", "=delay p50", "=p99", "=timers late"))
    grown = _grown(now.numbers("loop_time"), before.numbers("loop_time"))
    earlier = before.histograms("delay")
    for (loop,), delay in now.histograms("delay").items():
        active, idle = grown.get((loop, "active"), 0.0), grown.get((loop, "idle"), 0.0)
        passed = delay.since(earlier.get((loop,)))
        if passed.count and words.keeps(loop):
            busy = percent(active / (active + idle)) if active + idle else "-"
            table.add(loop, busy, span(passed.quantile(0.5)), span(passed.quantile(0.99)), span(passed.sum))
    return table


def _culprits(now: Look, before: Look, window: float, words: Options) -> Table:
    table = Table(columns("=lost", "=of time", "cause", "<in stalls by", ">loop"))
    grown = _grown(now.numbers("block_time"), before.numbers("block_time"))
    for (loop, function, cause), seconds in _most(grown, words):
        table.add(span(seconds), percent(seconds / window), cause, function, loop)
    return table


def _tasks(now: Look, before: Look, window: float, words: Options) -> Table:
    table = Table(columns("=created/s", "=ended/s", "=errors", "=cancelled", "=live", "=change", "<by"))
    created = _grown(now.numbers("task_created"), before.numbers("task_created"))
    finished = _grown(now.numbers("task_finished"), before.numbers("task_finished"))
    live, was = now.numbers("task_site_count"), before.numbers("task_site_count")
    moved = {
        site: created.get(site, 0.0) + sum(finished.get((outcome, *site), 0.0) for outcome in _OUTCOMES)
        for site in created.keys() | live.keys()
    }
    for site, _ in _most(moved, words):
        ended = {outcome: finished.get((outcome, *site), 0.0) for outcome in _OUTCOMES}
        change = live.get(site, 0.0) - was.get(site, 0.0)
        table.add(
            number(created.get(site, 0.0) / window),
            number(sum(ended.values()) / window),
            number(ended["error"]),
            number(ended["cancelled"]),
            number(live.get(site, 0.0)),
            f"{'+' if change > 0 else ''}{change:.0f}",
            site[0],
        )
    return table


def _pools(now: Look, before: Look, window: float, words: Options) -> Table:
    table = Table(columns("=acquires/s", "=waited", "=mean", "=failed", "kind", "<pool"))
    grown = {
        pool: tuple(a - b for a, b in zip(counts, before.pools.get(pool, (0.0, 0.0, 0.0)), strict=True))
        for pool, counts in now.pools.items()
    }
    waited = {pool: seconds + failed for pool, (count, seconds, failed) in grown.items() if count or failed}
    for pool, _ in _most(waited, words, least=-1.0):
        count, seconds, failed = grown[pool]
        mean = span(seconds / count) if count else "-"
        table.add(number(count / window), span(seconds), mean, number(failed), *pool)
    return table


def _grown(now: Mapping[Labels, float], before: Mapping[Labels, float]) -> dict[Labels, float]:
    return {labels: value - before.get(labels, 0.0) for labels, value in now.items()}


def _most(
    values: Mapping[Labels, float], words: Options, *, least: float = 0.0
) -> list[tuple[Labels, float]]:
    found = [(labels, value) for labels, value in values.items() if value > least and words.keeps(*labels)]
    return sorted(found, key=lambda each: -each[1])[: words.limit]


_OUTCOMES = ("ok", "error", "cancelled")

COMMANDS = (
    Command(
        "top",
        "[SECONDS] [TEXT]",
        "what changed most: loops, stalls, tasks, pools",
        _top,
        "Since the last `top`, or since the look nearest to SECONDS ago; the first time, since the start.",
    ),
)
