"""The OpenTelemetry export, as the agent sees it: a thread of its own, which begins and ends.

Spans are ended and log records emitted there, since a provider of the program's may block that call for as
long as its Collector does not answer. Whoever installs us imports the SDK beforehand: importing it in that
thread would hold up a fork, and forked workers inherit it from their parent.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from loopwatch._agent_records import Snapshot
from loopwatch._clock import Clock
from loopwatch._journal import Journal
from loopwatch._settings import Settings
from loopwatch._threads import Imports, IsToEnd, OwnThread

if TYPE_CHECKING:
    from loopwatch.exporters.kept import KeptCollector

    from .pipeline import Pipeline, Teller

COMPONENT = "otlp"
"""The component under which failures are counted."""
SENT = 1.0
"""Seconds that pending data may take to arrive when a drain ends..."""
FLUSH = 2.0
"""...and when we end."""
GIVE_UP = 0.3
"""Seconds the thread has to end once its connections are closed."""


class OtelService:
    """Exports snapshots, and what ``tellers`` make. That is called in the thread, which may import the SDK.

    ``collector`` returns our collector in a registry of the program's, if there is one; ``unwatched`` keeps
    whatever a thread creates meanwhile from counting as the program's.
    """

    def __init__(
        self,
        settings: Settings,
        snapshot: Callable[[], Snapshot],
        tellers: Callable[[], Sequence[Teller]],
        collector: Callable[[], KeptCollector | None],
        unwatched: Callable[[], AbstractContextManager[object]],
        imports: Imports,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._tellers = tellers
        self._collector = collector
        self._unwatched = unwatched
        self._journal = journal
        self._clock = clock
        self._started_at = clock.wall()
        self._pipeline: Pipeline | None = None
        self._imports = imports
        self._wake = threading.Event()
        self.thread = OwnThread("loopwatch-otel", self._run, self._wake.set)
        self._ident = 0
        """Id of that thread."""
        self._over = threading.Event()
        self._theirs: frozenset[str] = frozenset()
        """Signals that went through a provider of the program's when we last registered ``flush`` at exit."""
        self._flushes: deque[threading.Event] = deque()
        """Each is set once everything is sent that was pending when it was put here."""
        self._stopping = False
        self.cpu_time = 0.0
        """CPU seconds of the thread so far."""
        self._earlier_cpu = 0.0
        """CPU seconds of earlier threads of ours."""

    @property
    def dropped(self) -> int:
        """Number of items lost on the way."""
        return self._pipeline.dropped if self._pipeline is not None else 0

    def prepare(self) -> None:
        """Import what the export needs, if it is wanted. Raises whatever an import may."""
        if self._settings.otlp:
            with self._importing():
                from . import events  # noqa: F401
                from .pipeline import prepare

                prepare()

    def start(self) -> None:
        """Start the thread, if wanted and not started yet. Raises RuntimeError if none can be started."""
        if self._settings.otlp and not self.thread.started:
            self._stopping = False
            self._over.clear()
            self.thread.start()

    def flush(self) -> None:
        """Send what is pending, including metrics, and wait for that, ``SENT`` seconds at most."""
        if self.thread.started:
            sent = threading.Event()
            self._flushes.append(sent)
            self._wake.set()
            sent.wait(SENT)

    def stop(self, timeout: float | None = None) -> None:
        """Send what is left, for ``timeout`` seconds at most (default ``FLUSH``), and end the thread."""
        self._stopping = True
        atexit.unregister(self.flush)
        self._theirs = frozenset()
        self.thread.end(FLUSH if timeout is None else timeout)
        pipeline = self._pipeline
        if pipeline is not None and threading.get_ident() != self._ident:  # else it goes on once we return
            pipeline.give_up()
            self._over.wait(GIVE_UP)

    def interrupt(self) -> None:
        """Break off an export that hangs: a fork waits for the thread."""
        if self._pipeline is not None:
            self._pipeline.interrupt()

    def forget(self) -> None:
        """Go back to before the first start, in a forked child; leaves the parent's providers as they are."""
        _left_to_parents.append(self._pipeline)
        self._pipeline = None
        self.thread.forget()
        self._wake.clear()
        self._flushes.clear()
        self._stopping = False
        self._started_at = self._clock.wall()
        self.cpu_time = self._earlier_cpu = 0.0

    def _run(self, is_to_end: IsToEnd) -> None:
        self._ident = threading.get_ident()
        self._earlier_cpu = self.cpu_time
        try:
            with self._importing():
                pipeline = self._pipeline = self._pipeline or self._built()
        except Exception as error:  # noqa: BLE001 - counted; everything but this export works
            self._journal.failure(COMPONENT, error)
            return
        ends = False
        while not ends:
            self._wake.wait(pipeline.pause)
            self._wake.clear()  # before the reasons to wake are examined
            ends = is_to_end()
            if ends and not self._stopping:  # for a fork: a child must have no connection of ours
                self._guarded(pipeline.disconnect)
                return
            asked = list(self._flushes)
            self._guarded(partial(pipeline.round, flush=ends or bool(asked)))
            if not ends:
                self._be_before(pipeline.theirs)
            for sent in asked:
                self._flushes.remove(sent)
                sent.set()
            self.cpu_time = self._earlier_cpu + self._clock.thread_cpu()
        self._guarded(pipeline.end)
        self._pipeline = None
        self._over.set()

    def _be_before(self, theirs: frozenset[str]) -> None:
        """Flush at exit before the program's providers shut down: the last registered is called first."""
        if theirs != self._theirs:
            self._theirs = theirs
            atexit.unregister(self.flush)
            atexit.register(self.flush)

    @contextmanager
    def _importing(self) -> Iterator[None]:
        """Import, or build what may import: no fork intervenes, and no executor counts as the program's."""
        with self._imports, self._unwatched():
            yield

    def _built(self) -> Pipeline:
        from .pipeline import Pipeline

        return Pipeline(
            self._settings,
            self._snapshot,
            self._tellers(),
            self._collector,
            self._started_at,
            self._importing,
            self._journal,
            self._clock,
        )

    def _guarded(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - counted, and the next round is tried
            self._journal.failure(COMPONENT, error)


_left_to_parents: list[object] = []
"""What forked children inherited. If freed, it would close, and so wait for threads that do not run here."""
