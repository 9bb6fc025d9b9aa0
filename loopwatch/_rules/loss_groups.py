"""Lost tasks that have something in common: how many, and how they are named together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loopwatch._records import LeakReason, Lost, LostReason

from .rule import WINDOW, Symptom, View
from .stand import stands
from .words import place

Kind = tuple[str, ...]
"""What losses have in common that are one symptom: names that users know."""


@dataclass(frozen=True, slots=True)
class Group:
    """Losses of one kind."""

    kind: Kind
    losses: Sequence[Lost]
    """Those that are kept, oldest first."""
    count: int
    """How many there were."""

    @property
    def last(self) -> Lost:
        """The newest that is kept."""
        return self.losses[-1]

    @property
    def tasks(self) -> str:
        """Name them: how many, of which coroutine, who created them."""
        tasks = "a task" if self.count == 1 else f"{self.count} tasks"
        return f"{tasks} of `{self.last.coroutine}`, created by {place(self.last.site)}"

    @property
    def last_stands(self) -> str:
        """Write where the newest stands."""
        name = repr(self.last.task_name) if self.last.task_name else "one of them"
        return f"{name} stands {stands(self.last.await_stack, self.last.waiting_on)}"

    def symptom(
        self, rule: str, summary: str, fix: str, evidence: Mapping[str, float], because: str | None = None
    ) -> Symptom:
        """Make of them what a rule sees."""
        return Symptom(rule, self.kind, "warning", summary, evidence, fix, count=self.count, because=because)


def recent(view: View, reason: LostReason) -> list[Group]:
    """Group what was lost in the window."""
    since = view.now.taken_at - WINDOW
    found = [one for one in view.now.lost if one.reason == reason and one.lost_at > since]
    return _grouped(found, view.increases("task_lost").get((reason,), 0.0))


def living(view: View, *leaks: LeakReason) -> list[Group]:
    """Group the lost tasks that live still. Which ones have ended is not known: those found first."""
    found: list[Lost] = []
    alive = view.values("task_leaked")
    for leak in leaks:
        count = int(alive.get((leak,), 0))
        found += [one for one in view.now.lost if one.leak == leak][-count:] if count else ()
    return _grouped(found, sum(alive.get((leak,), 0.0) for leak in leaks))


def oldest(view: View, losses: Iterable[Lost]) -> dict[str, float]:
    """Return the age of the oldest one, as evidence."""
    return {"oldest_s": max(view.now.taken_at - one.lost_at + one.age for one in losses)}


def _grouped(found: Iterable[Lost], total: float) -> list[Group]:
    """Group losses. The ``total`` counts those not kept, too: it tells of a kind if there is but one."""
    groups: dict[Kind, list[Lost]] = {}
    for one in found:
        groups.setdefault(_kind(one), []).append(one)
    alone = len(groups) == 1
    return [
        Group(kind, losses, max(len(losses), round(total)) if alone else len(losses))
        for kind, losses in groups.items()
    ]


def _kind(lost: Lost) -> Kind:
    return (lost.site.name, lost.coroutine, *([lost.exception] if lost.exception else []))
