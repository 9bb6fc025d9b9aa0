"""What is wrong, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from loopwatch._records import Finding
from loopwatch._words import ago, number

from .command import Command, Question
from .options import options, values_of
from .parts import evidence, field, more
from .tables import paragraph

_SEVERITIES = {"severity": ("any", "critical", "warning", "info")}


def _findings(question: Question) -> Iterator[str]:
    words = options(question.words, _SEVERITIES)
    severity = words.chosen["severity"]
    everything = question.source.snapshot().findings
    found = [
        one
        for one in everything
        if severity in ("any", one.severity) and words.keeps(one.rule, one.summary, one.fix)
    ]
    if not found:
        yield "No finding is like that." if everything else "Nothing is found to be wrong."
        return
    for one in found[: words.limit]:
        yield from _lines(one, question)
    yield from more(words.limit, len(found), "findings")


def _lines(one: Finding, question: Question) -> Iterator[str]:
    now, width = question.desk.clock.wall(), question.width
    yield from paragraph(one.summary, width, f"{one.rule} {one.severity}: ", "  ")
    yield from field("evidence", evidence(one.evidence), width)
    yield from field("fix", one.fix, width)
    yield from field("because of", f"{one.because}, mend that first" if one.because else None, width)
    seen = f"{number(one.count)} times, first {ago(one.first_seen, now)}, last {ago(one.last_seen, now)}"
    yield from field("seen", seen, width)
    yield from field("docs", one.docs_url, width)


COMMANDS = (
    Command(
        "findings",
        "[TEXT] [severity=]",
        "what is wrong, why, and what to do",
        _findings,
        words=values_of(_SEVERITIES),
    ),
)
