"""The rules there are."""

from __future__ import annotations

from .loop import LOOP
from .rule import Rule
from .shutdown import SHUTDOWN
from .stalls import STALLS

RULES: tuple[Rule, ...] = tuple(sorted((*STALLS, *LOOP, *SHUTDOWN), key=lambda rule: rule.id))
