"""All pools, added up by kind and label: as records, and as facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from loopwatch._agent_records import Pool
from loopwatch._clock import Clock
from loopwatch._context.reader import ContextReader
from loopwatch._measures import Distribution, Measure
from loopwatch._store.pools import Acquire, Family, Pools, WaitCell, WatchedPool
from loopwatch.facts import OTHER, TOP

from .binding import Binding
from .hub import Hub
from .people import Held, borrowers, still_held, waiters
from .protocol import Sample, Server


@dataclass(slots=True)
class _Reading:
    """What was read from all pools of one kind and label."""

    kind: str
    label: str
    family: Family
    totals: WaitCell
    features: frozenset[str]
    samples: list[Sample] = field(default_factory=list)
    waiting: list[Acquire] = field(default_factory=list)
    held: list[Held] | None = None
    instances: int = 0
    is_short: bool = False
    """Whether a caller waits for one of them, or a connection of one is overdue."""
    exported: frozenset[str] = frozenset()
    """Facts that the library exports itself, under the conventional names."""

    def sum(self, name: str) -> int | None:
        """Add up a field over the pools for which it is known; None if it is known for none."""
        known = [value for sample in self.samples if (value := getattr(sample, name)) is not None]
        at_rest = not self.instances and name in _AT_REST and "gauges" in self.features
        return sum(known) if known or at_rest else None

    @property
    def is_unlimited(self) -> bool:
        """Whether a pool has no limit. Pools that keep nothing, such as a NullPool, do not count."""
        return any(sample.used is not None and sample.max is None for sample in self.samples)

    @property
    def max(self) -> int | None:
        """The sum of the limits; None if one of the pools has no limit."""
        return None if self.is_unlimited else self.sum("max")

    def oldest_wait(self, now: float) -> float:
        """Return for how many seconds the longest waiter has waited; 0 if nobody waits."""
        return max((now - asked for _, _, asked in self.waiting), default=0.0)


_AT_REST = frozenset(("used", "idle", "pending"))
"""Fields that are zero for a label whose pools are all gone."""


class PoolCensus:
    """Reads all pools. Any thread but a loop's."""

    def __init__(self, pools: Pools, hub: Hub, contexts: ContextReader, clock: Clock) -> None:
        self._pools = pools
        self._hub = hub
        self._contexts = contexts
        self._clock = clock

    def records(self, *, all_people: bool) -> tuple[Pool, ...]:
        """Return all pools, with holders and waiters: of all pools, or only of those that are short."""
        now = self._clock.monotonic()
        return tuple(
            self._record(reading, now, people=all_people or reading.is_short)
            for reading in self._readings(all_people=all_people)
        )

    def measures(self, now: float) -> Iterator[Measure]:
        """Yield the facts about pools."""
        readings = self._readings(all_people=False)
        for reading in readings:
            yield from _common(reading)
        yield from _others(readings, now)
        yield from _databases(readings, now)
        yield from _executors(readings, now)
        yield from _servers(readings)
        up: dict[tuple[str, str], bool] = {}
        for binding in self._hub.bindings():
            for feature, works in binding.up.items():
                of = (binding.reader.kind, str(feature))
                up[of] = up.get(of, True) and works
        for of, works in up.items():
            yield "reader_up", of, int(works)

    def _readings(self, *, all_people: bool) -> list[_Reading]:
        bound = {kind: self._hub.of(kind) for kind in {b.reader.kind for b in self._hub.bindings()}}
        readings: dict[tuple[str, str], _Reading] = {}
        for totals in self._pools.totals():
            if totals.kind in bound:
                key = (totals.kind, totals.label)
                readings[key] = _reading(totals.family, key, totals.sum(), bound[totals.kind])
        for pool in self._pools.live():
            anchor = pool.anchor()
            if anchor is not None and pool.kind in bound:
                bindings = bound[pool.kind]
                key = (pool.kind, pool.label)
                if key not in readings:
                    readings[key] = _reading(bindings[0].reader.family, key, WaitCell(), bindings)
                self._add(readings[key], pool, anchor, bindings[0], all_people)
        self._hub.tell()
        return sorted(readings.values(), key=lambda reading: (reading.kind, reading.label))

    def _add(
        self, reading: _Reading, pool: WatchedPool, anchor: Any, binding: Binding, all_people: bool
    ) -> None:
        reading.instances += 1
        sample = binding.sample(anchor)
        if sample is not None:
            reading.samples.append(_plausible(sample))
        waiting = binding.waiting(anchor, pool.acquires())
        reading.waiting += [acquire for acquire in waiting if acquire[2] >= pool.since]
        short = bool(pool.overdue) or (sample is not None and bool(sample.pending))
        reading.is_short = reading.is_short or short
        if all_people or short:
            ask = partial(binding.in_use, anchor)
            held = still_held(pool, ask, self._clock.monotonic(), binding.reader.carries)
            if held is not None:
                reading.held = [*(reading.held or ()), *held.values()]

    def _record(self, reading: _Reading, now: float, *, people: bool) -> Pool:
        waits, totals = "waits" in reading.features, reading.totals
        distribution = totals.waits
        held = reading.held if people else None
        waiting = reading.waiting if people and waits else None
        return Pool(
            kind=reading.kind,
            label=reading.label,
            max=reading.max,
            used=reading.sum("used"),
            idle=reading.sum("idle"),
            connecting=reading.sum("connecting"),
            pending=reading.sum("pending"),
            oldest_wait=reading.oldest_wait(now) if waits else None,
            wait_count=distribution.count if waits else None,
            wait_sum=distribution.sum if waits else None,
            wait_p99=distribution.quantile(0.99) if waits else None,
            timeouts=totals.timeouts if waits else None,
            rejected=totals.rejected if waits else None,
            cancelled=totals.cancelled if waits else None,
            instances=reading.instances,
            created=totals.created,
            borrowers=None if held is None else borrowers(held, now, self._contexts),
            waiters=None if waiting is None else waiters(waiting, now, self._contexts),
        )


def _reading(family: Family, key: tuple[str, str], totals: WaitCell, bindings: list[Binding]) -> _Reading:
    working = frozenset(feature for binding in bindings for feature, works in binding.up.items() if works)
    exported = frozenset(stem for binding in bindings for stem in binding.exports())
    return _Reading(*key, family, totals, working, exported=exported)


def _plausible(sample: Sample) -> Sample:
    """Limit the values of a sample to what is possible: they were not all read at the same moment."""
    for name in ("used", "idle", "pending", "connecting"):
        value = getattr(sample, name)
        if value is not None:
            setattr(sample, name, max(0, value))
    if sample.max is not None and sample.used is not None:
        sample.used = min(sample.used, sample.max)
    return sample


def _common(reading: _Reading) -> Iterator[Measure]:
    """Yield the facts that no convention has a name for."""
    labels = (reading.label, reading.kind)
    yield "pool_instances", labels, reading.instances
    yield "pool_created", labels, reading.totals.created
    if (connecting := reading.sum("connecting")) is not None:
        yield "pool_connecting", labels, connecting
    if "waits" in reading.features:
        yield "pool_rejected", labels, reading.totals.rejected
        yield "pool_cancelled", labels, reading.totals.cancelled


def _others(readings: Iterable[_Reading], now: float) -> Iterator[Measure]:
    for reading in readings:
        if reading.family in ("http", "other"):
            labels = (reading.label, reading.kind)
            for stem, value in (
                ("pool_usage", reading.sum("used")),
                ("pool_limit", reading.max),
                ("pool_idle", reading.sum("idle")),
                ("pool_waiters", reading.sum("pending")),
            ):
                if value is not None:
                    yield stem, labels, value
            if "waits" in reading.features:
                yield "pool_oldest_wait", labels, reading.oldest_wait(now)
                yield "pool_wait", labels, reading.totals.waits
                yield "pool_timeouts", labels, reading.totals.timeouts


def _databases(readings: Iterable[_Reading], now: float) -> Iterator[Measure]:
    """Yield the conventional facts. Pools of two libraries that share a name are added up."""
    by_label: dict[str, list[_Reading]] = {}
    for reading in readings:
        if reading.family == "database":
            by_label.setdefault(reading.label, []).append(reading)
    for label, together in by_label.items():
        for stem, state, value_of in _OF_DATABASES:
            ours = [one for one in together if stem not in one.exported]
            known = [value for one in ours if (value := value_of(one)) is not None]
            if known and not (stem == "database_limit" and any(one.is_unlimited for one in ours)):
                yield stem, (label, *state), sum(known)
        timed = [one for one in together if "waits" in one.features]
        if timed:
            yield "database_oldest_wait", (label,), max(one.oldest_wait(now) for one in timed)
        if waits := [one.totals for one in timed if "database_wait" not in one.exported]:
            yield "database_wait", (label,), _added(waits)
        if timeouts := [one.totals.timeouts for one in timed if "database_timeouts" not in one.exported]:
            yield "database_timeouts", (label,), sum(timeouts)


_OF_DATABASES: tuple[tuple[str, tuple[str, ...], Callable[[_Reading], int | None]], ...] = (
    ("database_connections", ("used",), lambda one: one.sum("used")),
    ("database_connections", ("idle",), lambda one: one.sum("idle")),
    ("database_limit", (), lambda one: one.max),
    ("database_waiters", (), lambda one: one.sum("pending")),
)
"""Facts that are added up, with their labels besides that of the pool."""


def _executors(readings: Iterable[_Reading], now: float) -> Iterator[Measure]:
    by_label: dict[str, list[_Reading]] = {}
    for reading in readings:
        if reading.family == "executor":
            by_label.setdefault(reading.label, []).append(reading)
    for label, together in by_label.items():
        used = [value for one in together if (value := one.sum("used")) is not None]
        idle = [value for one in together if (value := one.sum("idle")) is not None]
        limits = [value for one in together if (value := one.max) is not None]
        queued = [value for one in together if (value := one.sum("pending")) is not None]
        for stem, known in (("executor_limit", limits), ("executor_used", used), ("executor_queue", queued)):
            if known:
                yield stem, (label,), sum(known)
        if used and idle:
            yield "executor_workers", (label,), sum(used) + sum(idle)
        timed = [one for one in together if "waits" in one.features]
        if timed:
            yield "executor_oldest_wait", (label,), max(one.oldest_wait(now) for one in timed)
            yield "executor_wait", (label,), _added(one.totals for one in timed)


def _added(totals: Iterable[WaitCell]) -> Distribution:
    added = WaitCell()
    for cell in totals:
        added.absorb(cell)
    return added.waits


def _servers(readings: Iterable[_Reading]) -> Iterator[Measure]:
    """Yield the connections by server: the servers with most one by one, the rest together."""
    active: Counter[Server] = Counter()
    idle: Counter[Server] = Counter()
    for sample in (sample for reading in readings for sample in reading.samples):
        for server, (busy, free) in (sample.servers or {}).items():
            active[server] += busy
            idle[server] += free
    ranked = [server for server, _ in (active + idle).most_common()]
    for server in ranked[:TOP]:
        host, port = server
        yield "http_connections", ("active", host, str(port)), active[server]
        yield "http_connections", ("idle", host, str(port)), idle[server]
    if ranked[TOP:]:
        yield "http_connections", ("active", OTHER, OTHER), sum(active[server] for server in ranked[TOP:])
        yield "http_connections", ("idle", OTHER, OTHER), sum(idle[server] for server in ranked[TOP:])
