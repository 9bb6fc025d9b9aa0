"""The catalogue: every measured thing loopwatch exports, declared once.

Exporters loop over ``ALL``; dashboards, docs and tests read names here. Names and labels follow the
OpenTelemetry naming rules; ``prometheus_name`` applies the specification's OTel-to-Prometheus translation, so
both routes give the same series (a unit of ``1`` on a gauge would append ``_ratio``, so no fact has that).
"""

from __future__ import annotations

from ._executors import EXECUTORS
from ._fact import (
    BUCKETS,
    CAUSE,
    COMPONENT,
    DATABASE_POOL,
    EXECUTOR,
    FUNCTION,
    INTEGERS,
    LOOP,
    NOBODY,
    OTHER,
    POOL,
    POOL_TYPE,
    TASK_BUCKETS,
    TOP,
    Fact,
    Kind,
)
from ._jobs import JOBS
from ._loops import LOOPS
from ._own import OWN
from ._pools import POOLS
from ._tasks import TASKS

__all__ = [
    "ALL",
    "BUCKETS",
    "BY_STEM",
    "CAUSE",
    "COMPONENT",
    "DATABASE_POOL",
    "EXECUTOR",
    "FUNCTION",
    "INTEGERS",
    "LOOP",
    "NOBODY",
    "OTHER",
    "POOL",
    "POOL_TYPE",
    "TASK_BUCKETS",
    "TOP",
    "Fact",
    "Kind",
]

ALL: tuple[Fact, ...] = (*LOOPS, *TASKS, *POOLS, *EXECUTORS, *JOBS, *OWN)

BY_STEM = {fact.stem: fact for fact in ALL}
