"""What the console reads from: the reader, as the console sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from loopwatch._agent_records import Loop, Lost, Pool, Snapshot, Stall, Waiting
from loopwatch._document import Document
from loopwatch._records import DrainReport, Task


class Source(Protocol):
    """Answers from any thread but a watched loop's, also while every loop is blocked."""

    def snapshot(self) -> Snapshot:
        """Return everything known now, including findings and facts."""

    def document(self, *, brief: bool = False) -> Document:
        """Return everything known now, with tasks and waits; if ``brief``, only loops and stalls."""

    def loops(self) -> Sequence[Loop]:
        """Return the health of each loop."""

    def stalls(self) -> Sequence[Stall]:
        """Return the last stalls, oldest first; those in progress come last."""

    def tasks(self, limit: int) -> Sequence[Task]:
        """Return the last tasks that ended, then up to ``limit`` live ones, each oldest first."""

    def lost(self) -> Sequence[Lost]:
        """Return the last losses, oldest first."""

    def pools(self) -> Sequence[Pool]:
        """Return all pools and executors, with their holders and waiters."""

    def waits(self, limit: int) -> Sequence[Waiting]:
        """Return the waits for locks and the like, among up to ``limit`` live tasks; most waiters first."""

    def drains(self) -> Sequence[DrainReport]:
        """Return the reports of the last drains, oldest first."""
