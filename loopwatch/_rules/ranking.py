"""The order in which findings are reported: what to fix first comes first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from loopwatch._agent_records import Finding

from .course import weight


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return ``findings``, the most severe first, each followed by its consequences.

    A cause weighs as much as the worst of its consequences. A cause that is no finding itself is not named.
    """
    waiting = sorted(findings, key=_key)
    there = {one.rule for one in waiting}
    trees: list[list[Finding]] = []
    for one in waiting:
        if one.because not in there or one.because == one.rule:
            trees.append(_grown(one, waiting, trees))
    for one in waiting:  # if several name each other, the most severe is taken as the cause
        if not _told(one, trees):
            trees.append(_grown(one, waiting, trees))
    trees.sort(key=lambda tree: max(weight(one.severity) for one in tree), reverse=True)
    return tuple(one for tree in trees for one in tree)


def _key(one: Finding) -> tuple[object, ...]:
    return (-weight(one.severity), one.rule, -one.count, one.first_seen)


def _grown(root: Finding, waiting: Sequence[Finding], trees: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Return a cause and, below the first finding of its rule, its consequences."""
    tree = [replace(root, because=None)]
    place = 0
    while place < len(tree):
        rule = tree[place].rule
        followers = [
            one for one in waiting if one.because == rule != one.rule and not _told(one, [*trees, tree])
        ]
        tree[place + 1 : place + 1] = followers
        place += 1
    return tree


def _told(one: Finding, trees: Iterable[Iterable[Finding]]) -> bool:
    return any((one.rule, one.key) == (other.rule, other.key) for tree in trees for other in tree)
