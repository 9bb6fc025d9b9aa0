"""The endpoint answers scrapes from its one thread, whatever its other clients and the program do."""

import gzip
import http.client
import logging
import selectors
import socket
import threading
import urllib.request
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily

from loopwatch import _server
from loopwatch._clock import SYSTEM, Clock
from loopwatch._journal import Journal
from loopwatch._server import Wait
from loopwatch.exporters import endpoint as module
from loopwatch.exporters.answer import Answer, Answering, Request, Respond
from loopwatch.exporters.endpoint import MAX_CLIENTS, MAX_REQUEST, PATIENCE, Endpoint, converse
from loopwatch.exporters.exposition import Exposition
from loopwatch.exporters.pages import METRICS, Page, Pages
from loopwatch.testing import FakeClock

TIMEOUT = 30.0
"""Seconds; only a failing test waits as long."""


class OneGauge:
    """A registry with one family; each collection calls ``before`` first."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.before = before

    def collect(self) -> Iterable[Metric]:
        self.before()
        return [GaugeMetricFamily("answer", "The answer.", value=42.0)]


def nothing(request: Request) -> Answering:
    yield from ()
    return Answer(HTTPStatus.OK, b"")


class Serving:
    """An endpoint, and what it reported."""

    def __init__(
        self, registry: OneGauge, clock: Clock = SYSTEM, rest: Callable[[], float] = _server.at_once
    ) -> None:
        self.journal = Journal()
        self.costs: list[float] = []
        self.prepared = threading.Event()
        self.endpoint = Endpoint(
            self.journal, prepare=self.prepared.set, clock=clock, on_cost=self.costs.append
        )
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._respond: Respond | None = None
        self.exposition = Exposition(registry, self.journal)
        pages = Pages({METRICS: Page(self.respond, "the metrics", by_any_name=True)}, "127.0.0.1")
        self.endpoint.talk(listener, partial(converse, respond=pages.respond), rest)
        self.endpoint.start()

    def respond(self, request: Request) -> Answering:
        if self._respond is not None:
            return (yield from self._respond(request))
        return self.exposition.answer(request)

    def respond_with(self, respond: Respond) -> None:
        """Answer like this from now on."""
        self._respond = respond

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)

    def ask(self, request: bytes) -> bytes:
        """Send raw bytes and return all that comes back until the endpoint closes."""
        with closing(self.connect()) as client:
            client.sendall(request)
            with client.makefile("rb") as reply:
                return reply.read()

    def get(
        self, path: str = "/metrics", method: str = "GET", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)) as connection:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=sent)
            response = connection.getresponse()
            return response, response.read()


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def start(registry: OneGauge | None = None, **options: object) -> Serving:
        started.append(Serving(registry or OneGauge(), **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for serving in started:
        serving.endpoint.stop()
    assert "loopwatch-endpoint" not in {thread.name for thread in threading.enumerate()}


Serve = Callable[..., Serving]


def test_it_answers_a_scrape_at_its_url(serve: Serve) -> None:
    url = f"http://127.0.0.1:{serve().port}/metrics"
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.read() == b"# HELP answer The answer.\n# TYPE answer gauge\nanswer 42.0\n"


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", True),
        ("text/html, Application/OpenMetrics-Text; version=nonsense", True),
        ("text/html,*/*", False),
        ("text/plain;version=nonsense", False),
        ("", False),
    ],
)
def test_openmetrics_is_for_those_who_accept_it(serve: Serve, accept: str, openmetrics: bool) -> None:
    response, body = serve().get(accept=accept)
    assert response.status == 200
    assert body.endswith(b"# EOF\n") == openmetrics
    form = "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain; version=0.0.4"
    assert response.headers["Content-Type"] == f"{form}; charset=utf-8"


def test_gzip_is_for_those_who_accept_it(serve: Serve) -> None:
    response, body = serve().get(accept_encoding="br, gzip;q=0.5")
    assert response.headers["Content-Encoding"] == "gzip"
    assert int(response.headers["Content-Length"]) == len(body)
    assert gzip.decompress(body).endswith(b"answer 42.0\n")


def test_head_gets_the_headers_of_get(serve: Serve) -> None:
    serving = serve()
    get, body = serving.get()
    head, nothing = serving.get(method="HEAD")
    assert head.headers.items() == get.headers.items()
    assert (len(body), nothing) == (int(head.headers["Content-Length"]), b"")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /metrics?name=x HTTP/1.1", 200),
        ("GET /metrics HTTP/1.0", 200),
        ("GET / HTTP/1.1", 200),
        ("GET /favicon.ico HTTP/1.1", 404),
        ("GET /metrics/ HTTP/1.1", 404),
        ("POST /metrics HTTP/1.1", 405),
        ("GET /metrics SPDY/3", 400),
        ("\x16\x03\x01\x02", 400),
    ],
)
def test_every_request_gets_a_fitting_status(serve: Serve, request_line: str, status: int) -> None:
    serving = serve()
    reply = serving.ask(f"{request_line}\r\nhost: localhost\r\n\r\n".encode())
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert serving.journal.failures() == {}


def test_a_request_without_end_is_refused(serve: Serve) -> None:
    assert serve().ask(b"x" * MAX_REQUEST).startswith(b"HTTP/1.1 400 ")


def test_other_pages_say_where_the_metrics_are(serve: Serve) -> None:
    serving = serve()
    assert serving.get("/")[1] == b"loopwatch: the metrics at /metrics\n"
    assert serving.get("/x")[1] == b"Nothing here; the metrics at /metrics\n"
    response, _ = serving.get(method="DELETE")
    assert response.headers["Allow"] == "GET, HEAD"


def test_a_failing_registry_is_a_500_of_one_line_and_counted(serve: Serve) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    serving = serve(OneGauge(fail))
    for _ in range(2):
        response, body = serving.get()
        assert (response.status, body.count(b"\n")) == (500, 1)
        assert b"ZeroDivisionError" in body
    assert serving.journal.failures() == {"prometheus": 2}


def test_slow_clients_cost_no_threads_and_keep_no_scrape_out(serve: Serve) -> None:
    serving = serve()
    threads = threading.active_count()
    slow = [serving.connect() for _ in range(MAX_CLIENTS + 5)]
    try:
        assert serving.get()[0].status == 200
        assert threading.active_count() <= threads  # one of an earlier test's may have ended
        for oldest in slow[:5]:
            assert oldest.recv(1) == b""
        slow[-1].sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert slow[-1].recv(8) == b"HTTP/1.1"
    finally:
        for client in slow:
            client.close()


def test_who_asks_all_the_time_waits_to_be_let_in(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are let in at once, then one every 30 ms. None is lost, though more connect than there may be."""
    monkeypatch.setattr(module, "PATIENCE", TIMEOUT)  # a busy machine takes longer for a second's work
    let_in: list[float] = []
    apart = 0.03

    def rest() -> float:
        now = SYSTEM.monotonic()
        missing = max(0.0, began + apart * (len(let_in) - 1) - now)
        let_in.extend([] if missing else [now])
        return missing

    def respond(request: Request) -> Answering:
        yield from ()
        return Answer(HTTPStatus.OK, request.query.encode())

    began = SYSTEM.monotonic()
    serving = serve(rest=rest)
    serving.respond_with(respond)
    with ExitStack() as opened:
        waiting = [opened.enter_context(serving.connect()) for _ in range(MAX_CLIENTS + 8)]
        for number, client in enumerate(waiting):
            client.sendall(f"GET {METRICS}?{number} HTTP/1.1\r\n\r\n".encode())
        for number, client in enumerate(waiting):
            with client.makefile("rb") as answer:
                assert answer.read().endswith(f"\r\n\r\n{number}".encode())
    assert let_in[-1] - began >= apart * (len(waiting) - 2)


def test_a_client_that_takes_too_long_is_let_go(serve: Serve) -> None:
    fake = FakeClock()
    serving = serve(clock=fake.clock)
    with closing(serving.connect()) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        serving.get()
        fake.advance(PATIENCE)
        serving.get()
        assert slow.recv(1) == b""


def test_a_large_answer_reaches_a_client_that_reads_slowly(serve: Serve) -> None:
    class Large(OneGauge):
        def collect(self) -> Iterable[Metric]:
            return [GaugeMetricFamily("large", "x" * 16_000_000, value=1.0)]

    serving = serve(Large(), clock=FakeClock().clock)
    with closing(serving.connect()) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert serving.get(method="HEAD")[0].status == 200
        with slow.makefile("rb") as reply:
            assert reply.read().endswith(b"\nlarge 1.0\n")


def test_a_client_that_hangs_up_is_no_failure(serve: Serve) -> None:
    serving = serve()
    serving.connect().close()
    with closing(serving.connect()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"GET")
    assert serving.get()[0].status == 200
    assert serving.journal.failures() == {}


def test_it_answers_while_another_thread_computes_in_pure_python(serve: Serve) -> None:
    serving = serve()
    answered = threading.Event()

    def scrape() -> None:
        if serving.get()[0].status == 200:
            answered.set()

    client = threading.Thread(target=scrape)
    client.start()
    ends = SYSTEM.monotonic() + TIMEOUT
    while not answered.is_set() and SYSTEM.monotonic() < ends:
        sum(range(100))
    client.join()
    assert answered.is_set()


def test_its_own_cpu_time_is_reported(serve: Serve) -> None:
    fake = FakeClock()
    serving = serve(OneGauge(before=lambda: fake.spend(0.25)), clock=fake.clock)
    serving.get()
    serving.get()
    serving.endpoint.stop()
    assert sum(serving.costs) == 0.5


def test_it_logs_nothing_per_request(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    serving = serve()
    serving.get()
    serving.get("/nowhere")
    serving.ask(b"nonsense\r\n\r\n")
    serving.endpoint.stop()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_failure_of_the_server_is_counted_and_survived(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_server, "PAUSE", 0.0)
    broken = [OSError(24, "Too many open files"), OSError(24, "Too many open files")]
    admit = Endpoint._admit

    def fail_first(endpoint: Endpoint, *args: Any) -> None:
        if broken:
            raise broken.pop()
        admit(endpoint, *args)

    monkeypatch.setattr(Endpoint, "_admit", fail_first)
    serving = serve()
    assert serving.get()[0].status == 200
    assert serving.journal.failures() == {"endpoint": 2}
    assert len(caplog.records) == 1


def test_a_failure_with_one_client_costs_the_others_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = module._reply

    def fail_for_some(request: bytes, respond: Respond) -> Generator[Wait, None, tuple[HTTPStatus, bytes]]:
        if b"bad" in request:
            raise ZeroDivisionError
        return (yield from reply(request, respond))

    monkeypatch.setattr(module, "_reply", fail_for_some)
    serving = serve()
    assert serving.ask(b"GET /bad HTTP/1.1\r\n\r\n") == b""
    assert serving.get()[0].status == 200
    assert serving.journal.failures() == {"endpoint": 1}


def test_stopping_waits_for_no_client_and_frees_the_port(serve: Serve) -> None:
    serving = serve()
    with closing(serving.connect()) as idle:
        serving.get()
        serving.endpoint.stop()
        assert idle.recv(1) == b""
    serving.endpoint.stop()
    with socket.create_server(("127.0.0.1", serving.port)):
        pass


def test_one_that_was_never_started_can_be_stopped() -> None:
    Endpoint(Journal()).stop()


def test_without_a_thread_the_port_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    endpoint = Endpoint(Journal())
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    endpoint.talk(listener, partial(converse, respond=nothing))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        endpoint.start()
    with socket.create_server(address):
        pass


def test_its_thread_prepares_for_the_first_scrape_when_asked_to(serve: Serve) -> None:
    serving = serve()
    assert serving.get()[0].status == 200
    assert not serving.prepared.is_set()
    serving.endpoint.prepare()
    assert serving.prepared.wait(TIMEOUT)
    assert serving.get()[0].status == 200


def test_stopping_prepares_for_nothing(serve: Serve) -> None:
    serving = serve()
    serving.endpoint.stop()
    assert not serving.prepared.is_set()


def test_its_own_name_is_not_looked_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object) -> str:
        raise AssertionError("the DNS was asked")

    for name in ("getfqdn", "gethostbyaddr", "gethostbyname", "gethostname"):
        monkeypatch.setattr(socket, name, look_up)
    assert serve().get()[0].status == 200


def test_an_endpoint_that_is_killed_goes_on(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr(_server, "PAUSE", 0.0)
    killed = iter([SystemExit, KeyboardInterrupt])

    def kill() -> None:
        for exception in killed:
            raise exception

    serving = serve(OneGauge(kill))
    for _ in range(2):
        with pytest.raises((http.client.HTTPException, OSError)):
            serving.get()
    assert serving.get()[0].status == 200
    assert serving.journal.failures() == {"endpoint": 2}


class TestWaiting:
    """An answer that is not ready at once."""

    @pytest.fixture
    def never(self) -> Iterator[socket.socket]:
        """A socket that never receives."""
        never, end = socket.socketpair()
        with closing(never), closing(end):
            yield never

    @staticmethod
    @contextmanager
    def late(serving: Serving) -> Iterator[socket.socket]:
        """Ask for what is not ready at once."""
        with closing(serving.connect()) as late:
            late.sendall(b"GET /metrics HTTP/1.1\r\nLate: yes\r\n\r\n")
            yield late

    def test_the_others_are_served_meanwhile(self, serve: Serve) -> None:
        serving = serve()
        ready, made_ready = socket.socketpair()

        def respond(request: Request) -> Answering:
            if request.headers["late"]:
                yield Wait(ready, selectors.EVENT_READ)
            return Answer(HTTPStatus.OK, b"late" if request.headers["late"] else b"at once")

        serving.respond_with(respond)
        with closing(ready), closing(made_ready), self.late(serving) as late:
            assert serving.get()[1] == b"at once"
            made_ready.send(b"x")
            with late.makefile("rb") as reply:
                assert reply.read().endswith(b"\r\n\r\nlate")
        assert serving.journal.failures() == {}

    def test_it_goes_on_when_it_is_too_late(self, serve: Serve, never: socket.socket) -> None:
        fake = FakeClock()
        serving = serve(clock=fake.clock)

        def respond(request: Request) -> Answering:
            if request.headers["late"]:
                yield Wait(never, selectors.EVENT_READ, until=fake.monotonic() + 0.5)
            return Answer(HTTPStatus.OK, b"without")

        serving.respond_with(respond)
        with self.late(serving) as late:
            serving.get()
            fake.advance(0.5)
            serving.get()  # to wake it: its clock stands still
            with late.makefile("rb") as reply:
                assert reply.read().endswith(b"\r\n\r\nwithout")

    def test_what_it_has_open_is_closed_when_its_client_is_let_go(
        self, serve: Serve, never: socket.socket
    ) -> None:
        fake = FakeClock()
        serving = serve(clock=fake.clock)
        closed = threading.Event()

        def respond(request: Request) -> Answering:
            try:
                if request.headers["late"]:
                    yield Wait(never, selectors.EVENT_READ)
            finally:
                if request.headers["late"]:
                    closed.set()
            return Answer(HTTPStatus.OK, b"")

        serving.respond_with(respond)
        with self.late(serving) as late:
            serving.get()
            fake.advance(PATIENCE)
            serving.get()
            assert late.recv(1) == b""
        assert closed.wait(TIMEOUT)

    def test_one_that_fails_when_it_has_to_go_goes_and_the_others_are_served(
        self, serve: Serve, never: socket.socket
    ) -> None:
        fake = FakeClock()
        serving = serve(clock=fake.clock)

        def respond(request: Request) -> Answering:
            if request.headers["late"]:
                try:
                    yield Wait(never, selectors.EVENT_READ)
                except TimeoutError:
                    raise ZeroDivisionError from None
            return Answer(HTTPStatus.OK, b"")

        serving.respond_with(respond)
        with self.late(serving) as late:
            serving.get()
            fake.advance(PATIENCE)
            assert serving.get()[0].status == 200
            assert late.recv(1) == b""
        assert serving.get()[0].status == 200
        assert serving.journal.failures() == {"endpoint": 1}


class TestOwners:
    """What the endpoint's thread does for its users."""

    @pytest.fixture
    def endpoint(self) -> Iterator[tuple[Endpoint, FakeClock]]:
        fake = FakeClock()
        endpoint = Endpoint(Journal(), clock=fake.clock)
        yield endpoint, fake
        endpoint.close()

    def test_it_calls_later_once(self, endpoint: tuple[Endpoint, FakeClock]) -> None:
        serving, fake = endpoint
        called: list[str] = []
        serving.later(1.0, lambda: called.append("later"))
        serving.later(0.0, lambda: called.append("now"))
        serving._turn()
        assert called == ["now"]
        fake.advance(1.0)
        serving.later(0.0, lambda: None)
        serving._turn()
        assert called == ["now", "later"]
        assert serving._longest_wait() is None

    def test_it_calls_while_a_file_can_be_read(self, endpoint: tuple[Endpoint, FakeClock]) -> None:
        serving, _ = endpoint
        called: list[int] = []
        here, there = socket.socketpair()
        with closing(here), closing(there):
            serving.when(here, lambda: called.append(1))
            there.send(b"x")
            serving._turn()
            serving._turn()
            serving.no_more(here)
            serving.later(0.0, lambda: None)
            serving._turn()
        assert called == [1, 1]


class TestHostile:
    """Whatever comes in gets a short error or none, and the next client gets its answer."""

    @pytest.fixture(autouse=True)
    def patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PATIENCE", TIMEOUT)  # a busy machine takes its time

    @pytest.mark.parametrize(
        "sent",
        [
            bytes(range(256)) * 1000,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 512 + b"\r\n\r\n",
            b"A" * 10_000_000,
            b"GET /" + b"A" * 10_000_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nX: " + b"A" * 10_000_000 + b"\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 1_000_000 + b"\r\n",
            b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /metrics HTTP/9.9\r\n\r\n",
            b"GET /metrics\r\n\r\n",
        ],
        ids=["bytes", "tls", "line", "path", "header", "headers", "empty", "word", "version", "old"],
    )
    def test_what_is_no_request_is_told_so_in_a_line_however_long_it_is(
        self, serve: Serve, sent: bytes
    ) -> None:
        serving = serve()
        head, _, body = serving.ask(sent).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert body == b"This is no HTTP request.\n"
        assert serving.get()[0].status == 200
        assert serving.journal.failures() == {}

    @pytest.mark.parametrize(
        "path",
        [
            "/../../../etc/passwd",
            "/..%2f..%2fetc/passwd",
            "/metrics/../../etc/passwd",
            "//etc/passwd",
            "/\\..\\",
            "file:///etc/passwd",
            "http://evil.example/metrics",
            "/metrics\x00",
            "/%00",
            "*",
            "",
        ],
    )
    def test_no_path_leads_out(self, serve: Serve, path: str) -> None:
        serving = serve()
        reply = serving.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert reply.startswith(b"HTTP/1.1 404 ")
        assert reply.endswith(b"\r\n\r\nNothing here; the metrics at /metrics\n")
        assert serving.journal.failures() == {}

    def test_a_body_that_goes_with_a_refusal_is_heard_out(self, serve: Serve) -> None:
        head = b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n"
        assert serve().ask(head + b"x" * 5_000_000).startswith(b"HTTP/1.1 405 ")

    def test_one_that_never_ends_is_heard_out_for_so_long(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_HEARD_OUT", 10 * MAX_REQUEST)
        serving = serve()
        with closing(serving.connect()) as endless, pytest.raises(OSError, match=r"reset|[Bb]roken"):
            endless.sendall(b"x" * 100_000_000)
        assert serving.get()[0].status == 200

    def test_one_that_only_listens_and_one_that_only_half_closes_cost_nothing(self, serve: Serve) -> None:
        serving = serve()
        with closing(serving.connect()), closing(serving.connect()) as half:
            half.sendall(b"GET /metrics HTT")
            half.shutdown(socket.SHUT_WR)
            assert half.recv(1) == b""
            assert serving.get()[0].status == 200
        assert serving.journal.failures() == {}

    def test_two_hundred_at_once_leave_room_for_one_more(self, serve: Serve) -> None:
        serving = serve()
        with ExitStack() as opened:
            crowd = [opened.enter_context(closing(serving.connect())) for _ in range(200)]
            for client in crowd[::2]:
                with suppress(OSError):  # the first ones have been dropped
                    client.sendall(b"GET /met")
            for _ in range(3):
                assert serving.get()[0].status == 200
        assert serving.get()[0].status == 200
        assert serving.journal.failures() == {}
