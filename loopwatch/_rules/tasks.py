"""LW2xx: tasks that were lost, or will not finish.

A loss that is over (a task destroyed, an exception that nobody read, a coroutine dropped) is a symptom for as
long as it lies in the window. A loss that lives on (a leak, a deadlock) is one for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loopwatch._agent_records import Lost

from .loss_groups import Kind, living, oldest, recent
from .rule import WINDOW, Rule, Symptom, View
from .stand import own_frame, stands
from .words import period, place, span, times

REMEMBERED = 300.0
"""Seconds for which a loss that is over remains a finding: long enough for somebody to come and look."""
ENDS = 4
"""Tasks of a deadlock that are named."""
TOGETHER = 1.0
"""Seconds within which the tasks of one deadlock are reported."""


def _lately(view: View) -> str:
    return period(min(WINDOW, view.seconds))


def _destroyed(view: View) -> Iterator[Symptom]:
    unheld = {group.kind for group in living(view, "unreferenced")}
    for group in recent(view, "destroyed_pending"):
        last = group.last
        was = "was" if group.count == 1 else "were"
        yield group.symptom(
            "LW201",
            f"{group.tasks}, {was} garbage-collected while pending {_lately(view)}: "
            f"the last one stood {stands(last.await_stack, last.waiting_on)}",
            fix="hold the task until it is done: start it with loopwatch.spawn() or in an asyncio.TaskGroup, "
            "or keep it in a set of your own; asyncio holds tasks only weakly",
            evidence={"destroyed": group.count, "age_s": last.age},
            because="LW204" if group.kind in unheld else None,
        )


def _unretrieved(view: View) -> Iterator[Symptom]:
    for group in recent(view, "unretrieved_exception"):
        last = group.last
        raised = own_frame(last.await_stack)
        where = f", raised at {place(raised)}" if raised else ""
        yield group.symptom(
            "LW202",
            f"{group.tasks}, died of {last.exception}{where}, and nobody asked for the "
            f"exception ({times(group.count)} {_lately(view)})",
            fix="await the task, or start it with loopwatch.spawn(), which logs the failure at once; then "
            f"mend what raises {last.exception}",
            evidence={"exceptions": group.count, "age_s": last.age},
        )


def _never_awaited(view: View) -> Iterator[Symptom]:
    for group in recent(view, "never_awaited"):
        last = group.last
        yield group.symptom(
            "LW203",
            f"coroutine `{last.coroutine}`, dropped by {place(last.site)}, was never awaited "
            f"({times(group.count)} {_lately(view)}): none of its code ran",
            fix=f"write `await {last.coroutine.rpartition('.')[2]}(...)`, or start it as a task that "
            "somebody holds: loopwatch.spawn() or an asyncio.TaskGroup",
            evidence={"dropped": group.count},
        )


def _unreferenced(view: View) -> Iterator[Symptom]:
    for group in living(view, "unreferenced"):
        is_are = "is" if group.count == 1 else "are"
        yield group.symptom(
            "LW204",
            f"{group.tasks}, {is_are} held by nothing and may be garbage-collected any "
            f"time: {group.last_stands}",
            fix="hold the task until it is done: start it with loopwatch.spawn() or in an asyncio.TaskGroup, "
            "or keep it in a set of your own",
            evidence={"tasks": group.count, **oldest(view, group.losses)},
        )


def _deadlocks(view: View) -> Iterator[Symptom]:
    alive = round(view.values("task_leaked").get(("deadlock",), 0.0))
    kinds: dict[Kind, list[Sequence[Lost]]] = {}
    for cycle in _cycles([one for one in view.now.lost if one.leak == "deadlock"][-alive:] if alive else []):
        names = {name for one in cycle for name in (one.site.name, one.coroutine)}
        kinds.setdefault(tuple(sorted(names)), []).append(cycle)
    for kind, cycles in kinds.items():
        last = cycles[-1]
        behind = last[-1].evidence.get("tasks_behind", 0.0)
        yield Symptom(
            rule="LW205",
            key=kind,
            severity="critical",
            summary=f"deadlock: {'; '.join(map(_end_of_cycle, last[:ENDS]))}"
            f"{f'; and {len(last) - ENDS} more tasks' if len(last) > ENDS else ''}"
            f"{f'; {behind:.0f} further tasks wait behind them' if behind else ''}",
            evidence={
                "tasks_in_cycle": last[-1].evidence.get("tasks_in_cycle", len(last)),
                "tasks_behind": behind,
                "deadlocks": len(cycles),
                **oldest(view, last),
            },
            fix="take the locks in the same order everywhere, or hold one lock for both; until then put "
            "`async with asyncio.timeout(...)` around the waits, so that one of them gives up",
            count=len(cycles),
        )


def _cycles(losses: Iterable[Lost]) -> Iterator[Sequence[Lost]]:
    """Split tasks into deadlocks: those of one are reported together, each before the one it waits for."""
    cycle: list[Lost] = []
    for one in losses:
        if cycle and (len(cycle) >= _size(cycle[0]) or one.lost_at - cycle[-1].lost_at > TOGETHER):
            yield cycle
            cycle = []
        cycle.append(one)
    if cycle:
        yield cycle


def _size(lost: Lost) -> float:
    return lost.evidence.get("tasks_in_cycle", 1.0)


def _end_of_cycle(lost: Lost) -> str:
    name = f"{lost.task_name!r} (`{lost.coroutine}`)" if lost.task_name else f"`{lost.coroutine}`"
    return f"task {name} stands {stands(lost.await_stack, lost.waiting_on)}"


def _leaks(view: View) -> Iterator[Symptom]:
    for group in living(view, "cancel_only", "site_growth"):
        last = group.last
        why = "only a cancellation would end them" if last.leak == "cancel_only" else "none of them ends"
        yield group.symptom(
            "LW206",
            f"{group.tasks}, leak: more and more live, and {why}; {group.last_stands}",
            fix=_wake(
                last,
                "cancel each one when its work is over, as an asyncio.TaskGroup or "
                "`asyncio.timeout(...)` does; declare those meant to live with loopwatch.daemon()",
            ),
            evidence={"tasks": group.count, **oldest(view, group.losses), **last.evidence},
        )


def _stuck(view: View) -> Iterator[Symptom]:
    for group in living(view, "never_wakes", "overage"):
        last = group.last
        usual = last.evidence.get("usual_p99_s")
        why = (
            "nothing can wake it"
            if last.leak == "never_wakes"
            else f"others of its site take no more than {span(usual or 0.0)}"
        )
        is_are = "is" if group.count == 1 else "are"
        yield group.symptom(
            "LW207",
            f"{group.tasks}, {is_are} stuck: {group.last_stands}; {why}",
            fix=_wake(
                last,
                "bound the wait with `asyncio.timeout(...)`; declare what is meant to live long "
                "with loopwatch.daemon()",
            ),
            evidence={"tasks": group.count, **oldest(view, group.losses), **last.evidence},
        )


_WAKERS = {
    "Event.": "call set() on the event",
    "Queue.get": "put something into the queue, or shut it down at the end",
    "Queue.put": "keep a consumer at the queue",
    "Lock.": "release the lock on every way out: `async with lock:`",
    "Semaphore.": "release the semaphore on every way out: `async with semaphore:`",
    "Condition.": "call notify() on the condition",
    "future": "set the result of the future on every way out, failures included",
}
"""What would end the wait, by the beginning of ``waiting_on``."""


def _wake(lost: Lost, otherwise: str) -> str:
    """Write what would wake a task, and what to do if nothing can."""
    waits = (lost.waiting_on or "").removeprefix("Bounded")
    remedy = next((remedy for wait, remedy in _WAKERS.items() if waits.startswith(wait)), None)
    return f"{remedy}; or {otherwise}" if remedy else otherwise


TASKS: tuple[Rule, ...] = (  # one look each: a reported loss is proven
    Rule("LW201", "Lost task", "warning", _destroyed, looks=1, calm=REMEMBERED),
    Rule("LW202", "Exception that nobody asked for", "warning", _unretrieved, looks=1, calm=REMEMBERED),
    Rule("LW203", "Coroutine never awaited", "warning", _never_awaited, looks=1, calm=REMEMBERED),
    Rule("LW204", "Task without a strong reference", "warning", _unreferenced, looks=1),
    Rule("LW205", "Deadlock", "critical", _deadlocks, looks=1),
    Rule("LW206", "Leaked tasks", "warning", _leaks, looks=1),
    Rule("LW207", "Stuck task", "warning", _stuck, looks=1),
)
