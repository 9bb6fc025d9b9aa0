"""Whose provider each signal goes through: the program's once it sets one, until then one of ours.

Ours are built from the standard ``OTEL_*`` variables and never set as global ones. They export nothing by
themselves: what they receive waits until our thread sends it. So they have no threads, whose fork hooks would
start some in each child.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from loopwatch import _otlp
from loopwatch._clock import Clock
from loopwatch._internals.otel_providers import provider_set
from loopwatch._internals.otel_sdk import left_to_parent
from loopwatch._journal import Journal
from loopwatch._version import __version__

from .delivery import Delivery

if TYPE_CHECKING:
    from .connections import Session

SCOPE = "loopwatch"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the semantic conventions that names and attributes follow."""

COMPONENT = "otlp"
"""The component under which failures to export an event are counted."""
MOST_WAITING = 256
"""Events that may wait, per signal, for a Collector that is away. The oldest beyond are dropped and counted.

The agent keeps as many of the records that the events are made from."""
BATCH = 16
"""Events that are converted and sent together: results take memory, and after an outage there are many."""
SOON = 1.0
"""Seconds until something interrupted is sent again: there may be several forks in a row."""
PAUSE = 5.0
"""Seconds between two attempts to send the same batch..."""
ATTEMPTS = 30
"""...and the number of attempts, since a batch that the Collector refuses would hold up the others."""

_SESSION_OF_THE_PROGRAM = re.compile(r"OTEL_PYTHON_EXPORTER_OTLP_HTTP_(?:\w+_)?CREDENTIAL_PROVIDER")
"""Variables by which a program has the exporters send with a session of its own."""


def resource(service_name: str) -> Resource:
    """Describe this process, as a new instance at each call, unless the program names the instance.

    ``Resource.create`` does the same, but needs an executor, which would count as the program's.
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


def prepare(signal: str) -> None:
    """Import what sends ``signal``, unless the program takes care of that itself."""
    if _otlp.wanted(signal, os.environ) and provider_set(signal) is None:
        _exporter(signal)
        if _by_our_session(signal):
            from . import connections  # noqa: F401


def _exporter(signal: str) -> Callable[..., Any]:
    """Return the class of the exporter that the variables name."""
    group, name = f"opentelemetry_{signal}_exporter", _otlp.exporter_name(signal, os.environ)
    (found, *_) = entry_points(group=group, name=name)
    make: Callable[..., Any] = found.load()
    return make


def _by_our_session(signal: str) -> bool:
    """Whether ``signal`` is sent over HTTP, by a session that we may create."""
    by_http = _otlp.exporter_name(signal, os.environ) == _otlp.HTTP_EXPORTER
    return by_http and not any(map(_SESSION_OF_THE_PROGRAM.fullmatch, os.environ))


class Outlet:
    """The exporter of one signal, created when there is something to send, and again after it was closed."""

    def __init__(
        self, signal: str, delivery: Delivery, imports: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._signal = signal
        self._delivery = delivery
        self._imports = imports
        self._exporter: Any = None
        self._session: Session | None = None

    def send(self, *batch: Any, **options: Any) -> bool:
        """Send a batch, the arguments of the exporter's ``export``; return whether it arrived."""
        return self._delivery.send(self._signal, lambda: self._export(*batch, **options))

    @property
    def interrupted(self) -> bool:
        """Whether the last batch did not arrive because it was interrupted: it is then sent again soon."""
        return self._delivery.interrupted

    def _export(self, *batch: Any, **options: Any) -> bool:
        if self._exporter is None:
            with self._imports():
                make = _exporter(self._signal)
                self._delivery.hush()
                self._exporter = make(**self._options())
            self._delivery.hush()  # again: the exporter may have imported more loggers
            self._delivery.remark()
        exporter, session = self._exporter, self._session
        try:
            return bool(exporter.export(*batch, **options).name == "SUCCESS")
        finally:
            if session is not None and (error := session.forget_errors()) is not None:
                self._delivery.because(error)

    def _options(self) -> dict[str, Any]:
        if not _by_our_session(self._signal):
            return {}
        from .connections import Session

        self._session = Session()
        return {"session": self._session}

    @property
    def interruptible(self) -> bool:
        """Whether closing is sure to take no time: a gRPC exporter has threads to end. Any thread."""
        return self._session is not None

    def close(self) -> None:
        """Close the connection; another thread sending on it gives up. The next batch opens a new one."""
        exporter, self._exporter = self._exporter, None
        session, self._session = self._session, None
        if exporter is not None:
            exporter.shutdown()
        if session is not None:
            session.close()  # maybe again: some exporters do not close it


Make = Callable[[Any], object]
"""Makes a span with the tracer, or a log record with the logger, that it is given."""


class Waiting:
    """What one signal has yet to deliver; also the exporter of ours, as our provider sees it.

    It keeps the functions that make spans and log records, not their results: those would take several times
    the memory of the agent's records they are made from, which are kept anyway.
    """

    def __init__(self, outlet: Outlet, scoped: Callable[[Any], Any], journal: Journal, clock: Clock) -> None:
        self._outlet = outlet
        self._scoped = scoped
        self._journal = journal
        self._clock = clock
        self._waiting: deque[Make] = deque()
        self._made: list[Any] = []
        self._attempts = 0
        self._next_attempt = 0.0
        self.dropped = 0

    def put(self, make: Make) -> None:
        """Have ``make`` called when its time comes, and again if its result does not arrive."""
        self._waiting.append(make)
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def export(self, batch: Sequence[Any]) -> None:
        """Take what our provider was given."""
        self._made.extend(batch)

    def deliver(self, choice: Choice, *, at_once: bool) -> None:
        """Export what waits through the provider of ``choice``; if that is ours, until it has arrived.

        Does nothing if that failed a moment ago. Drops what is not to be exported.
        """
        provider = choice.provider()
        if provider is None:
            self._waiting.clear()
        elif choice.theirs is not None:
            self._make(provider, len(self._waiting))
        elif at_once or self._clock.monotonic() >= self._next_attempt:
            while self._waiting and self._attempt(provider):
                self._attempts = 0

    def _attempt(self, provider: Any) -> bool:
        """Send the first batch of what waits, and return whether it arrived."""
        batch = self._make(provider, BATCH)
        made, self._made = tuple(self._made), []
        if not made or self._outlet.send(made):
            return True
        if self._outlet.interrupted:
            self._next_attempt = self._clock.monotonic() + SOON
        else:
            self._attempts += 1
            self._next_attempt = self._clock.monotonic() + PAUSE
        if self._attempts == ATTEMPTS:
            self._attempts = 0
            self.dropped += len(batch)
        else:
            self._waiting.extendleft(reversed(batch))
        return False

    def _make(self, provider: Any, most: int) -> list[Make]:
        """Make the first ``most`` of what waits, and return their functions, except those that failed."""
        batch = []
        for make in [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]:
            try:
                make(self._scoped(provider))
                batch.append(make)
            except Exception as error:  # noqa: BLE001 - the program's provider may raise anything
                self._journal.failure(COMPONENT, error)
        return batch

    def shutdown(self) -> None:
        """Close the connection."""
        self._outlet.close()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Do nothing: only ``deliver`` sends."""
        return True


def tracer_of(provider: TracerProvider) -> Any:
    """Return the tracer for our spans."""
    return provider.get_tracer(SCOPE, __version__, schema_url=SCHEMA_URL)


def logger_of(provider: Any) -> Any:
    """Return the logger for our log records."""
    return provider.get_logger(SCOPE, __version__, schema_url=SCHEMA_URL)


def tracer_provider(described: Resource, waiting: Waiting) -> TracerProvider:
    """Build a provider whose spans wait. Its sampler is the one that ``OTEL_TRACES_SAMPLER`` names."""
    provider = left_to_parent(TracerProvider)(resource=described, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(waiting))  # type: ignore[arg-type]
    return provider


class Choice:
    """Chooses the provider of one signal, anew each time it is asked."""

    def __init__(self, signal: str, build: Callable[[], Any], journal: Journal) -> None:
        self._signal = signal
        self._build = build
        self._journal = journal
        self._wanted = _otlp.wanted(signal, os.environ)
        self.ours: Any = None
        self.theirs: Any = None

    def look(self) -> None:
        """Check whether the program has set a provider; if so, ours is shut down and gets nothing more."""
        self.theirs = provider_set(self._signal)
        if self.theirs is not None:
            self.end()

    def provider(self) -> Any | None:
        """Return the provider to use, building ours if need be; None if the signal is not to be exported."""
        if self.theirs is not None:
            return self.theirs
        if self.ours is None and self._wanted:
            try:
                self.ours = self._build()
            except Exception as error:  # noqa: BLE001 - a variable may have any value
                self._wanted = False
                # Importing the SDK creates an executor, which is impossible once the interpreter ends.
                level = logging.WARNING if threading.main_thread().is_alive() else logging.DEBUG
                self._journal.say(level, "loopwatch: no %s are exported by OTLP: %s", self._signal, error)
        return self.ours

    def end(self) -> None:
        """Shut ours down, if there is one."""
        ours, self.ours = self.ours, None
        if ours is not None:
            ours.shutdown()
