"""Everything known, for programs: ``loopwatch top`` and ``doctor`` ask for it when given a pid."""

from __future__ import annotations

from collections.abc import Iterator

from loopwatch._document import write

from .command import Command, Question, WrongUseError


def _json(question: Question) -> Iterator[str]:
    words = list(question.words)
    if words not in ([], ["brief"]):
        raise WrongUseError("json, or json brief.")
    yield write(question.source.document(brief=bool(words))).decode()


COMMANDS = (
    Command(
        "json",
        "[brief]",
        "everything as one line of JSON, for programs",
        _json,
        "Brief has the loops and the stalls in progress alone.",
        words=("brief",),
        for_programs=True,
    ),
)
