"""The ways by which metrics leave the process: an endpoint of ours, and renderings for the program's own.

Made when they are first needed, since ``prometheus_client`` takes a while to import.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from loopwatch import _settings
from loopwatch._clock import Clock
from loopwatch._journal import Journal
from loopwatch._records import Snapshot
from loopwatch._settings import Settings

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .kept import KeptCollector


class MetricsService:
    """Serves snapshots."""

    def __init__(
        self, settings: Settings, snapshot: Callable[[], Snapshot], journal: Journal, clock: Clock
    ) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._journal = journal
        self._clock = clock
        self._endpoint: Endpoint | None = None
        self._kept: KeptCollector | None = None
        self.cpu_time = 0.0
        """CPU seconds of the endpoint's thread so far."""

    @property
    def url(self) -> str | None:
        """Where the endpoint is; None while there is none."""
        return self._endpoint.url if self._endpoint is not None else None

    def prepare(self) -> None:
        """Import what the endpoint needs: in the time of whoever installs us, not of the first loop."""
        if self._settings.prometheus_port is not None:
            from . import endpoint, prometheus  # noqa: F401

    def start(self) -> None:
        """Start the endpoint, if it is wanted; one that cannot have its address is told of, no more."""
        host, port = self._settings.prometheus_host, self._settings.prometheus_port
        if port is None:
            return
        from .endpoint import Endpoint
        from .prometheus import SnapshotCollector, registry_of

        registry = registry_of(SnapshotCollector(self._snapshot, self._journal))
        try:
            endpoint = Endpoint(
                host, port, registry, self._journal, clock=self._clock, on_cost=self._add_cost
            )
        except OSError as error:
            # Under ``loopwatch run`` the holder is a process of the same program, or has been complained of.
            self._journal.say(
                logging.DEBUG if _settings.RUN in os.environ else logging.WARNING,
                "loopwatch: no /metrics endpoint, since %s:%d cannot be had: %s. Everything else works; give "
                "prometheus_port=0 for any free port, or None for no endpoint.",
                host,
                port,
                error,
            )
            return
        endpoint.start()
        self._endpoint = endpoint

    def stop(self) -> None:
        """Stop the endpoint."""
        if self._endpoint is not None:
            self._endpoint.stop()
            self._endpoint = None

    def forget_endpoint(self) -> None:
        """Close the endpoint's sockets: in a forked child, where its thread does not run."""
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None

    def kept(self) -> KeptCollector:
        """Return the renderings kept ready for the program's own registry and service."""
        if self._kept is None:
            from .kept import KeptCollector

            self._kept = KeptCollector(self._snapshot, self._journal)
        return self._kept

    def refresh(self) -> None:
        """Render anew what somebody is about to read. The watchdog's chore."""
        if self._kept is not None:
            self._kept.refresh()

    def _add_cost(self, seconds: float) -> None:
        self.cpu_time += seconds
