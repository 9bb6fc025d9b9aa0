"""Whose provider each signal goes through: the program's as soon as it sets one, until then one of ours.

Ours are built from the standard ``OTEL_*`` variables and never set as the global ones. They export nothing by
themselves: what they are given waits until our thread sends it. So they have no threads, whose fork hooks
would start some in each child.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points, version
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from loopwatch import _otlp
from loopwatch._clock import Clock
from loopwatch._internals.otel_providers import provider_set
from loopwatch._journal import Journal
from loopwatch._version import __version__

from .delivery import Delivery

SCOPE = "loopwatch"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the semantic conventions that names and attributes follow."""

MOST_WAITING = 512
"""Spans, or log records, that wait for a Collector that is away. Then the oldest go, and are counted."""
PAUSE = 5.0
"""Seconds between two attempts to send the same ones..."""
ATTEMPTS = 30
"""...of which there are that many, since one the Collector refuses would hold up the others."""


def resource(service_name: str) -> Resource:
    """Describe this process. Its instance is a new one at each call, unless the program names it.

    As ``Resource.create`` does, which would take an executor for it, and that would be among the program's.
    """
    described = Resource(
        {
            "service.instance.id": str(uuid.uuid4()),
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": version("opentelemetry-sdk"),
        }
    )
    further = os.environ.get("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "").split(",")
    for name in dict.fromkeys((*map(str.strip, further), "otel")):
        for detector in entry_points(group="opentelemetry_resource_detector", name=name):
            described = described.merge(detector.load()().detect())
    ours: dict[str, str | int] = {
        "service.name": service_name,
        "process.pid": os.getpid(),
        "telemetry.distro.name": SCOPE,
        "telemetry.distro.version": __version__,
    }
    return described.merge(Resource({**ours}))


class Outlet:
    """The exporter of one signal, made when there is something to send, and again once it was closed."""

    def __init__(
        self, signal: str, delivery: Delivery, imports: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._signal = signal
        self._delivery = delivery
        self._imports = imports
        self._exporter: Any = None

    def send(self, *batch: Any, **options: Any) -> bool:
        """Send what the exporter's ``export`` takes, and return whether it arrived."""
        return self._delivery.send(self._signal, lambda: self._export(*batch, **options))

    def _export(self, *batch: Any, **options: Any) -> bool:
        if self._exporter is None:
            group, name = (
                f"opentelemetry_{self._signal}_exporter",
                _otlp.exporter_name(self._signal, os.environ),
            )
            (found, *_) = entry_points(group=group, name=name)
            with self._imports():
                make = found.load()
                self._delivery.hush()
                self._exporter = make()
            self._delivery.hush()  # again: it imports what it sends with
        return bool(self._exporter.export(*batch, **options).name == "SUCCESS")

    def close(self) -> None:
        """Close the connection; another thread that sends on it gives up. The next batch opens a new one."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            exporter.shutdown()


class Waiting:
    """Spans or log records on their way: the exporter of a provider of ours, as that sees it."""

    def __init__(self, outlet: Outlet, clock: Clock) -> None:
        self._outlet = outlet
        self._clock = clock
        self._waiting: deque[Any] = deque()
        self._attempts = 0
        self._next_attempt = 0.0
        self.dropped = 0

    def export(self, batch: Sequence[Any]) -> None:
        """Take what has been emitted."""
        self._waiting.extend(batch)
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def deliver(self, *, at_once: bool) -> None:
        """Send what waits, unless that failed a moment ago."""
        if not self._waiting or (self._clock.monotonic() < self._next_attempt and not at_once):
            return
        self._attempts += 1
        if self._outlet.send(tuple(self._waiting)):
            self._waiting.clear()
        elif self._attempts == ATTEMPTS:
            self.dropped += len(self._waiting)
            self._waiting.clear()
        else:
            self._next_attempt = self._clock.monotonic() + PAUSE
            return
        self._attempts = 0

    def shutdown(self) -> None:
        """Let go of what waits, for good."""
        self._outlet.close()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Nothing is sent but by ``deliver``."""
        return True


def tracer_provider(described: Resource, waiting: Waiting) -> TracerProvider:
    """Build a provider whose spans wait. The sampler is the one that ``OTEL_TRACES_SAMPLER`` names."""
    provider = TracerProvider(resource=described, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(waiting))  # type: ignore[arg-type]
    return provider


class Choice:
    """Chooses for one signal, anew each time it is asked."""

    def __init__(self, signal: str, build: Callable[[], Any], journal: Journal) -> None:
        self._signal = signal
        self._build = build
        self._journal = journal
        self._wanted = _otlp.wanted(signal, os.environ)
        self.ours: Any = None
        self.theirs: Any = None

    def look(self) -> None:
        """See whether the program has set a provider; then ours is shut down, and gets nothing any more."""
        self.theirs = provider_set(self._signal)
        if self.theirs is not None:
            self.end()

    def provider(self) -> Any | None:
        """Return the provider to use, ours built if need be; None for a signal that is not to be exported."""
        if self.theirs is not None:
            return self.theirs
        if self.ours is None and self._wanted:
            try:
                self.ours = self._build()
            except Exception as error:  # noqa: BLE001 - what a variable says may be anything
                self._wanted = False
                # To import the SDK takes an executor, which cannot be had once the interpreter ends.
                level = logging.WARNING if threading.main_thread().is_alive() else logging.DEBUG
                self._journal.say(level, "loopwatch: no %s are exported by OTLP: %s", self._signal, error)
        return self.ours

    def end(self) -> None:
        """Shut ours down, if there is one."""
        ours, self.ours = self.ours, None
        if ours is not None:
            ours.shutdown()
