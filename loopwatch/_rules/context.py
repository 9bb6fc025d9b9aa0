"""LW4xx: contexts lost on the way from one function to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopwatch._agent_records import Lost
from loopwatch.facts import OTHER

from .rule import WINDOW, Rule, Symptom, View
from .stand import own_frame
from .words import period, place, times

CALM = 300.0
"""Seconds, as for other losses: long enough for somebody to come and look."""


def _lost(view: View) -> Iterator[Symptom]:
    """Say what is lost between which functions. The agent reports each pair once, but counts each loss."""
    increases = view.increases("task_context_lost")
    since = view.now.taken_at - WINDOW
    pairs: dict[str, list[Lost]] = {}
    for one in view.now.lost:
        if one.reason == "context_lost":
            pairs.setdefault(one.site.name, []).append(one)
    for function, known in pairs.items():
        recent = [one for one in known if one.lost_at > since]
        count = max(round(increases.get((function,), 0.0)), len(recent))
        if count and function != OTHER:
            yield _symptom(function, known, recent or known, count, period(view.seconds))


def _symptom(function: str, known: Sequence[Lost], told: Sequence[Lost], count: int, when: str) -> Symptom:
    last = told[-1]
    missing = sorted({name for one in told for name in one.missing})
    frame = own_frame(last.await_stack)
    work = f"`{last.coroutine}`" if frame is None or frame.function != last.coroutine else ""
    seen = " at ".join(filter(None, (work, place(frame) if frame else "")))
    others = len({(one.coroutine, one.await_stack) for one in known}) - 1
    further = "" if not others else f"; so do {others} other places" if others > 1 else "; so does one other"
    return Symptom(
        rule="LW401",
        key=(function,),  # without the places, which may differ in another minute
        severity="warning",
        summary=f"{seen} runs without {' and '.join(missing)}, which "
        f"{place(last.site)} had as it handed that over: {times(count)} {when}"
        f"{further}",
        evidence={"works": count, "variables": len(missing), "places": others + 1},
        fix="hand the context over with the work: asyncio.to_thread(f) instead of run_in_executor(None, f); "
        "executor.submit(contextvars.copy_context().run, f); queue.put(loopwatch.carry(item)) and "
        "`with loopwatch.restore(await queue.get()) as item` in the worker",
        count=count,
    )


CONTEXT: tuple[Rule, ...] = (Rule("LW401", "Context lost", "warning", _lost, looks=1, calm=CALM),)
