"""Other workers are asked all at once, and none of them can hold up the scrape beyond its time."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress

import pytest

from loopwatch._server import Wait
from loopwatch.exporters.meeting import BACKLOG, Entry
from loopwatch.exporters.siblings import AGAIN, LONGEST, WITHIN, Siblings
from loopwatch.testing import FakeClock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers meet on Linux")

PATIENCE = 30.0
KIND = "text/plain; version=0.0.4; charset=utf-8"
BODY = b"# HELP a A.\n# TYPE a gauge\na 1.0\n"


def response(
    body: bytes = BODY, kind: str = KIND, status: str = "200 OK", length: int | None = None
) -> bytes:
    length = len(body) if length is None else length
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class Sockets:
    """Stands in for the directory: a socket in the abstract namespace for each pid."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._listeners: dict[int, socket.socket] = {}
        self.removed: list[int] = []
        self.requests: dict[int, bytes] = {}
        self.connections: list[socket.socket] = []

    def _address(self, pid: int) -> str:
        return f"\0loopwatch-test-{os.getpid()}-{pid}"

    def listen(self, pid: int) -> socket.socket:
        listener = self._opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(self._address(pid))
        listener.listen(BACKLOG)
        self._listeners[pid] = listener
        return listener

    def answer(self, pid: int, *parts: bytes, hang: bool = False) -> None:
        """Have a worker answer one request, in parts, and then close the connection or leave it open."""
        listener = self.listen(pid)

        def serve() -> None:
            connection, _ = listener.accept()
            self.requests[pid] = connection.recv(4096)
            for part in parts:
                with suppress(OSError):
                    connection.sendall(part)
            if hang:
                self._opened.enter_context(connection)
            else:
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self._opened.callback(thread.join, PATIENCE)

    def connect(self, entry: Entry) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            connection.connect(self._address(entry.pid))
        except OSError:
            connection.close()
            raise
        self.connections.append(connection)
        return connection

    def remove(self, entry: Entry) -> None:
        self.removed.append(entry.pid)

    def close(self) -> None:
        self._opened.close()


Ask = Callable[..., dict[int, bytes | None]]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets()
    yield sockets
    sockets.close()


@pytest.fixture
def fake() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ask(sockets: Sockets, fake: FakeClock) -> Ask:
    """Ask all of them. Time passes only once nobody says anything more, and then all of it."""

    def ask(pids: Sequence[int], silent: int = 0) -> dict[int, bytes | None]:
        siblings = Siblings(sockets, fake.clock)  # type: ignore[arg-type]
        for wait in siblings.ask(
            [Entry(pid, 1, "group", str(pid)) for pid in pids], "/metrics", KIND, WITHIN
        ):
            within = AGAIN if siblings._busy else WITHIN
            assert wait.until == pytest.approx(fake.monotonic() + within)
            done = len(siblings._waiting) + len(siblings._busy) == silent
            if done or not ready(wait):
                fake.advance(WITHIN)
        assert all(connection.fileno() == -1 for connection in sockets.connections)
        return siblings.texts

    return ask


def ready(wait: Wait) -> bool:
    return bool(select.select([wait.file], [], [], PATIENCE)[0])


def test_each_says_what_it_has_in_the_form_that_is_wanted(sockets: Sockets, ask: Ask) -> None:
    for pid in (1, 2, 3):
        sockets.answer(pid, response(b"%d" % pid))
    assert ask([1, 2, 3]) == {1: b"1", 2: b"2", 3: b"3"}
    assert sockets.requests[1] == f"GET /metrics HTTP/1.1\r\nAccept: {KIND}\r\n\r\n".encode()


def test_64_of_them_with_large_answers_in_many_parts(sockets: Sockets, ask: Ask) -> None:
    body = b"x" * 200_000
    text = response(body)
    pids = list(range(64))
    for pid in pids:
        sockets.answer(pid, *(text[start : start + 50_000] for start in range(0, len(text), 50_000)))
    assert ask(pids) == dict.fromkeys(pids, body)


def test_one_that_accepts_and_never_answers_holds_up_nobody(sockets: Sockets, ask: Ask) -> None:
    sockets.answer(1, hang=True)
    sockets.answer(2, response())
    assert ask([1, 2], silent=1) == {1: None, 2: BODY}


def test_one_that_does_not_even_accept_holds_up_nobody(sockets: Sockets, ask: Ask) -> None:
    sockets.listen(1)
    sockets.answer(2, response())
    assert ask([1, 2], silent=1) == {1: None, 2: BODY}


def test_one_that_stops_in_the_middle_holds_up_nobody(sockets: Sockets, ask: Ask) -> None:
    sockets.answer(1, response()[:-5], hang=True)
    assert ask([1], silent=1) == {1: None}


def test_one_that_hangs_for_long_is_not_asked_over_and_over(sockets: Sockets, ask: Ask) -> None:
    """Its queue is short: when it resumes, it need not answer every scrape that nobody waits for any more."""
    listener = sockets.listen(1)
    for _ in range(3 * BACKLOG):
        assert ask([1], silent=1) == {1: None}
    assert len(sockets.connections) == BACKLOG + 1
    listener.setblocking(False)
    for _ in range(BACKLOG + 1):
        listener.accept()[0].close()
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_one_that_has_many_to_answer_is_asked_again(sockets: Sockets, fake: FakeClock) -> None:
    listener = sockets.listen(1)
    others = [sockets.connect(Entry(1, 1, "group", "1")) for _ in range(BACKLOG + 1)]
    siblings = Siblings(sockets, fake.clock)  # type: ignore[arg-type]
    asking = siblings.ask([Entry(1, 1, "group", "1")], "/metrics", KIND, WITHIN)
    for _ in range(3):
        assert next(asking).until == pytest.approx(fake.monotonic() + AGAIN)
        fake.advance(AGAIN)
    for other in others:
        listener.accept()[0].close()
        other.close()
    assert next(asking).until == pytest.approx(fake.monotonic() + WITHIN - 3 * AGAIN)
    with listener.accept()[0] as connection:
        connection.sendall(response())
    for _ in asking:
        pass
    assert siblings.texts == {1: BODY}


def test_one_that_is_gone_is_removed_and_not_shown(sockets: Sockets, ask: Ask) -> None:
    sockets.listen(1).close()
    sockets.answer(2, response())
    assert ask([1, 2]) == {2: BODY}
    assert sockets.removed == [1]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n\r\n",
        b"\xff\x00garbage" * 100,
        response(status="500 Internal Server Error"),
        response(kind="text/html"),
        response(kind="application/openmetrics-text; version=1.0.0; charset=utf-8"),
        response(length=len(BODY) + 1),
        response(length=len(BODY) - 1),
        response()[:-1],
        BODY,
    ],
)
def test_an_answer_that_is_none_counts_as_none(sockets: Sockets, ask: Ask, said: bytes) -> None:
    sockets.answer(1, said)
    assert ask([1]) == {1: None}


def test_one_that_never_stops_talking_is_cut_off(
    sockets: Sockets, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopwatch.exporters.siblings.LONGEST", 1_000_000)
    assert LONGEST > 1_000_000
    sockets.answer(1, response(b"x" * 3_000_000))
    assert ask([1]) == {1: None}


def test_nobody_to_ask_takes_no_time(ask: Ask) -> None:
    assert ask([]) == {}


def test_without_files_left_none_is_shown(
    sockets: Sockets, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(entry: Entry) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sockets, "connect", fail)
    assert ask([1, 2]) == {1: None, 2: None}
    assert sockets.removed == []


def test_a_scrape_that_is_given_up_closes_all(sockets: Sockets, fake: FakeClock) -> None:
    sockets.listen(1)
    siblings = Siblings(sockets, fake.clock)  # type: ignore[arg-type]
    asking = siblings.ask([Entry(1, 1, "group", "1")], "/metrics", KIND, WITHIN)
    wait = next(asking)
    asking.close()
    assert [connection.fileno() for connection in sockets.connections] == [-1]
    with pytest.raises((KeyError, ValueError)):
        select.select([wait.file], [], [], 0)
