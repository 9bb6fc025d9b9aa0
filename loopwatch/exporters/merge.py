"""Merges the texts of several workers: each family once, with the samples of all, by ``process_pid``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

EOF = "# EOF\n"
"""The end of an OpenMetrics text."""

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_VALUE = r" (?:[-+]?(?:[0-9.][^ \n]*|Inf)|NaN)(?: [^\n]*)?$"
_FAMILY = re.compile(r"^(?=# HELP )", re.MULTILINE)
_HEAD = re.compile(rf"# HELP ({_NAME}) [^\n]*\n# TYPE \1 (\w+)\n(?:# UNIT \1 [^\n]*\n)?")
_WITH_LABELS = re.compile(rf"^({_NAME})\{{(?={_LABEL}(?:,{_LABEL})*\}}{_VALUE})", re.MULTILINE)
_WITHOUT_LABELS = re.compile(rf"^({_NAME})(?={_VALUE})", re.MULTILINE)


class NotOursError(ValueError):
    """The text was not written by an endpoint of loopwatch."""


@dataclass(slots=True)
class _Family:
    head: str
    kind: str
    samples: list[str] = field(default_factory=list)


class Merged:
    """The families of all texts added so far, in the order of their arrival."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def add(self, text: str, pid: int) -> None:
        """Add a worker's text. Raises NotOursError, and adds nothing, if it is not one of ours.

        If workers have different versions of a family, the first one's is shown.
        """
        for name, new in _labelled(text, pid).items():
            family = self._families.setdefault(name, _Family(new.head, new.kind))
            if family.kind == new.kind:
                family.samples += new.samples

    def text(self) -> str:
        """Return all of it, without the end mark."""
        return "".join(part for each in self._families.values() for part in (each.head, *each.samples))


def _labelled(text: str, pid: int) -> Mapping[str, _Family]:
    before, *chunks = _FAMILY.split(text.removesuffix(EOF))
    if before:
        raise NotOursError(f"it begins with {before[:100]!r}")
    families = {}
    for chunk in chunks:
        head = _HEAD.match(chunk)
        if head is None:
            raise NotOursError(f"no family begins with {chunk[:100]!r}")
        samples, labelled = _WITH_LABELS.subn(rf'\1{{process_pid="{pid}",', chunk[head.end() :])
        samples, bare = _WITHOUT_LABELS.subn(rf'\1{{process_pid="{pid}"}}', samples)
        if labelled + bare != samples.count("\n"):
            raise NotOursError(f"not all of {head[1]} are samples")
        families[head[1]] = _Family(head[0], head[2], [samples])
    return families
