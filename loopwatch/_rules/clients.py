"""LW307: clients, each with its own pool, that are created for a single request."""

from __future__ import annotations

from collections.abc import Iterator

from loopwatch.facts import OTHER

from .counts import counted, known
from .libraries import JOB_RUNNERS, Waits, library_of
from .rule import Symptom, View
from .words import period

DOZENS = 20
"""Pools created under one label in a window: more than a restart, or a handful of servers, explains."""
USES = 3
"""Average uses per client up to which it counts as made for one request."""
CHEAP = JOB_RUNNERS | {"anyio"}
"""Kinds that are cheap to create, or that are created once per worker."""


def clients(view: View) -> Iterator[Symptom]:
    """Name clients created by the dozen and hardly used."""
    earlier = {point.labels: point.value for point in view.before.points.get("pool_created", ())}
    ended = Waits(view)
    for pool, created in counted(view, "pool_created"):
        labels = (pool.label, pool.kind)
        if (
            created < DOZENS
            or pool.kind in CHEAP
            or labels == ("default", "thread_pool")
            or pool.label == OTHER
        ):
            continue
        waits = ended.of(pool)
        acquires = None if pool.wait_count is None else waits.count if waits is not None else 0
        stay = 2 * pool.instances > pool.created
        at_the_start = stay and not earlier.get(labels)  # there may be no further ones
        if at_the_start or (acquires is not None and acquires > USES * created):
            continue
        client = library_of(pool.kind).client
        uses = "" if acquires is None else f", for {acquires} uses of them"
        left = f"; {pool.instances} of all so far are open still" if stay else ""
        yield Symptom(
            rule="LW307",
            key=(pool.kind, pool.label),
            severity="warning",
            summary=f"{created} of {client} were made ({pool.label}) {period(view.seconds)}{uses}{left}: "
            "each has a pool of its own, so hardly anything is used again",
            evidence=known(created=created, uses=acquires, instances=pool.instances),
            fix=f"make one {client} when the program starts, use it for all requests, and close it at the "
            "end",
            count=created,
        )
