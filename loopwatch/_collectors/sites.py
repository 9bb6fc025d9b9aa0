"""The places that create tasks, one by one: how many tasks live, how old they are, how others ended."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from loopwatch._document import TaskSite
from loopwatch._measures import Distribution
from loopwatch._places import shape
from loopwatch._store.loop_state import LoopState
from loopwatch._store.sites import Site
from loopwatch._store.tasks import oldest
from loopwatch.facts import TASK_BUCKETS

SHOWN = 100
LOOKED_AT = 10_000
"""Oldest live tasks of each loop that are searched for the oldest of each site: some 0.1 us each."""


def task_sites(states: Iterable[LoopState], now: float) -> tuple[TaskSite, ...]:
    """Return the sites with most live tasks, then those that created most. Any thread."""
    sites: dict[int, Site] = {}
    since: dict[int, float] = {}
    for state in states:
        for site in state.tasks.sites.all():
            sites.setdefault(site.address, Site(*site.place)).absorb(site)
        for record in oldest(state.tasks.live, LOOKED_AT):
            address = record.site.address
            since[address] = min(since.get(address, record.started), record.started)
    most = sorted(sites.values(), key=lambda site: (-site.live, -site.created))
    return tuple(_shaped(site, now, since.get(site.address)) for site in islice(most, SHOWN))


def _shaped(site: Site, now: float, since: float | None) -> TaskSite:
    durations = Distribution(TASK_BUCKETS, site.buckets, site.total)
    return TaskSite(
        site=shape(site.place),
        live=max(0, site.live),
        created=site.created,
        ok=site.ok,
        error=site.error,
        cancelled=site.cancelled,
        oldest=None if since is None else now - since,
        duration_p50=durations.quantile(0.5),
        duration_p99=durations.quantile(0.99),
    )
