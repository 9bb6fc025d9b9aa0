"""What rules look at: a program that runs, seen from another thread as the watchdog does; or made up."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from loopwatch import Agent
from loopwatch._agent_records import Borrower, Lost, LostReason, Pool, PoolWaiter, Severity, Snapshot, Stall
from loopwatch._measures import Distribution, Point
from loopwatch._records import Frame
from loopwatch._rules.context import CONTEXT
from loopwatch._rules.executors import EXECUTORS
from loopwatch._rules.pools import POOLS
from loopwatch._rules.rule import Rule, Symptom, View
from loopwatch._rules.tasks import TASKS
from loopwatch.facts import BUCKETS, BY_STEM

from . import records

RULES = (*TASKS, *POOLS, *EXECUTORS, *CONTEXT)
NOW = 1_000_000.0
SECRET = "hunter2"
"""The value of a variable of the user's: no symptom may have it."""
PATIENCE = 120.0
"""Seconds after which a test gives up."""


def empty(at: float) -> Snapshot:
    """Return what is known at the start."""
    return Snapshot(at, "test", {}, (), (), ())


def symptoms(now: Snapshot, before: Snapshot | None = None, rules: Sequence[Rule] = RULES) -> list[Symptom]:
    """Return what all rules see and would tell, in the first minute if no earlier snapshot is given."""
    view = View(now, before or empty(now.taken_at - 60.0))
    found = [symptom.written() for rule in rules for symptom in rule.look(view)]
    severities = get_args(Severity)
    for symptom in found:
        rule = next(rule for rule in rules if rule.id == symptom.rule)
        highest = severities.index(rule.severity)
        assert max(severities.index(symptom.severity), severities.index(symptom.holds)) <= highest
        assert SECRET not in repr(symptom)
        assert symptom.count >= 1
        assert "\n" not in symptom.summary
    assert len({(symptom.rule, symptom.key) for symptom in found}) == len(found)
    return [symptom for symptom in found if not symptom.faint]


async def look(agent: Agent) -> list[Symptom]:
    """Take a snapshot in another thread, which is none of an executor's, and return what the rules see."""
    loop = asyncio.get_running_loop()
    taken: asyncio.Future[Snapshot] = loop.create_future()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(taken.set_result, agent.snapshot()))
    thread.start()
    found = await taken
    thread.join()
    return symptoms(found)


async def until_seen(agent: Agent, rule: str) -> list[Symptom]:
    """Look until a rule sees something; return all that is seen then."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await look(agent)
            if any(one.rule == rule for one in found):
                return found
            await asyncio.sleep(0.05)


def frame(function: str, line: int = 1, file: str = "/srv/app.py", module: str = "app") -> Frame:
    """Return a place in application code."""
    return Frame(function, module, file, line)


def lost(reason: LostReason, coroutine: str = "poll", *, ago: float = 5.0, **more: Any) -> Lost:
    """Return a loss of ``ago`` seconds before ``NOW``."""
    given = {
        "site": frame("start", 10),
        "context": {"user": SECRET},
        "await_stack": (frame("start", 11), frame(coroutine, 20)),
        "task_name": "Task-7",
    }
    return records.lost(reason, coroutine=coroutine, lost_at=NOW - ago, **{**given, **more})


def pool(kind: str = "httpcore", label: str = "app.clients:42", **more: Any) -> Pool:
    """Return a pool of ten, of which none is in use; who uses it is not known."""
    return records.pool(kind, label, **{"max": 10, "borrowers": None, "waiters": None, **more})


def borrower(coroutine: str | None = "analyse", held: float = 2.0, **more: Any) -> Borrower:
    """Return who has a connection and reads from its socket."""
    return records.borrower(held, **_user(coroutine, **more))


def waiter(coroutine: str = "analyse", waited: float = 2.0, **more: Any) -> PoolWaiter:
    """Return who waits for one."""
    return records.waiter(waited, **_user(coroutine, **{"await_stack": (frame("asks", 90),), **more}))


def _user(coroutine: str | None, **more: Any) -> dict[str, Any]:
    return {
        "task_name": "Task-9",
        "coroutine": coroutine,
        "site": frame("start", 10),
        "context": {"user": SECRET},
        "await_stack": (frame("handle", 30), frame("analyse", 42)) if coroutine else (),
        "waiting_on": "StreamReader.read" if coroutine else None,
        **more,
    }


def stall(seconds: float, cause: Any = "cpu") -> Stall:
    """Return a stall that has just ended."""
    return records.stall(seconds, started_at=NOW - seconds, cause=cause, culprit=frame("parse"))


def waits(*seconds: float) -> Distribution:
    """Return a histogram of waits."""
    counts = [0] * (len(BUCKETS) + 1)
    for one in seconds:
        counts[bisect_left(BUCKETS, one)] += 1
    return Distribution(BUCKETS, tuple(counts), sum(seconds))


Value = float | Distribution


def snapshot(
    *, at: float = NOW, points: Mapping[tuple[str, ...], Value] | None = None, **more: Any
) -> Snapshot:
    """Return a snapshot; ``points`` are by stem and labels, in one tuple."""
    by_stem: dict[str, tuple[Point, ...]] = {}
    for (stem, *labels), value in (points or {}).items():
        assert stem in BY_STEM, stem
        assert len(labels) == len(BY_STEM[stem].labels), (stem, labels)
        by_stem[stem] = (*by_stem.get(stem, ()), Point(tuple(labels), value))
    given: dict[str, Any] = {"loops": (), "stalls": (), "lost": (), "pools": ()}
    return Snapshot(at, "test", by_stem, **{**given, **more})
