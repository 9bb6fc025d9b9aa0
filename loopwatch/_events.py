"""What has just happened, on its way to be exported: records, and what takes more than one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ._records import Borrower, DrainReport, Finding, Lost, Pool, Stall, Task


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
    """A connection that is not given back."""

    kind: str
    """Of the pool, as its label."""
    label: str
    borrower: Borrower
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job of ``spawn()`` that is over."""

    record: Callable[[], Task]
    """Makes its record: off the loop, since ``show`` functions run for it."""


FindingChange = Literal["began", "rose", "fell", "over"]
"""What may become of a finding; ``rose`` and ``fell`` are said of its severity."""


@dataclass(frozen=True, slots=True)
class Found:
    """A finding that begins, changes in severity, or is over."""

    finding: Finding
    change: FindingChange
    at: float
    """Unix time."""


Event = Stall | Lost | Drained | Saturated | HeldTooLong | JobEnded | Found
"""A stall that is over, or another thing that is told of once."""
