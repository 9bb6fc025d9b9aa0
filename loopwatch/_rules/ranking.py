"""In which order findings are told: what is to be mended first comes first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from loopwatch._records import Finding

from .course import weight


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return ``findings``, the most severe first, each followed by what follows from it.

    A cause that is no finding itself is no longer named.
    """
    waiting = sorted(findings, key=lambda one: (-weight(one.severity), one.rule, -one.count, one.first_seen))
    there = {one.rule for one in waiting}
    told: list[Finding] = []
    for one in waiting:
        if one.because not in there or one.because == one.rule:
            _tell(replace(one, because=None), waiting, told)
    for one in waiting:  # of several that name each other the most severe is the cause
        if not any(_same(one, other) for other in told):
            _tell(replace(one, because=None), waiting, told)
    return tuple(told)


def _tell(one: Finding, waiting: Iterable[Finding], told: list[Finding]) -> None:
    """Add a finding, and below the first one of its rule what follows from that."""
    told.append(one)
    for other in waiting:
        if other.because == one.rule != other.rule and not any(_same(other, known) for known in told):
            _tell(other, waiting, told)


def _same(one: Finding, other: Finding) -> bool:
    return (one.rule, one.key) == (other.rule, other.key)
