"""Every counter and gauge of the catalogue as an observable instrument of a meter: only ever pulled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from loopwatch import facts
from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch._version import __version__

from .providers import SCHEMA_URL, SCOPE

COMPONENT = "otlp"
"""The component under which failures are counted."""

Source = Callable[[], Snapshot]


def meter_of(provider: MeterProvider) -> Meter:
    """Return the meter that all our instruments belong to."""
    return provider.get_meter(SCOPE, __version__, SCHEMA_URL)


def attributes(fact: facts.Fact, point: Point) -> dict[str, str | int]:
    """Return the labels of ``point`` as attributes."""
    return {
        label: int(text) if label in facts.INTEGERS and text.isdecimal() else text
        for label, text in zip(fact.labels, point.texts, strict=True)
    }


class Instruments:
    """The instruments on one meter. They stay there for good: an instrument cannot be removed.

    The callbacks of one collection come one after the other, once for each instrument; they share a snapshot.
    So an instrument that asks for a snapshot a second time begins the next collection.
    """

    def __init__(self, meter: Meter) -> None:
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._journal: Journal | None = None
        self._snapshot: Snapshot | None = None
        self._served: set[str] = set()
        create = {
            "counter": meter.create_observable_counter,
            "gauge": meter.create_observable_gauge,
            "updowncounter": meter.create_observable_up_down_counter,
        }
        self._instruments = [
            create[fact.kind](fact.name, [partial(self._observe, fact)], fact.unit, fact.help)
            for fact in facts.ALL
            if fact.kind in create
        ]

    def connect(self, source: Source | None, journal: Journal | None) -> None:
        """Observe the snapshots of ``source`` from now on; None: nothing."""
        self._source, self._journal = source, journal
        self._snapshot = None
        self._served = set()

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that the last collection was served from."""
        return self._snapshot

    def _observe(self, fact: facts.Fact, _: CallbackOptions) -> Iterable[Observation]:
        source, journal = self._source, self._journal
        if source is None or journal is None:
            return []
        try:
            points = self._shared(source, fact.stem).points.get(fact.stem, ())
            return [_observation(fact, point) for point in points]
        except Exception as error:  # noqa: BLE001 - counted; the program's collection goes on
            journal.failure(COMPONENT, error)
            return []

    def _shared(self, source: Source, stem: str) -> Snapshot:
        with self._lock:
            if self._snapshot is None or stem in self._served:
                self._snapshot = source()
                self._served = set()
            self._served.add(stem)
            return self._snapshot


def _observation(fact: facts.Fact, point: Point) -> Observation:
    if not isinstance(point.value, int | float):
        raise TypeError(f"{fact.stem} is a {fact.kind} and takes numbers, got {point.value!r}")
    return Observation(point.value, attributes(fact, point))


_of_programs: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()
"""Those on providers of the program: made once for each, even if loopwatch is installed anew."""


def instruments_on(provider: MeterProvider) -> Instruments:
    """Return the instruments on a provider of the program."""
    found = _of_programs.get(provider)
    if found is None:
        found = _of_programs[provider] = Instruments(meter_of(provider))
    return found
