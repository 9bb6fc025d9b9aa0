"""A source of records that a test fills, and the commands that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from loopwatch._agent_records import Finding, Loop, Lost, Pool, Snapshot, Stall, Waiting
from loopwatch._console.commands import Commands
from loopwatch._document import Document, Process
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch._records import DrainReport, Frame, Task
from loopwatch.testing import FakeClock
from tests.records import borrower, lost, pool, stall, task, waiter

HANDLE = Frame("Service.handle", "shop.service", "/srv/shop/service.py", 42)
PARSE = Frame("parse", "shop.answers", "/srv/shop/answers.py", 7)
LOADS = Frame("loads", "json", "/usr/lib/python3/json/__init__.py", 346)

LOOP = Loop("main", "asyncio", True, 0.0004, 0.012, 0.35, 0.42, 1234, 0.0, 3, 7)
STALL = stall(
    0.612,
    started_at=999_990.0,
    culprit=PARSE,
    call="json.loads",
    stack=(HANDLE, PARSE, LOADS),
    task_name="Task-7",
    coroutine="Service.handle",
    context={"request_id": "r-9"},
    trace_id="4bf92f",
    span_id="00f067",
    evidence={"cpu_s": 0.6, "gc_s": 0.0},
    samples=60,
    id=1,
)
TASK = task(
    100.0,
    site=HANDLE,
    coroutine="Service.work",
    name="worker-1",
    parent="Service.handle",
    started_at=999_900.0,
    context={"request_id": "r-1"},
    await_stack=(HANDLE, Frame("Queue.get", "asyncio.queues", "/usr/lib/asyncio/queues.py", 158)),
    waiting_on="Queue.get",
    id=11,
)
LOST = lost(
    "leaked",
    site=HANDLE,
    coroutine="Service.poll",
    age=600.0,
    lost_at=999_999.0,
    await_stack=(HANDLE,),
    waiting_on="Event.wait",
    evidence={"ages_s": 600.0},
    task_name="Task-3",
    leak="never_wakes",
)
_WHO: dict[str, Any] = {
    "task_name": "Task-7",
    "coroutine": "Service.work",
    "site": HANDLE,
    "context": {"request_id": "r-9"},
    "await_stack": (HANDLE,),
    "waiting_on": "sleep",
}
POOL = pool(
    "asyncpg",
    "db:5432/shop",
    max=5,
    used=5,
    pending=87,
    oldest_wait=4.2,
    wait_count=2000,
    wait_sum=100.0,
    wait_p99=3.9,
    timeouts=3,
    cancelled=1,
    borrowers=(borrower(12.0, **_WHO), borrower(8.0, gone=True, **_WHO)),
    waiters=(waiter(4.2, **_WHO),),
)
FINDING = Finding(
    rule="LW101",
    severity="critical",
    summary="`json.loads` in `parse` (answers.py:7) blocked the loop 14 times, worst 612 ms.",
    evidence={"stalls": 14.0, "worst_s": 0.612},
    fix="Move it to a process pool: a thread does not help, since the GIL is held.",
    first_seen=999_940.0,
    last_seen=999_999.0,
    count=14,
    docs_url="https://example.org/rules/LW101",
)
WAITING = Waiting("Lock.acquire", PARSE, 12, 1, ("task 'a' (work)", "task 'b' (work)"), ("task 'c' (work)",))


@dataclass
class FakeSource:
    """Says what a test has put there."""

    loops_: list[Loop] = field(default_factory=list)
    stalls_: list[Stall] = field(default_factory=list)
    tasks_: list[Task] = field(default_factory=list)
    lost_: list[Lost] = field(default_factory=list)
    pools_: list[Pool] = field(default_factory=list)
    waits_: list[Waiting] = field(default_factory=list)
    drains_: list[DrainReport] = field(default_factory=list)
    findings_: list[Finding] = field(default_factory=list)
    points: dict[str, tuple[Point, ...]] = field(default_factory=dict)
    asked_for: list[int] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            taken_at=1_000_000.0,
            service_name="shop",
            points=dict(self.points),
            loops=tuple(self.loops_),
            stalls=tuple(self.stalls_),
            lost=tuple(self.lost_),
            pools=tuple(self.pools_),
            findings=tuple(self.findings_),
        )

    def document(self, *, brief: bool = False) -> Document:
        process = Process(1, "3.12.1", "0.1.0", 0.1)
        tasks = () if brief else tuple(self.tasks_)
        return Document(process, self.snapshot(), sites=(), tasks=tasks, waits=())

    def loops(self) -> list[Loop]:
        return self.loops_

    def stalls(self) -> list[Stall]:
        return self.stalls_

    def tasks(self, limit: int) -> list[Task]:
        self.asked_for.append(limit)
        return self.tasks_[:limit]

    def lost(self) -> list[Lost]:
        return self.lost_

    def pools(self) -> list[Pool]:
        return self.pools_

    def waits(self, limit: int) -> list[Waiting]:
        self.asked_for.append(limit)
        return self.waits_

    def drains(self) -> list[DrainReport]:
        return self.drains_


class Desk:
    """Commands, what they ask, and the clock they read."""

    def __init__(self) -> None:
        self.source = FakeSource()
        self.time = FakeClock(wall=1_000_000.0)
        self.journal = Journal()
        self.commands = Commands(self.source, self.journal, self.time.clock)

    def ask(self, line: str, width: int = 100) -> str:
        """Return the answer, which fits, unless it is for programs."""
        answer = self.commands.run(line, width)
        for_programs = answer.startswith('{"version"')
        assert for_programs or all(len(each) <= width for each in answer.split("\n")), answer
        assert all(each.isprintable() for each in answer.split("\n")), ascii(answer)
        return answer

    def rows(self, line: str, width: int = 100) -> list[str]:
        """Return the lines of the answer."""
        return self.ask(line, width).split("\n")

    def fill(self) -> None:
        """Put one of everything there."""
        source = self.source
        source.loops_, source.stalls_, source.tasks_ = [LOOP], [STALL], [TASK]
        source.lost_, source.pools_, source.waits_ = [LOST], [POOL], [WAITING]
        source.findings_ = [FINDING]
        left = replace(TASK, id=0, name="left")
        source.drains_ = [DrainReport((), (left,), (), 8.0, 8.0)]


@pytest.fixture
def desk() -> Desk:
    """Commands on an empty process."""
    return Desk()


@pytest.fixture
def full(desk: Desk) -> Desk:
    """Commands on a process in which there is one of everything."""
    desk.fill()
    return desk


Many = Callable[[int], list[Task]]


@pytest.fixture
def many() -> Many:
    """Make tasks, each younger than the one before."""
    return lambda number: [
        replace(TASK, id=100 + at, name=f"worker-{at}", age=1000.0 - at) for at in range(number)
    ]
