"""The ways by which metrics leave the process: an endpoint of ours, and renderings for the program's own.

They are made when first needed. ``prometheus_client`` decides for the whole process, as it is imported,
whether it is in multiprocess mode and what it exports. The program may configure that in its first lines,
which a server may import within its loop. So we import it only once that loop is running, and in the
endpoint's thread, since it takes a while.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from loopwatch._agent_records import Snapshot
from loopwatch._allowance import Allowance
from loopwatch._clock import Clock
from loopwatch._document import PATH, Document
from loopwatch._journal import Journal
from loopwatch._settings import Settings
from loopwatch._threads import Imports, OwnThread

from .answer import Answering, Request
from .document import DocumentPage
from .endpoint import Endpoint
from .handover import LISTENER
from .meeting import Meeting, NoMeetingError
from .pages import METRICS, Page, Pages, is_loopback
from .port import Port
from .standby import attend

if TYPE_CHECKING:
    from .exposition import Exposition
    from .kept import KeptCollector
    from .shared import SharedExposition

SHARE = 0.25
"""Share of a core that answers may take in the long run: enough for several Prometheus servers and people.
With each answer the program's loop may have to wait for the GIL. Clients that exceed it wait to be let in."""


class MetricsService:
    """Serves snapshots."""

    def __init__(
        self,
        settings: Settings,
        snapshot: Callable[[], Snapshot],
        document: Callable[[bool], Document],
        imports: Imports,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._document = DocumentPage(document, journal)
        self._journal = journal
        self._clock = clock
        self._endpoint: Endpoint | None = None
        self._port: Port | None = None
        self._meeting: Meeting | None = None
        self._exposition: Exposition | None = None
        self._shared: SharedExposition | None = None
        self._imports = imports
        self._kept: KeptCollector | None = None
        self._allowance = Allowance(SHARE, clock)
        self.cpu_time = 0.0
        """CPU seconds of the endpoint's thread so far."""

    @property
    def url(self) -> str | None:
        """Where the metrics are, maybe on a port that a sibling has; None while they are nowhere."""
        return self._port.url if self._port is not None else None

    @property
    def thread(self) -> OwnThread | None:
        """The endpoint's thread; None while there is none."""
        return self._endpoint.thread if self._endpoint is not None else None

    def start(self) -> None:
        """Start the endpoint, if wanted. If it cannot have its address, that is only logged."""
        host, port = self._settings.prometheus_host, self._settings.prometheus_port
        if port is None:
            return
        endpoint = Endpoint(self._journal, prepare=self._shown, clock=self._clock, on_cost=self._add_cost)
        self._endpoint = endpoint
        respond = self._pages(host).respond
        self._port = Port(host, port, endpoint, respond, self._rest, self._imports, self._journal)
        problem = ""
        try:
            if port:
                try:
                    self._meeting = Meeting(host, port, self._settings.service_name)
                except NoMeetingError as error:
                    problem = f" Workers cannot share it, since they have no place to meet: {error}"
            if self._meeting is None:
                self._port.take()
            else:
                answer = partial(self._answer_sibling, self._port, self._meeting)
                take_over = self._port.converse
                attending = partial(attend, respond=answer, take_over=take_over, clock=self._clock)
                endpoint.talk(self._meeting.listener, attending)
                self._port.share(self._meeting)
            endpoint.start()
        except OSError as error:
            self._port.complain(error, problem)
            self.stop()
        except BaseException:
            self.stop()
            raise

    def prepare(self) -> None:
        """Have the endpoint's thread import what the first scrape needs. A chore of the watchdog."""
        if self._endpoint is not None:
            self._endpoint.prepare()

    def stop(self) -> None:
        """Stop the endpoint, and leave its siblings."""
        endpoint, port, meeting = self._endpoint, self._port, self._meeting
        self._endpoint = self._port = self._meeting = None
        if endpoint is not None:
            endpoint.stop()
        if port is not None:
            port.close()
        if meeting is not None:
            meeting.leave()

    def forget(self) -> None:
        """Close the endpoint's sockets and files: in a forked child, where its thread does not run."""
        self.cpu_time = 0.0
        self._allowance = Allowance(SHARE, self._clock)
        for part in (self._endpoint, self._port, self._meeting):
            if part is not None:
                part.close()
        self._endpoint = self._port = self._meeting = self._shared = None

    def kept(self) -> KeptCollector:
        """Return the renderings that are kept ready for the program's own registry and service."""
        if self._kept is None:
            from .kept import KeptCollector

            self._kept = KeptCollector(self._snapshot, self._journal)
        return self._kept

    @property
    def collector(self) -> KeptCollector | None:
        """The collector for the program's own registry, if it has asked for one."""
        return self._kept

    def refresh(self) -> None:
        """Renew the renderings that are about to be read. A chore of the watchdog."""
        if self._kept is not None:
            self._kept.refresh()

    def _pages(self, host: str) -> Pages:
        """Return the port's pages. The Host of a scrape may be any name, unless only this machine can ask."""
        metrics = Page(self._answer, "the metrics", by_any_name=not is_loopback(host))
        document = Page(self._answer_document, "all else, for loopwatch top,")
        return Pages({METRICS: metrics, PATH: document}, host)

    def _answer(self, request: Request) -> Answering:
        """Answer a scrape: with the metrics of all workers, if there are several."""
        if self._meeting is None:
            return self._shown().answer(request)
        if self._shared is None:
            from .shared import SharedExposition

            self._shared = SharedExposition(self._shown(), self._meeting, self._clock)
        return (yield from self._shared.answer(request))

    def _answer_document(self, request: Request) -> Answering:
        return (yield from self._document.answer_of_any(request, self._meeting, self._clock))

    def _rest(self) -> float:
        return self._allowance.rest(self.cpu_time)

    def _answer_sibling(self, port: Port, meeting: Meeting, request: Request) -> Answering:
        """Answer a sibling: with the data of this process, or with a share in the port."""
        yield from ()
        meeting.shared = True
        if request.path == LISTENER:
            return port.handover.answer()
        if request.path == PATH:
            return self._document.answer(request, meeting)
        return self._shown().answer(request)

    def _shown(self) -> Exposition:
        """Return what the endpoint shows, made at the first call. The endpoint's thread."""
        if self._exposition is None:
            with self._imports:
                from .exposition import Exposition
                from .prometheus import SnapshotCollector, registry_of

            registry = registry_of(SnapshotCollector(self._snapshot, self._journal))
            self._exposition = Exposition(registry, self._journal)
        return self._exposition

    def _add_cost(self, seconds: float) -> None:
        self.cpu_time += seconds
