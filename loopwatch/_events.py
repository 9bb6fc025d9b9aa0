"""What has just happened, on its way to be exported: records, and events that take more than a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ._agent_records import Borrower, Finding, Lost, Pool, Stall
from ._records import DrainReport, Task


@dataclass(frozen=True, slots=True)
class Drained:
    """A drain that is over."""

    report: DrainReport
    at: float
    """Unix time it ended."""
    loop_name: str


@dataclass(frozen=True, slots=True)
class Saturated:
    """A pool that has been full for a while, with callers that wait."""

    pool: Pool
    lasted: float
    """Seconds so far."""
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class HeldTooLong:
    """A connection that has not been given back."""

    kind: str
    """The pool's, as is its label."""
    label: str
    borrower: Borrower
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job of ``spawn()`` that has ended."""

    record: Callable[[], Task]
    """Builds the job's record. Called off the loop, since ``show`` functions run for it."""


FindingChange = Literal["began", "rose", "fell", "over"]
"""What may happen to a finding; ``rose`` and ``fell`` refer to its severity."""


@dataclass(frozen=True, slots=True)
class Found:
    """A finding that begins, changes in severity, or is over."""

    finding: Finding
    change: FindingChange
    at: float
    """Unix time."""


Event = Stall | Lost | Drained | Saturated | HeldTooLong | JobEnded | Found
"""A stall that is over, or another thing that is reported once."""
