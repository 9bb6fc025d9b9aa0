"""Tasks, places in code, whose work it is, how a drain ended: frozen records also made without an agent.

Times of day are Unix seconds, spans of time are seconds. ``None`` means "not known here", never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TaskState = Literal["pending", "ok", "error", "cancelled"]

DrainState = Literal["serving", "draining", "drained", "forced"]
"""The phase of a process's life; ``forced`` if the last drain ended with work left."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in the code."""

    function: str
    """Qualified name within the module, such as ``Service.handle``."""
    module: str
    """Name of the module as imported; ``__main__`` for the program itself."""
    file: str
    line: int

    @property
    def name(self) -> str:
        """Module and function, dotted: what ``code.function.name`` of the OTel conventions holds."""
        return f"{self.module}.{self.function}" if self.module else self.function

    def __str__(self) -> str:
        return f"{self.name} ({self.file}:{self.line})"


@dataclass(frozen=True, slots=True)
class Task:
    """One task, live or among the last that ended."""

    site: Frame
    """Where it was created: the innermost frame that was not asyncio's own. For a task created before it
    could be seen, where its coroutine function begins."""
    coroutine: str
    """Qualified name of its coroutine function."""
    name: str | None
    """None if it ended well and was never named."""
    parent: str | None
    """Coroutine of the task that created it; None outside of tasks."""
    state: TaskState
    unretrieved: bool
    """Whether it ended, a second ago or more, with an exception that nobody has retrieved."""
    started_at: float
    """Unix time."""
    age: float
    """Seconds since it was created."""
    duration: float | None
    """Seconds from creation to end; None while it lives."""
    exception: str | None
    """Type of the exception that ended it."""
    context: Mapping[str, str]
    """The watched variables: the current ones or, once it has ended, those it ended with."""
    trace_id: str | None
    span_id: str | None
    await_stack: tuple[Frame, ...]
    """Where it stands: its chain of awaits, innermost last. Empty once it has ended."""
    waiting_on: str | None
    """What the innermost frame waits for, such as ``Lock.acquire``; None while it is not waiting."""
    daemon: bool
    loop_name: str
    trace_flags: int | None = None
    id: int = 0
    """The same in every reading, live or ended, and unique among the tasks of this process."""
    awaits: tuple[int, ...] = ()
    """Ids of the live tasks it waits for: directly, or by ``gather``, ``wait``, ``shield``, a task group."""
    job: bool = False
    """Whether it is a live job of ``spawn()``."""
    creator_seen: bool = True
    """False for a live task that existed before us, or that the loop created itself, as for a connection. The
    site is then where its coroutine begins; one that existed before us counts as created when first seen."""


@dataclass(frozen=True, slots=True)
class Work:
    """On whose behalf some code runs."""

    values: Mapping[str, str | None]
    """The watched variables; None for one that is not set."""
    trace_id: str | None
    """OpenTelemetry trace, in hex."""
    span_id: str | None
    task_name: str | None
    """None outside of tasks."""


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What became of the tasks that a drain waited for. Each is in one of the three tuples, oldest first.

    ``await_stack`` and ``waiting_on`` of a task that did not finish in time say where it stood at the
    timeout; those of the others, where the drain last saw them.
    """

    finished: tuple[Task, ...]
    """Ended by themselves; their ``state`` says how."""
    cancelled: tuple[Task, ...]
    """Cancelled at the timeout, and then ended. One that finished all the same has state ``ok``."""
    abandoned: tuple[Task, ...]
    """Still pending: tasks that were not the drain's to cancel, and jobs that resisted cancellation."""
    duration: float
    """Seconds."""
    timeout: float

    @property
    def forced(self) -> bool:
        """Whether work was left unfinished."""
        return bool(self.cancelled or self.abandoned)
