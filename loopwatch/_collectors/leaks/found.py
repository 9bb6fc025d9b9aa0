"""The live tasks that were found to be lost, and were reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from loopwatch._agent_records import LeakReason, Lost, LostReason
from loopwatch._collectors.await_graph import Waiter
from loopwatch._context.reader import ContextReader
from loopwatch._internals.await_chain import stand_of
from loopwatch._internals.futures import living, name_of
from loopwatch._places import Stand
from loopwatch._store.lost_log import Loss, LostLog
from loopwatch._store.tasks import LiveTask
from loopwatch._store.unread import Unread

_REASONS: dict[LeakReason, LostReason] = {"unreferenced": "unreferenced", "deadlock": "deadlock"}
"""All others are leaks."""


class Report(Protocol):
    """Takes losses, and makes records of them."""

    def tell(self, loss: Loss, instead_of: Lost | None = None) -> Lost:
        """Report one loss."""

    def tell_deadlock(self, losses: Sequence[Loss]) -> list[Lost]:
        """Report the losses of one deadlock."""


class Found:
    """Reports each task once, and counts the reported ones while they live. Watchdog thread."""

    def __init__(self, contexts: ContextReader, log: LostLog, report: Report, unread: Unread) -> None:
        self._contexts = contexts
        self._unread = unread
        self._log = log
        self._report = report
        self._records: dict[LeakReason, list[LiveTask]] = {}
        """Those that still live, as far as is known."""

    def tell(self, record: LiveTask, leak: LeakReason, **evidence: float) -> None:
        """Report one task, unless it was reported before or has ended."""
        loss = self._unread.read(self._loss, record, leak, evidence)
        if loss is not None:
            self._keep(record, leak, self._report.tell(loss))

    def tell_deadlock(self, members: Sequence[tuple[LiveTask, Waiter]], **evidence: float) -> None:
        """Report the tasks of a deadlock, each before the one it waits for, except those reported before."""
        losses: list[Loss] = []
        untold: list[LiveTask] = []
        for record, waiter in members:
            loss = self._unread.read(self._loss, record, "deadlock", evidence, waiter.waiting_on)
            if loss is not None:
                untold.append(record)
                losses.append(loss)
        if losses:
            for record, lost in zip(untold, self._report.tell_deadlock(losses), strict=True):
                self._keep(record, "deadlock", lost)

    def clear(self) -> None:
        """Forget all of them: in a forked child, where the parent's tasks never run."""
        self._records.clear()

    def recount(self) -> None:
        """Forget those that ended after all, and count the rest."""
        for leak, records in self._records.items():
            records[:] = [record for record in records if living(record) is not None]
            self._log.leaked[leak] = len(records)

    def _keep(self, record: LiveTask, leak: LeakReason, lost: Lost) -> None:
        record.lost = lost
        self._records.setdefault(leak, []).append(record)

    def _loss(
        self, record: LiveTask, leak: LeakReason, evidence: dict[str, float], waiting_on: str | None = None
    ) -> Loss | None:
        task = living(record)
        if record.lost is not None or task is None:
            return None
        places, waits_for = stand_of(task) or record.stood or Stand((), None)
        return Loss(
            reason=_REASONS.get(leak, "leaked"),
            site=record.site.place,
            coroutine=record.coroutine,
            since=record.started,
            values=self._contexts.of_task(task, record.values),
            stack=places,
            waiting_on=waiting_on or waits_for,
            evidence={**evidence, "live_at_site": float(record.site.live)},
            task_name=name_of(task),
            leak=leak,
        )
