"""The ways by which metrics leave the process: an endpoint of ours, and renderings for the program's own.

Made when they are first needed. ``prometheus_client`` decides for the whole process, as it is imported,
whether it is in multiprocess mode and what it exports. The program may say so in its first lines, which a
server may import within its loop: so we do not import it before that loop goes round, and in the endpoint's
thread, since it takes a while.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from loopwatch import _settings
from loopwatch._clock import Clock
from loopwatch._journal import Journal
from loopwatch._records import Snapshot
from loopwatch._settings import Settings

from .answer import Answer
from .endpoint import Endpoint

if TYPE_CHECKING:
    from .exposition import Exposition
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
        self._exposition: Exposition | None = None
        self._importing = threading.RLock()
        self._kept: KeptCollector | None = None
        self.cpu_time = 0.0
        """CPU seconds of the endpoint's thread so far."""

    @property
    def url(self) -> str | None:
        """Where the endpoint is; None while there is none."""
        return self._endpoint.url if self._endpoint is not None else None

    def start(self) -> None:
        """Start the endpoint, if it is wanted; one that cannot have its address is told of, no more."""
        host, port = self._settings.prometheus_host, self._settings.prometheus_port
        if port is None:
            return
        try:
            endpoint = Endpoint(
                host,
                port,
                self._answer,
                self._journal,
                prepare=self._shown,
                clock=self._clock,
                on_cost=self._add_cost,
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

    def prepare(self) -> None:
        """Have the endpoint's thread import what the first scrape needs. The watchdog's chore."""
        if self._endpoint is not None:
            self._endpoint.prepare()

    def stop(self) -> None:
        """Stop the endpoint."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.stop()

    def before_fork(self) -> None:
        """Wait for an import under way: a child would wait for ever for what the parent's thread imports."""
        self._importing.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._importing.release()

    def forget_endpoint(self) -> None:
        """Close the endpoint's sockets: in a forked child, where its thread does not run."""
        self._importing = threading.RLock()
        self.cpu_time = 0.0
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None

    def kept(self) -> KeptCollector:
        """Return the renderings kept ready for the program's own registry and service."""
        if self._kept is None:
            from .kept import KeptCollector

            self._kept = KeptCollector(self._snapshot, self._journal)
        return self._kept

    @property
    def collector(self) -> KeptCollector | None:
        """The collector for the program's own registry, if it has asked for one."""
        return self._kept

    def refresh(self) -> None:
        """Render anew what somebody is about to read. The watchdog's chore."""
        if self._kept is not None:
            self._kept.refresh()

    def _answer(self, method: str, headers: Mapping[str, str]) -> Answer:
        return self._shown().answer(method, headers)

    def _shown(self) -> Exposition:
        """Return what the endpoint shows, made the first time. The endpoint's thread."""
        if self._exposition is None:
            with self._importing:
                from .exposition import Exposition
                from .prometheus import SnapshotCollector, registry_of

            registry = registry_of(SnapshotCollector(self._snapshot, self._journal))
            self._exposition = Exposition(registry, self._journal)
        return self._exposition

    def _add_cost(self, seconds: float) -> None:
        self.cpu_time += seconds
