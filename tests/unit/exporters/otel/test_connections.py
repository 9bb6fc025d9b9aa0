"""Connections of ours are broken off whatever they wait for, and a child keeps none of them."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from loopwatch.exporters.otel.connections import Session

from .collector import TIMEOUT, Sink

SOON = 20.0
"""Seconds, on a slow machine, for what is at once. The requests here would wait for ``TIMEOUT``."""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Accepts, and never answers."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(TIMEOUT)
        yield listener


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    session.trust_env = False
    yield session
    session.close()


class Request:
    """A request in a thread of its own, and the error it ends with."""

    def __init__(self, session: Session, url: str) -> None:
        self.error: Exception | None = None
        self._session, self._url = session, url
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        try:
            self._session.post(self._url, data=b"x", timeout=TIMEOUT)
        except requests.exceptions.RequestException as error:
            self.error = error

    def end(self) -> float:
        """Wait for its end, and return how many seconds that took."""
        began = time.monotonic()
        self._thread.join(2 * TIMEOUT)
        assert not self._thread.is_alive()
        return time.monotonic() - began


def wait(condition: Callable[[], object]) -> None:
    until = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.001)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_that_hangs_ends_when_its_session_is_closed(
    silent: socket.socket, session: Session, scheme: str
) -> None:
    """One that waits for an answer, and one in the middle of a handshake."""
    request = Request(session, f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/")
    connection, _ = silent.accept()
    with connection:
        assert connection.recv(1)  # it has sent something, and waits
        session.close()
        assert request.end() < SOON
    assert isinstance(request.error, requests.exceptions.ConnectionError)


def test_a_closed_session_sends_nothing(sink: Sink, session: Session) -> None:
    assert session.post(f"{sink.url}/v1/metrics", data=b"").status_code == 200
    session.close()
    sink.wait(lambda: not sink.connected)
    with pytest.raises(requests.exceptions.ConnectionError):
        session.post(f"{sink.url}/v1/metrics", data=b"")
    assert len(sink.metrics) == 1


def test_an_error_that_is_told_holds_nothing_of_what_was_sent(session: Session) -> None:
    """Errors of urllib3 hold their frames, and the frames them: else this takes a collection."""

    def send() -> weakref.ref[io.BytesIO]:
        body = io.BytesIO(b"x")
        with contextlib.suppress(requests.exceptions.ConnectionError):
            session.post(f"http://127.0.0.1:{port}/", data=body)
        return weakref.ref(body)

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    gc.collect()
    gc.disable()
    try:
        sent = send()
        assert sent() is not None
        assert "refused" in (session.forget_errors() or "")
        assert session.forget_errors() is None
        assert sent() is None
    finally:
        gc.enable()


def test_connections_that_are_gone_are_not_kept(session: Session) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    for _ in range(20):
        with contextlib.suppress(requests.exceptions.ConnectionError):
            session.post(f"http://127.0.0.1:{port}/", data=b"")
        session.forget_errors()
    assert len(session._known) < 3


def test_it_goes_through_a_proxy(sink: Sink, session: Session) -> None:
    session.proxies = {"http": sink.url}
    url = "http://collector.invalid/v1/metrics"
    with contextlib.suppress(requests.exceptions.RequestException):
        session.post(url, data=b"", timeout=TIMEOUT)
    assert [type(each).__module__ for each in session.connections()] == [Session.__module__]


def sockets() -> set[str]:
    """Return the sockets of this process, as the kernel numbers them."""
    names = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the directory itself
            names.add(os.readlink(each))
    return {name for name in names if name.startswith("socket:")}


def in_child(found: Callable[[], Any]) -> str:
    """Return what ``found`` returns in a forked child, as text."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, repr(found()).encode())
        finally:
            os._exit(0)  # whatever fails: nobody else may run the other tests as well
    os.close(write)
    with open(read, encoding="utf-8") as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text


@pytest.mark.skipif(sys.platform != "linux", reason="lists what is open as Linux has it")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_child_has_no_connection_and_the_parents_request_goes_on(
    silent: socket.socket, session: Session, scheme: str
) -> None:
    before = sockets()
    request = Request(session, f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/")
    connection, _ = silent.accept()
    with connection:
        assert connection.recv(1)
        of_request = sockets() - before - {os.readlink(f"/proc/self/fd/{connection.fileno()}")}
        assert len(of_request) == 1
        assert in_child(lambda: sockets() & of_request) == "set()"
        assert of_request <= sockets()
        connection.settimeout(0.0)
        with contextlib.suppress(BlockingIOError):
            assert connection.recv(1 << 16)  # more of it, but not its end
        if scheme == "http":
            connection.settimeout(TIMEOUT)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            request.end()
            assert request.error is None
        else:
            session.close()
            request.end()


@pytest.mark.skipif(sys.platform != "linux", reason="lists what is open as Linux has it")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_sends_by_a_session_of_its_own(sink: Sink, session: Session) -> None:
    session.post(f"{sink.url}/v1/metrics", data=b"")

    def post() -> int:
        own = Session()
        own.trust_env = False
        status = own.post(f"{sink.url}/v1/metrics", data=b"").status_code
        own.close()
        session.close()  # what it inherited: it has nothing to close any more
        return status

    assert in_child(post) == "200"
    assert session.post(f"{sink.url}/v1/metrics", data=b"").status_code == 200
    assert len(sink.metrics) == 3
    sink.wait(lambda: sink.connected == 1)  # the child's may be seen to end after our answer
