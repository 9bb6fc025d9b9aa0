"""The definition of a fact, and the names that several facts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "updowncounter", "histogram"]

LOOP = "asyncio.eventloop.name"
FUNCTION = "code.function.name"
CAUSE = "asyncio.block.cause"
COMPONENT = "loopwatch.component"
POOL = "asyncio.pool.name"
POOL_TYPE = "asyncio.pool.type"
DATABASE_POOL = "db.client.connection.pool.name"
EXECUTOR = "asyncio.executor.name"

INTEGERS = frozenset(("cpython.gc.generation", "server.port"))
"""Labels whose values are numbers where labels can be numbers."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. Below 1 ms a loop is healthy; 0.1 and 0.5 are alert thresholds, which must be bounds."""

TASK_BUCKETS = (*BUCKETS, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds. For tasks, which may be jobs that take minutes."""

TOP = 20
"""Distinct label values per fact; the rest is summed under ``OTHER``."""
OTHER = "_other"
NOBODY = "_unknown"
"""Function label for block time in which no application frame was seen."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One measured thing. ``stem`` is its name in the source, wherever it is measured, kept and shown."""

    stem: str
    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str

    @property
    def prometheus_name(self) -> str:
        """The metric family's name in Prometheus, without ``_total``, which the kind implies."""
        suffix = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return self.name.replace(".", "_") + suffix

    @property
    def prometheus_labels(self) -> tuple[str, ...]:
        """Label names in Prometheus."""
        return tuple(label.replace(".", "_") for label in self.labels)
