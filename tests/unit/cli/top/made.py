"""Documents as a program in trouble would give them, for the tests of what shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from loopwatch._agent_records import Finding, Loop, Lost, Pool, Snapshot, Stall, Waiting
from loopwatch._document import Document, Process, TaskSite
from loopwatch._measures import Distribution, Point
from loopwatch._records import DrainReport, Frame, Task
from tests import records

NOW = 1_800_000_000.0
PARSE = Frame("Answer.parse", "shop.answers", "/srv/shop/answers.py", 12)
HANDLE = Frame("handle", "shop.app", "/srv/shop/app.py", 42)
STACK = (Frame("Handle._run", "asyncio.events", "/lib/asyncio/events.py", 84), HANDLE, PARSE)


def stall(serial: int = 1, *, duration: float = 0.45, **changes: Any) -> Stall:
    made = records.stall(
        duration,
        started_at=NOW - 10.0 + serial,
        culprit=PARSE,
        call="json.loads",
        stack=STACK,
        task_name="document-17",
        coroutine="handle",
        context={"request_id": "r-17"},
        evidence={"cpu_s": 0.4},
        samples=3,
        id=serial,
    )
    return replace(made, **changes)


def task(serial: int, *, age: float = 60.0, **changes: Any) -> Task:
    made = records.task(
        age,
        site=HANDLE,
        name=f"job-{serial}",
        started_at=NOW - age,
        await_stack=(HANDLE, Frame("Lock.acquire", "asyncio.locks", "/lib/asyncio/locks.py", 5)),
        waiting_on="Lock.acquire",
        id=serial,
    )
    return replace(made, **changes)


def site(function: str, live: int, **changes: Any) -> TaskSite:
    made = TaskSite(
        Frame(function, "shop.app", "/srv/shop/app.py", live), live, 100, 90, 5, 1, 33.0, 0.5, 2.0
    )
    return replace(made, **changes)


def lost(**changes: Any) -> Lost:
    made = records.lost(
        "unretrieved_exception",
        site=HANDLE,
        coroutine="store",
        age=3.0,
        lost_at=NOW - 5.0,
        exception="ValueError",
        await_stack=(HANDLE,),
    )
    return replace(made, **changes)


def pool(label: str = "db", used: int = 5, pending: int = 7) -> Pool:
    whose = {"site": HANDLE, "await_stack": (HANDLE,), "waiting_on": "recv"}
    return records.pool(
        "asyncpg",
        label,
        max=5,
        used=used,
        idle=5 - used,
        pending=pending,
        oldest_wait=4.2 if pending else 0.0,
        wait_count=100,
        wait_sum=50.0,
        wait_p99=4.0,
        timeouts=3,
        rejected=None,
        cancelled=None,
        borrowers=(records.borrower(9.0, task_name="holder", coroutine="report", **whose),),
        waiters=(records.waiter(4.0, task_name="waiter", coroutine="ask", **whose),),
    )


def finding(rule: str = "LW301", **changes: Any) -> Finding:
    made = Finding(
        rule=rule,
        severity="critical",
        summary=f"pool db is full: 7 wait ({rule})",
        evidence={"oldest_wait_s": 4.2, "pending": 7.0},
        fix="raise max_connections above 5, or bound the jobs",
        first_seen=NOW - 60.0,
        last_seen=NOW - 1.0,
        count=14,
        docs_url=f"https://example/{rule}",
    )
    return replace(made, **changes)


def drain() -> DrainReport:
    return DrainReport((task(90),), (task(91),), (task(92),), 8.0, 8.0)


def loop(**changes: Any) -> Loop:
    made = Loop("main", "asyncio", True, 0.001, 0.02, 0.45, 0.4, 1000, 0.0, 0, 3)
    return replace(made, **changes)


def document(at: float = NOW, **changes: Any) -> Document:
    """Return a document with something of each kind; ``changes`` are of the snapshot or of the document."""
    of_snapshot = {
        "taken_at": at,
        "service_name": "shop",
        "points": {},
        "loops": (loop(),),
        "stalls": (stall(1), stall(2, duration=0.9), stall(3, duration=0.2, in_progress=True)),
        "lost": (lost(),),
        "pools": (pool("cache", 1, 0), pool("db")),
        "findings": (finding(), finding("LW101", severity="warning", because="LW301")),
        "drains": (drain(),),
    }
    of_document = {
        "process": Process(77, "3.12.1", "0.1.0", 0.1),
        "sites": (site("crawl", 30), site("store", 2)),
        "tasks": (task(1, age=90.0), task(2, age=60.0), task(3, age=30.0)),
        "waits": (Waiting("Lock.acquire", HANDLE, 3, 1, ("job-1 (work)",), ("job-9 (work)",)),),
        "workers": (77,),
    }
    for name, value in changes.items():
        (of_snapshot if name in of_snapshot else of_document)[name] = value
    return Document(snapshot=Snapshot(**of_snapshot), **of_document)


def empty(at: float = NOW) -> Document:
    """Return the document of a program in which nothing has happened."""
    nothing: Any = ()
    names = ("loops", "stalls", "lost", "pools", "findings", "drains", "sites", "tasks", "waits")
    return document(at, **dict.fromkeys(names, nothing))


def measured(at: float, delays: tuple[int, ...], active: float, idle: float, **changes: Any) -> Document:
    """Return a document whose loop has counted so many delays in each of the buckets up to 0.01, 0.1, 1 s."""
    delay = Distribution((0.01, 0.1, 1.0), (*delays, 0), 1.0)
    points = {
        "delay": (Point(("main",), delay),),
        "loop_time": (Point(("main", "active"), active), Point(("main", "idle"), idle)),
    }
    return document(at, points=points, **changes)
