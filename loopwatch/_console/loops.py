"""Commands about event loops: their health, and their stalls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from loopwatch._agent_records import Cause, Stall
from loopwatch._words import ago, number, percent, place, span

from .command import Command, Question, WrongUseError
from .options import number_of, options, values_of
from .parts import culprit_of, evidence, field, more, stack_lines, stall_line, whose
from .tables import Table, columns

BLOCKED_SHOWN = 0.01
"""Seconds for which a loop must have been blocked for the number to be shown."""
_CAUSES = {"cause": ("any", *get_args(Cause))}


def _loop(question: Question) -> Iterator[str]:
    words = options(question.words)
    found = [loop for loop in question.source.loops() if words.keeps(loop.name, loop.kind)]
    if not found:
        yield "No event loop has run yet." if not words.filters else "No loop is called that."
        return
    health = ("=busy", "=~p50", "=p99", "=max 60s", "=blocked", "=ready", "=~timers", "=~turns")
    table = Table(columns("<loop", "kind", *health))
    for loop in found[: words.limit]:
        table.add(
            loop.name,
            loop.kind if loop.running else "stopped",
            percent(loop.utilization),
            span(loop.delay_p50),
            span(loop.delay_p99),
            span(loop.delay_max),
            span(loop.blocked) if loop.blocked >= BLOCKED_SHOWN else "no",
            number(loop.ready),
            number(loop.timers),
            number(loop.iterations),
        )
    yield from table.lines(question.width)
    yield from more(words.limit, len(found), "loops")
    for stall in _newest_first(question.source.stalls()):
        if stall.in_progress:
            yield stall_line(question, stall)


def _stalls(question: Question) -> Iterator[str]:
    words = options(question.words, _CAUSES)
    cause = words.chosen["cause"]
    everything = question.source.stalls()
    found = [
        stall
        for stall in _newest_first(everything)
        if cause in ("any", stall.cause)
        and words.keeps(culprit_of(stall), stall.call, stall.loop_name, whose(stall))
    ]
    if not found:
        yield "No stall is like that." if everything else "No stall so far."
        return
    now = question.desk.clock.wall()
    table = Table(columns("=#", "=began", "=lasted", "cause", "<culprit", ">in", ">loop"))
    for stall in found[: words.limit]:
        table.add(
            str(question.desk.numbers.of("stall", stall.id)),
            ago(stall.started_at, now),
            f"{span(stall.duration)}{'+' if stall.in_progress else ''}",
            stall.cause,
            culprit_of(stall),
            stall.call or "",
            stall.loop_name,
        )
    yield from table.lines(question.width)
    yield from more(words.limit, len(found), "stalls")
    if found[0].in_progress:
        yield "+ goes on right now. `stall N` shows the stack."


def _stall(question: Question) -> Iterator[str]:
    stall = _asked_for(question)
    now, width = question.desk.clock.wall(), question.width
    yield stall_line(question, stall)
    yield from field("began", ago(stall.started_at, now), width)
    if stall.culprit is not None:
        yield from field("culprit", f"{stall.culprit.name} at {place(stall.culprit)}", width)
    yield from field("task", _task_of(stall), width)
    yield from field("context", whose(stall), width)
    yield from field(
        "evidence", f"{evidence(stall.evidence)}, {stall.samples} stacks taken".lstrip(", "), width
    )
    victims = [f"{victim.task_name or '-'} ({victim.coroutine or '-'})" for victim in stall.victims]
    yield from field("kept waiting", ", ".join(victims), width)
    yield "  stack"
    yield from stack_lines(stall.stack, stall.culprit, width)
    if not stall.stack:
        yield "  none could be taken"


def _asked_for(question: Question) -> Stall:
    """Return the stall with the given number; without a number, the one in progress, or else the newest."""
    stalls = _newest_first(question.source.stalls())
    if len(question.words) > 1:
        raise WrongUseError("One at a time: stall N.")
    if question.words:
        key = question.desk.numbers.key("stall", number_of(question.words[0], "stall"))
        found = [stall for stall in stalls if stall.id == key]
        if not found:
            raise WrongUseError(f"There is no stall {question.words[0]} (any more). `stalls` lists them.")
        return found[0]
    if not stalls:
        raise WrongUseError("No stall so far.")
    return stalls[0]


def _task_of(stall: Stall) -> str:
    if stall.coroutine is None:
        return "none: a callback ran"
    return f"{stall.task_name} ({stall.coroutine})" if stall.task_name else stall.coroutine


def _newest_first(stalls: Sequence[Stall]) -> list[Stall]:
    return sorted(stalls, key=lambda stall: (not stall.in_progress, -stall.started_at))


COMMANDS = (
    Command("loop", "[TEXT]", "health of each event loop, and what stalls it now", _loop),
    Command(
        "stalls",
        "[TEXT] [cause=]",
        "the last stalls, newest first",
        _stalls,
        "TEXT has to occur in the culprit, the call, the loop's name or the context.",
        values_of(_CAUSES),
    ),
    Command("stall", "[N]", "one stall: its stack, task and evidence", _stall, "Without N, the newest."),
)
