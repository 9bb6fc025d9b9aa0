"""What an agent says, as frozen records: the vocabulary every layer shares.

Times of day are Unix seconds, spans of time are seconds. ``None`` means "not known here", never zero.

Apart from ``_records``, since making these classes takes about as long as ``import loopwatch`` without them,
asyncio's own import aside. They are loaded with the agent, or when one is asked for: ``loopwatch.Stall``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ._measures import Point
from ._records import DrainReport, Frame

Cause = Literal["cpu", "blocking", "flood", "gc", "gil", "starved", "suspended", "unknown"]
"""Why a loop was not served; ``docs/explanation/causes.md`` says how that is decided."""

LostReason = Literal[
    "destroyed_pending",
    "unretrieved_exception",
    "never_awaited",
    "unreferenced",
    "leaked",
    "deadlock",
    "context_lost",
]

LeakReason = Literal["unreferenced", "deadlock", "never_wakes", "cancel_only", "site_growth", "overage"]

LoopKind = Literal["asyncio", "uvloop", "other"]

Severity = Literal["info", "warning", "critical"]
"""Of a finding: good to know, to be fixed some day, noticed by users now."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A task that was ready to run while its loop was stalled by another."""

    task_name: str | None
    coroutine: str | None
    trace_id: str | None
    span_id: str | None = None
    trace_flags: int | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """One stretch of time in which a loop could not run what was ready."""

    duration: float
    """Seconds; of a stall in progress, seconds so far."""
    started_at: float
    """Unix time."""
    cause: Cause
    culprit: Frame | None
    """The innermost frame of application code in the stack seen most; for cause ``gil`` that of the thread
    that held the GIL. None when no such frame was caught."""
    call: str | None
    """What the culprit was calling, as its source has it, such as ``json.loads``; None if it was no call."""
    stack: tuple[Frame, ...]
    """Innermost last, from the loop's ``run_forever`` inwards."""
    task_name: str | None
    """None outside of tasks, and on Python 3.13 for a task that a factory made and nobody named."""
    coroutine: str | None
    """Qualified name of the task's coroutine function; None when a plain callback ran."""
    context: Mapping[str, str]
    """The watched variables of that task."""
    trace_id: str | None
    """OpenTelemetry trace the task ran under, in hex."""
    span_id: str | None
    victims: tuple[Victim, ...]
    """Up to 10 of the tasks that were ready to run but had to wait."""
    evidence: Mapping[str, float]
    """The numbers the cause rests on; names ending in ``_s`` are seconds within the stall's window."""
    in_progress: bool
    samples: int
    """Number of stacks sampled during the stall; 0 means that the culprit could not be seen."""
    loop_name: str
    trace_flags: int | None = None
    """W3C Trace Context flags: odd if the trace is sampled, so that it can be looked up. The same holds
    wherever they stand beside a ``trace_id``."""
    id: int = 0
    """The same in every reading, in progress or over, and unique among the stalls of this process."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Health of one watched loop since it was first seen, under the name its series carry."""

    name: str
    """``main``, or the name of the thread it runs in."""
    kind: LoopKind
    running: bool
    delay_p50: float | None
    delay_p99: float | None
    delay_max: float
    """Largest delay of the last 60 seconds."""
    utilization: float | None
    """Share of its running time, 0 to 1, that the loop was busy, since it was first seen."""
    iterations: int | None
    """None on loops without a selector (uvloop)."""
    blocked: float
    """Seconds for which the loop has been owing service: the age of the running step."""
    ready: int | None
    timers: int | None


@dataclass(frozen=True, slots=True)
class Lost:
    """A task, or other work, that will never finish or whose end nobody will hear of. Reported once."""

    reason: LostReason
    site: Frame
    """Where it was created; for a coroutine never awaited, where it was dropped; for a lost context, where
    work was handed over. If unseen (``asyncio.Task()``, a thread without Python code), where its coroutine
    begins."""
    coroutine: str
    """Qualified name of its coroutine function; for a lost context, of what runs without it."""
    age: float
    """Seconds since it was created; 0.0 if that is not known."""
    lost_at: float
    """Unix time at which it was found."""
    exception: str | None
    context: Mapping[str, str]
    trace_id: str | None
    span_id: str | None
    await_stack: tuple[Frame, ...]
    """Where it stood when last seen, innermost last; for a task that died, where the exception was raised.
    Empty if it was never seen: as a rule, it was garbage-collected within a second of its creation."""
    waiting_on: str | None
    """What it waited for there; for a deadlock, also the task that keeps it from going on."""
    evidence: Mapping[str, float]
    missing: tuple[str, ...] = ()
    """For a lost context: the variables, and ``trace``, that the work runs without. ``context`` and
    ``trace_id`` then hold what the code had that handed it over, ``await_stack`` where that was noticed."""
    task_name: str | None = None
    leak: LeakReason | None = None
    """For a live task: how the leak was found."""
    trace_flags: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tasks that wait for locks, semaphores, conditions, events or queues, at one place in the program."""

    primitive: str
    """What they called to wait, such as ``Semaphore.acquire``."""
    site: Frame
    """Where they called it: the innermost frame that was not asyncio's own."""
    count: int
    """Number of tasks that wait there."""
    objects: int
    """Number of locks, semaphores and so on that they wait for."""
    tasks: tuple[str, ...]
    """Names and coroutines of up to 10 of them."""
    owners: tuple[str, ...]
    """For locks and semaphores, up to 10 of the tasks that are inside a ``with`` block of one. Empty when
    none is seen to be: ``await lock.acquire()`` alone leaves no trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUser:
    """Who has a connection of a pool or waits for one; for an executor, whose work has a thread or waits."""

    task_name: str | None
    """None outside of tasks, and for a task that was never named and has ended."""
    coroutine: str | None
    """Qualified name of the task's coroutine function; None outside of tasks."""
    site: Frame | None
    """Where the task was created or, if that was not seen, where its coroutine function begins."""
    context: Mapping[str, str]
    """The watched variables of the task. Empty when it has ended."""
    trace_id: str | None
    span_id: str | None
    await_stack: tuple[Frame, ...]
    """Where the task stands, innermost last. Empty when it has ended."""
    waiting_on: str | None
    trace_flags: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrower(PoolUser):
    """Who has a connection."""

    held: float
    """Seconds since it was acquired."""
    gone: bool
    """Whether the task that acquired it has ended: nobody is left to give it back."""
    overdue: bool = False
    """Whether it has been reported as held for longer than ``hold_threshold``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWaiter(PoolUser):
    """Who waits for a connection."""

    waited: float
    """Seconds since it was requested."""


@dataclass(frozen=True, slots=True)
class Pool:
    """All pools of one kind and label, added up. None means not known or, for a limit, no limit."""

    kind: str
    """The library, or ``thread_pool``."""
    label: str
    """Its name, its server and database, or where it is created."""
    max: int | None
    used: int | None
    idle: int | None
    connecting: int | None
    """Connections being opened."""
    pending: int | None
    """Callers that wait."""
    oldest_wait: float | None
    """Seconds the longest-waiting caller has waited; 0.0 when nobody waits."""
    wait_count: int | None
    """Waits that ended, in any way, including those that got a connection at once."""
    wait_sum: float | None
    """Seconds, from asking to holding an open connection."""
    wait_p99: float | None
    """Seconds, estimated from a histogram; None when nobody has waited yet."""
    timeouts: int | None
    """Waits that the pool gave up."""
    rejected: int | None
    """Callers that the pool turned away at once."""
    cancelled: int | None
    instances: int
    """Pools that exist now."""
    created: int
    """Pools created so far."""
    borrowers: tuple[Borrower, ...] | None
    """Up to 20, longest first. A snapshot has borrowers and waiters only for pools that somebody waits for
    or that have an overdue connection."""
    waiters: tuple[PoolWaiter, ...] | None
    """Up to 20, longest first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, in a sentence; the evidence; and what to do."""

    rule: str
    """Its id, such as ``LW101``: stable, and the name of its page in the docs."""
    severity: Severity
    summary: str
    """One sentence that names the thing: function and line, pool, task."""
    evidence: Mapping[str, float]
    """The numbers it rests on; names ending in ``_s`` are seconds."""
    fix: str
    first_seen: float
    """Unix time."""
    last_seen: float
    """Unix time."""
    count: int
    """How often it happened in the minute before it was last seen, in the rule's own unit: stalls, tasks,
    timeouts; 1 if that cannot be counted."""
    docs_url: str
    key: tuple[str, ...] = ()
    """The names of what it is about, such as a function: settings ``ignore`` and ``allow`` match these."""
    because: str | None = None
    """The rule of the finding that is the cause of this one and is to be fixed first."""
    more: int = 0
    """Number of further cases of the same: the rule names ten at most."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything loopwatch knows at one moment. Immutable; taken off the loop thread."""

    taken_at: float
    """Unix time."""
    service_name: str
    points: Mapping[str, tuple[Point, ...]]
    """By the stem of the fact (``loopwatch.facts``); a fact that is not available here is absent."""
    loops: tuple[Loop, ...]
    stalls: tuple[Stall, ...]
    """The last 256, oldest first; those in progress come last."""
    lost: tuple[Lost, ...]
    """The last 256, oldest first."""
    drains: tuple[DrainReport, ...] = ()
    """The reports of the last 16 drains, oldest first."""
    pools: tuple[Pool, ...] = ()
    """By kind and label."""
    findings: tuple[Finding, ...] = ()
    """What is wrong now, the most severe first, each followed by its consequences."""
