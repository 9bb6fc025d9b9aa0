"""Records of a program that there never was: what a test does not say of one is nothing special."""

from __future__ import annotations

from typing import Any

from loopwatch._agent_records import Borrower, Lost, LostReason, Pool, PoolWaiter, Stall
from loopwatch._records import Frame, Task

SITE = Frame("start", "app", "/srv/app.py", 10)
_NO_TRACE: dict[str, Any] = {"context": {}, "trace_id": None, "span_id": None}


def stall(duration: float = 0.3, **said: Any) -> Stall:
    """Return a stall that is over."""
    rest = {
        "started_at": 0.0,
        "cause": "cpu",
        "culprit": None,
        "call": None,
        "stack": (),
        "task_name": None,
        "coroutine": None,
        "victims": (),
        "evidence": {},
        "in_progress": False,
        "samples": 1,
        "loop_name": "main",
    }
    return Stall(duration=duration, **(rest | _NO_TRACE | said))


def task(age: float = 1.0, **said: Any) -> Task:
    """Return a task that lives."""
    rest = {
        "site": SITE,
        "coroutine": "work",
        "name": None,
        "parent": None,
        "state": "pending",
        "unretrieved": False,
        "started_at": 0.0,
        "duration": None,
        "exception": None,
        "await_stack": (),
        "waiting_on": None,
        "daemon": False,
        "loop_name": "main",
    }
    return Task(age=age, **(rest | _NO_TRACE | said))


def lost(reason: LostReason, **said: Any) -> Lost:
    """Return a loss."""
    rest = {
        "site": SITE,
        "coroutine": "work",
        "age": 1.0,
        "lost_at": 0.0,
        "exception": None,
        "await_stack": (),
        "waiting_on": None,
        "evidence": {},
    }
    return Lost(reason=reason, **(rest | _NO_TRACE | said))


def pool(kind: str, label: str, **said: Any) -> Pool:
    """Return a pool that nobody has used yet; of its size nothing is known."""
    rest = {
        "max": None,
        "used": 0,
        "idle": 0,
        "connecting": 0,
        "pending": 0,
        "oldest_wait": 0.0,
        "wait_count": 0,
        "wait_sum": 0.0,
        "wait_p99": None,
        "timeouts": 0,
        "rejected": 0,
        "cancelled": 0,
        "instances": 1,
        "created": 1,
        "borrowers": (),
        "waiters": (),
    }
    return Pool(kind=kind, label=label, **(rest | said))


def borrower(held: float, **said: Any) -> Borrower:
    """Return who has a connection."""
    return Borrower(held=held, **({"gone": False} | _NOBODY | said))


def waiter(waited: float, **said: Any) -> PoolWaiter:
    """Return who waits for one."""
    return PoolWaiter(waited=waited, **(_NOBODY | said))


_NOBODY: dict[str, Any] = _NO_TRACE | {
    "task_name": None,
    "coroutine": None,
    "site": None,
    "await_stack": (),
    "waiting_on": None,
}
