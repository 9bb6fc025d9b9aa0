"""Lost tasks grouped by what they have in common: how many, and how to name them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loopwatch._agent_records import LeakReason, Lost, LostReason

from .rule import WINDOW, Symptom, View
from .stand import stands
from .words import place

Kind = tuple[str, ...]
"""What the losses of one symptom have in common: names that users know."""


@dataclass(frozen=True, slots=True)
class Group:
    """Losses of one kind."""

    kind: Kind
    losses: Sequence[Lost]
    """The kept ones, oldest first."""
    count: int
    """How many there were, kept or not."""

    @property
    def last(self) -> Lost:
        """The newest kept one."""
        return self.losses[-1]

    @property
    def tasks(self) -> str:
        """Names the tasks: how many, of which coroutine, created by whom."""
        tasks = "a task" if self.count == 1 else f"{self.count} tasks"
        return f"{tasks} of `{self.last.coroutine}`, created by {place(self.last.site)}"

    @property
    def last_stands(self) -> str:
        """Where the newest task stands, in words."""
        name = repr(self.last.task_name) if self.last.task_name else "one of them"
        return f"{name} stands {stands(self.last.await_stack, self.last.waiting_on)}"

    def symptom(
        self, rule: str, summary: str, fix: str, evidence: Mapping[str, float], because: str | None = None
    ) -> Symptom:
        """Make the symptom of a rule from the group."""
        return Symptom(rule, self.kind, "warning", summary, evidence, fix, count=self.count, because=because)


def recent(view: View, reason: LostReason) -> list[Group]:
    """Group the tasks lost in the window."""
    since = view.now.taken_at - WINDOW
    found = [one for one in view.now.lost if one.reason == reason and one.lost_at > since]
    return _grouped(found, view.increases("task_lost").get((reason,), 0.0))


def living(view: View, *leaks: LeakReason) -> list[Group]:
    """Group the lost tasks still alive. Which have ended is not known: those found first are assumed to."""
    found: list[Lost] = []
    alive = view.values("task_leaked")
    for leak in leaks:
        count = int(alive.get((leak,), 0))
        found += [one for one in view.now.lost if one.leak == leak][-count:] if count else ()
    return _grouped(found, sum(alive.get((leak,), 0.0) for leak in leaks))


def oldest(view: View, losses: Iterable[Lost]) -> dict[str, float]:
    """Return the age of the oldest lost task, as evidence."""
    return {"oldest_s": max(view.now.taken_at - one.lost_at + one.age for one in losses)}


def _grouped(found: Iterable[Lost], total: float) -> list[Group]:
    """Group losses. ``total`` also counts those not kept, so it is used if there is only one kind."""
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
