"""What the program's team does not want reported: rules, and things that are as they are meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from .rule import Outline, Rule, Symptom


class Silence:
    """Built from the settings ``ignore``, such as ``LW104`` or ``LW101:app.startup.*``, and ``allow``."""

    def __init__(self, ignore: Iterable[str], allow: Iterable[str]) -> None:
        parted = [entry.partition(":") for entry in ignore]
        self._rules = frozenset(rule for rule, colon, _ in parted if not colon)
        self._patterns = [(rule, pattern) for rule, colon, pattern in parted if colon]
        self._allowed = tuple(allow)

    def heard(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        """Return the rules that are not ignored as a whole."""
        return tuple(rule for rule in rules if rule.id not in self._rules)

    def covers(self, symptom: Symptom | Outline) -> bool:
        """Whether one of the names in the key of ``symptom`` is ignored with its rule, or allowed."""
        patterns = [pattern for rule, pattern in self._patterns if rule == symptom.rule]
        return any(
            fnmatchcase(name, pattern) for pattern in (*patterns, *self._allowed) for name in symptom.key
        )
