"""The endpoint and the kept renderings, created when they are needed."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPMessage
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from loopwatch import _document
from loopwatch._agent_records import Snapshot
from loopwatch._clock import SYSTEM
from loopwatch._document import Document, Process
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch._settings import RUN, Settings
from loopwatch._threads import Imports
from loopwatch.exporters.handover import LISTENER
from loopwatch.exporters.service import MetricsService
from tests.pools.servers import free_port

Serve = Callable[..., MetricsService]


def snapshot() -> Snapshot:
    points = {"blocked": (Point(("main",), 0.25),)}
    return Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())


def document(brief: bool = False) -> Document:
    return Document(Process(os.getpid(), "3", "1", 0.1), snapshot(), sites=(), tasks=(), waits=())


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def serve(
            port: int | None = 0,
            host: str = "127.0.0.1",
            document: Callable[[bool], Document] = document,
            journal: Journal | None = None,
        ) -> MetricsService:
            settings = Settings(prometheus_port=port, prometheus_host=host)
            service = MetricsService(settings, snapshot, document, Imports(), journal or Journal(), SYSTEM)
            service.start()
            stack.callback(service.stop)
            return service

        yield serve


def test_the_endpoint_serves_snapshots_until_it_is_stopped(serve: Serve) -> None:
    service = serve()
    assert service.url is not None
    with contextlib.closing(urllib.request.urlopen(service.url, timeout=30)) as answer:
        assert b'asyncio_eventloop_blocked_seconds{asyncio_eventloop_name="main"} 0.25' in answer.read()
    service.stop()
    assert service.url is None
    service.stop()


def fetch(service: MetricsService, query: str = "", **headers: str) -> Document:
    url = str(service.url).replace("/metrics", _document.PATH) + query
    request = urllib.request.Request(url, headers=headers)
    with contextlib.closing(urllib.request.urlopen(request, timeout=60)) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        return _document.read(answer.read())


def refusal(ask: Callable[[], object]) -> tuple[int, str]:
    """Return the status and the text of a refusal."""
    try:
        ask()
    except urllib.error.HTTPError as refused:
        with contextlib.closing(refused):
            return refused.code, refused.read().decode()
    raise AssertionError("that was answered")


def test_the_document_stands_beside_the_metrics(serve: Serve) -> None:
    found = fetch(serve())
    assert found == replace(document(), workers=(os.getpid(),))


def test_the_document_is_for_those_who_ask_by_address(serve: Serve) -> None:
    service = serve()
    assert fetch(service, Host="localhost").process.pid == os.getpid()
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        status, said = refusal(lambda headers=headers: fetch(service, **headers))
        assert (status, said.count("\n")) == (403, 1)


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 403), ("0.0.0.0", 200)])
def test_the_metrics_are_scraped_by_any_name_where_others_can_ask(
    serve: Serve, host: str, status: int
) -> None:
    service = serve(host=host)
    request = urllib.request.Request(str(service.url), headers={"Host": "shop.default.svc:9464"})
    if status == 200:
        urllib.request.urlopen(request, timeout=60).close()
    else:
        assert refusal(lambda: urllib.request.urlopen(request, timeout=60))[0] == status


def test_a_document_that_cannot_be_made_is_counted_and_told_of(serve: Serve) -> None:
    journal = Journal()

    def fail(brief: bool) -> Document:
        raise ZeroDivisionError

    service = serve(document=fail, journal=journal)
    status, said = refusal(lambda: fetch(service))
    assert (status, journal.failures()) == (500, {"document": 1})
    assert "ZeroDivisionError" in said


def test_without_a_port_there_is_none(serve: Serve) -> None:
    assert serve(None).url is None


@pytest.mark.parametrize(("run", "level"), [(False, logging.WARNING), (True, logging.DEBUG)])
def test_a_port_that_is_taken_is_told_of_and_done_without(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    run: bool,
    level: int,
) -> None:
    """One of the processes of ``loopwatch run`` has it, and the others say nothing."""
    if run:
        monkeypatch.setenv(RUN, "1")
    caplog.set_level(logging.DEBUG, "loopwatch")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        assert serve(port).url is None
    [record] = caplog.records
    assert record.levelno == level
    assert f"no /metrics endpoint, since 127.0.0.1:{port} cannot be had" in record.getMessage()


def test_renderings_are_kept_from_when_they_are_first_asked_for(serve: Serve) -> None:
    service = serve(None)
    service.refresh()
    kept = service.kept()
    assert service.kept() is kept
    assert {family.name for family in kept.collect()} == {"asyncio_eventloop_blocked_seconds"}
    service.refresh()


SIBLING = """
import os, sys
from loopwatch._agent_records import Snapshot
from loopwatch._clock import SYSTEM
from loopwatch._document import Document, Process
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch._settings import Settings
from loopwatch._threads import Imports
from loopwatch.exporters.service import MetricsService

points = {"blocked": (Point(("main",), 7.0),)}
snapshot = Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())
process = Process(os.getpid(), "3", "1", 0.1)
document = Document(process, snapshot, sites=(), tasks=(), waits=())
settings = Settings(prometheus_port=int(sys.argv[1]))
service = MetricsService(settings, lambda: snapshot, lambda brief: document, Imports(), Journal(), SYSTEM)
service.start()
print(service.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port, whose workers meet in a place of their own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return free_port()


def stop(child: subprocess.Popen[str]) -> None:
    """Stop the child, and wait until it stands still."""
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)


@pytest.mark.skipif(sys.platform != "linux", reason="workers meet on Linux")
class TestSiblings:
    """Processes that share a port."""

    @pytest.fixture
    def start(self, port: int) -> Iterator[Callable[[], subprocess.Popen[str]]]:
        with contextlib.ExitStack() as stack:

            def start() -> subprocess.Popen[str]:
                command = [sys.executable, "-c", SIBLING, str(port)]
                sibling = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                stack.enter_context(sibling)
                stack.callback(sibling.kill)
                assert sibling.stdout is not None
                assert sibling.stdout.readline() == f"http://127.0.0.1:{port}/metrics\n"
                return sibling

            yield start

    def get(self, service: MetricsService, **headers: str) -> tuple[HTTPMessage, bytes]:
        request = urllib.request.Request(str(service.url), headers=headers)
        with contextlib.closing(urllib.request.urlopen(request, timeout=60)) as answer:
            return answer.headers, answer.read()

    def shown(self, service: MetricsService, pids: set[int]) -> str:
        """Scrape until these are up: on a busy machine one may need longer than it is given."""
        for _ in range(100):
            text = self.get(service)[1].decode()
            if {
                int(pid) for pid in re.findall(r'^loopwatch_worker_up.*"(\d+)"} 1.0$', text, re.MULTILINE)
            } == pids:
                return text
        raise AssertionError(text)

    def document_of(self, service: MetricsService, pid: int) -> Document:
        """Ask until it answers: on a busy machine it, too, may need longer than it is given."""
        for _ in range(100):
            try:
                return fetch(service, f"?pid={pid}")
            except urllib.error.HTTPError as refused:
                status = refused.code
                refused.close()
            assert status == 504
        raise AssertionError(f"{pid} never answered")

    def test_alone_it_shows_what_it_always_did(self, serve: Serve, port: int) -> None:
        text = self.get(serve(port))[1]
        assert b'asyncio_eventloop_blocked_seconds{asyncio_eventloop_name="main"} 0.25' in text
        assert b"process_pid" not in text
        assert b"worker_up" not in text

    def test_all_are_shown_by_the_one_that_has_the_port(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        service, sibling = serve(port), start()
        text = self.shown(service, {os.getpid(), sibling.pid})
        for pid, value in ((os.getpid(), 0.25), (sibling.pid, 7.0)):
            labels = f'process_pid="{pid}",asyncio_eventloop_name="main"'
            assert f"asyncio_eventloop_blocked_seconds{{{labels}}} {value}\n" in text
        for line in text.splitlines():
            assert line.startswith("#") or 'process_pid="' in line

    def test_in_both_forms_and_compressed(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        service, sibling = serve(port), start()
        self.shown(service, {os.getpid(), sibling.pid})
        headers, body = self.get(
            service, **{"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"}
        )
        assert headers["Content-Encoding"] == "gzip"
        text = gzip.decompress(body).decode()
        assert text.endswith("\n# EOF\n")
        assert text.count("# EOF") == 1
        families = {family.name: family for family in parse_openmetrics(text)}
        up = families["loopwatch_worker_up"].samples
        assert {int(sample.labels["process_pid"]) for sample in up} == {os.getpid(), sibling.pid}

    def test_one_that_is_stopped_is_left_out_and_said_to_be_down(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        service, sibling = serve(port), start()
        self.shown(service, {os.getpid(), sibling.pid})
        stop(sibling)
        text = self.get(service)[1].decode()
        assert f'loopwatch_worker_up{{process_pid="{sibling.pid}"}} 0.0' in text
        assert f'loopwatch_worker_up{{process_pid="{os.getpid()}"}} 1.0' in text
        assert text.count(f'"{sibling.pid}"') == 1
        sibling.send_signal(signal.SIGCONT)
        self.shown(service, {os.getpid(), sibling.pid})

    def test_the_document_of_each_can_be_had_and_names_all(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        service, sibling = serve(port), start()
        self.shown(service, {os.getpid(), sibling.pid})
        for pid, value in ((os.getpid(), 0.25), (sibling.pid, 7.0)):
            found = self.document_of(service, pid)
            assert found.process.pid == pid
            assert found.snapshot.points["blocked"][0].value == value
            assert set(found.workers) == {os.getpid(), sibling.pid}
        assert fetch(service).process.pid == os.getpid()

    def test_of_one_that_is_stopped_or_not_there_it_says_so(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        service, sibling = serve(port), start()
        self.shown(service, {os.getpid(), sibling.pid})
        stop(sibling)
        for pid, status, said in (
            (sibling.pid, 504, "does not answer"),
            (1, 404, str(os.getpid())),
        ):
            found = refusal(lambda pid=pid: fetch(service, f"?pid={pid}"))
            assert found[0] == status
            assert said in found[1]
        sibling.send_signal(signal.SIGCONT)

    def test_the_label_stays_when_the_sibling_is_gone(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        service, sibling = serve(port), start()
        self.shown(service, {os.getpid(), sibling.pid})
        sibling.kill()
        sibling.wait()
        text = self.shown(service, {os.getpid()})
        assert str(sibling.pid) not in re.findall(r'process_pid="(\d+)"', text)

    def sharing(self, service: MetricsService) -> MetricsService:
        """Wait until the socket that the sibling listens at has been handed over."""
        for _ in range(6000):
            if service._port is not None and service._port.handover.listener is not None:
                return service
            threading.Event().wait(0.01)
        raise AssertionError("the socket has not come")

    def test_who_has_connected_when_the_holder_is_killed_is_answered(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        """And who connects between its end and the takeover, which cannot be told from this."""
        sibling = start()
        self.sharing(serve(port))
        stop(sibling)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            sibling.kill()
            with client.makefile("rb") as answer:
                text = answer.read().decode()
        assert text.startswith("HTTP/1.1 200 ")
        assert f'loopwatch_worker_up{{process_pid="{os.getpid()}"}} 1.0\n' in text

    @pytest.mark.filterwarnings("ignore:.*is multi-threaded, use of fork:DeprecationWarning")
    def test_the_port_is_free_when_the_last_has_gone_though_a_forked_child_lives(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        sibling = start()
        service = self.sharing(serve(port))
        sibling.kill()
        sibling.wait()
        read, write = os.pipe()
        with contextlib.ExitStack() as ended:
            pid = os.fork()
            if not pid:
                try:
                    service.forget()
                    os.close(write)
                    os.read(read, 1)  # until the parent has looked
                finally:
                    os._exit(0)  # whatever fails: the child must not run the other tests
            ended.callback(os.waitpid, pid, 0)
            ended.callback(os.close, read)
            ended.callback(os.close, write)
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", port))
            service.stop()
            for _ in range(6000):  # the child may not have let go yet
                with contextlib.suppress(OSError):
                    socket.create_server(("127.0.0.1", port)).close()
                    return
                threading.Event().wait(0.01)
        raise AssertionError("the port is still taken")

    def test_no_client_from_elsewhere_is_handed_the_socket(self, serve: Serve, port: int) -> None:
        url = str(serve(port).url).replace("/metrics", LISTENER)
        assert refusal(lambda: urllib.request.urlopen(url, timeout=60))[0] == 404

    def test_the_port_is_taken_over_with_its_label(
        self, serve: Serve, port: int, start: Callable[[], subprocess.Popen[str]]
    ) -> None:
        sibling = start()
        service = serve(port)
        assert service.url == f"http://127.0.0.1:{port}/metrics"
        self.shown(service, {os.getpid(), sibling.pid})  # by the sibling
        self.sharing(service)
        sibling.kill()
        sibling.wait()
        self.shown(service, {os.getpid()})  # nobody is ever refused


def test_without_a_place_to_meet_it_is_by_itself_and_says_why_if_that_matters(
    serve: Serve, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"loopwatch-{os.geteuid()}").symlink_to("/")
    serve(port)
    assert caplog.records == []
    second = serve(port)
    assert second.url is None
    [record] = caplog.records
    assert f"127.0.0.1:{port} cannot be had" in record.getMessage()
    assert f"no place to meet: {tmp_path}/loopwatch-{os.geteuid()}: " in record.getMessage()
    assert second.thread is None
