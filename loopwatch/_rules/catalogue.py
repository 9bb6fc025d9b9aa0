"""All rules."""

from __future__ import annotations

from .context import CONTEXT
from .executors import EXECUTORS
from .loop import LOOP
from .pools import POOLS
from .rule import Rule
from .shutdown import SHUTDOWN
from .stalls import STALLS
from .tasks import TASKS

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (*STALLS, *LOOP, *TASKS, *POOLS, *EXECUTORS, *CONTEXT, *SHUTDOWN),
        key=lambda rule: rule.id,
    )
)
