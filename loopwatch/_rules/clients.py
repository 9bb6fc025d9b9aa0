"""LW307: clients, each with a pool of its own, that are made for one request each."""

from __future__ import annotations

from collections.abc import Iterator

from loopwatch.facts import OTHER

from .counts import counted, known
from .libraries import JOB_RUNNERS, library_of, waits_of
from .rule import WINDOW, Symptom, View
from .words import period

DOZENS = 20
"""Pools of one label in a window that are not a restart, or a handful of servers."""
USES = 3
"""Uses of each, on the average, up to which it was made for one request."""
CHEAP = JOB_RUNNERS | {"anyio"}
"""Kinds that cost nothing to make, or that are made once for each worker."""


def clients(view: View) -> Iterator[Symptom]:
    earlier = {point.labels: point.value for point in view.before.points.get("pool_created", ())}
    grown = view.increases("pool_instances")
    for pool, created in counted(view, "pool_created"):
        labels = (pool.label, pool.kind)
        waits = waits_of(view, pool)
        acquires = None if pool.wait_count is None else waits.count if waits is not None else 0
        kept = min(created, max(0, round(grown.get(labels, 0.0))))
        if (
            created < DOZENS
            or pool.kind in CHEAP
            or labels == ("default", "thread_pool")
            or pool.label == OTHER
            or (acquires is not None and acquires > USES * created)
            or (2 * kept > created and not earlier.get(labels))  # all those that there will be, at start-up
        ):
            continue
        client = library_of(pool.kind).client
        uses = "" if acquires is None else f", for {acquires} uses of them"
        left = f"; {kept} of them live still" if kept else ""
        yield Symptom(
            rule="LW307",
            key=(pool.kind, pool.label),
            severity="warning",
            summary=f"{created} of {client} were made ({pool.label}) {period(WINDOW)}{uses}{left}: each has "
            "a pool of its own, so hardly anything is used again",
            evidence=known(created=created, uses=acquires, instances=pool.instances, kept=kept),
            fix=f"make one {client} when the program starts, use it for all requests, and close it at the "
            "end",
            count=created,
        )
