"""Reports each finding when it begins, changes in severity, or is over: in the log, and to the exporters."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from loopwatch._agent_records import Severity
from loopwatch._clock import Clock
from loopwatch._events import Found
from loopwatch._journal import Journal, PacedLog
from loopwatch._store.outbox import Outbox

from .rule import Rule
from .words import span

_LEVELS: dict[Severity, int] = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


class Telling(PacedLog):
    """Logs on logger ``loopwatch``. One thread at a time."""

    def __init__(self, outbox: Outbox, clock: Clock, journal: Journal) -> None:
        super().__init__("findings", clock, journal)
        self._journal = journal
        self._outbox = outbox

    def tell(self, changed: Sequence[Found], over: Iterable[Found]) -> None:
        """Report changes: each cause with its consequences, in one record."""
        for root, followers in _together(changed):
            level = max(_LEVELS[one.finding.severity] for one in (root, *followers))
            self.log(level, "\n  ".join(map(_line, (root, *followers))))
        for found in over:
            lasted = span(found.at - found.finding.first_seen)
            self.log(logging.INFO, f"{found.finding.rule} is over after {lasted}: {found.finding.summary}")
        for found in (*changed, *over):
            self._outbox.put(found)

    def switched_off(self, rule: Rule, error: Exception) -> None:
        """Log that a rule has failed and is no longer applied. Not limited in pace, since once per rule."""
        self._journal.say(
            logging.ERROR,
            "loopwatch: rule %s (%s) is switched off, it failed: %r",
            rule.id,
            rule.title,
            error,
        )


def _together(changed: Iterable[Found]) -> list[tuple[Found, list[Found]]]:
    """Return each finding with the consequences that began with it, which come after it in order."""
    groups: list[tuple[Found, list[Found]]] = []
    for found in changed:
        rules = {one.finding.rule for group in groups[-1:] for one in (group[0], *group[1])}
        if found.change == "began" and found.finding.because in rules:
            groups[-1][1].append(found)
        else:
            groups.append((found, []))
    return groups


def _line(found: Found) -> str:
    finding = found.finding
    change = {"began": "", "rose": ", worse now", "fell": ", better now", "over": ""}[found.change]
    because = f" (because of {finding.because})" if finding.because else ""
    more = f" (and {finding.more} more like it)" if finding.more else ""
    return (
        f"{finding.rule} {finding.severity}{change}: {finding.summary}{more}{because}. "
        f"What to do: {finding.fix}. See {finding.docs_url}"
    )
