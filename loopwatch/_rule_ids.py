"""The ids of all rules, which settings may name. What the rules look for is defined in ``_rules/``."""

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
    "LW201",
    "LW202",
    "LW203",
    "LW204",
    "LW205",
    "LW206",
    "LW207",
    "LW301",
    "LW302",
    "LW303",
    "LW304",
    "LW305",
    "LW306",
    "LW307",
    "LW308",
    "LW401",
    "LW501",
    "LW502",
)
