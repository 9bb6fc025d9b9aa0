"""The ids of the rules there are, which settings may name. What they look for stands in ``_rules/``."""

from __future__ import annotations

RULE_IDS: tuple[str, ...] = (
    "LW101",
    "LW102",
    "LW103",
    "LW104",
    "LW105",
    "LW106",
    "LW107",
    "LW108",
    "LW109",
    "LW110",
    "LW501",
    "LW502",
)
