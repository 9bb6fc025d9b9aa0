"""The command for findings: what is wrong, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from .command import Command, Question
from .options import options, values_of
from .parts import finding_lines, more

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
    now = question.desk.clock.wall()
    for one in found[: words.limit]:
        yield from finding_lines(one, now, question.width)
    yield from more(words.limit, len(found), "findings")


COMMANDS = (
    Command(
        "findings",
        "[TEXT] [severity=]",
        "what is wrong, why, and what to do",
        _findings,
        words=values_of(_SEVERITIES),
    ),
)
