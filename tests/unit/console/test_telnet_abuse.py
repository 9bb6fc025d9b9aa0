"""What comes in by telnet may be anything, and a client may do as it likes: nobody else notices."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.loops.child import Child
from tests.loops.telnet import HEAD, NEGOTIATION, Connect, Telnet, told, url_of
from tests.machine import CpuWaits

DELAYS = """
install()

async def main():
    delays = []

    def tell():
        costs = {point.labels: point.value for point in agent.snapshot().points["overhead"]}
        say("delays", sorted(delays)[len(delays) // 2], len(delays), costs["console",])
        delays.clear()

    on_signal(tell)
    await up()
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.005)
        delays.append(time.monotonic() - began - 0.005)

run(main())
"""


CROWD = """
import socket
from loopwatch._console import telnet_server

def listen(ports, listen=telnet_server.listen):
    listener = listen(ports)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # its connections have it from it
    return listener

telnet_server.listen = listen
install()

async def main():
    crowd = [asyncio.create_task(forever(), name=f"task-{number}") for number in range(4000)]
    await up()
    await forever()

run(main())
"""

WAITS = """
import contextlib, fcntl
from loopwatch._console import telnet_server

@contextlib.contextmanager
def small(create=telnet_server.create_pipe_input):
    with create() as keys:
        fcntl.fcntl(keys.pipe.write_fd, fcntl.F_SETPIPE_SZ, 4096)  # not 64 KB, which take seconds to type
        yield keys

telnet_server.create_pipe_input = small
install("repl")

def waits():
    say("waits")
    time.sleep(30)

async def main():
    on_signal(waits)
    await up()
    await forever()

run(main())
"""

MUCH = 0.1
"""Seconds by which a loop that nobody disturbs may be later than a moment before, on a busy machine."""
SHARE, AT_ONCE = 0.3, 1.0
"""Of a core, that the console takes whatever is sent; and CPU seconds that some clients take as they come."""


class Watched(NamedTuple):
    """A program that measures how late its loop runs."""

    child: Child
    url: str


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    child = Child(HEAD + DELAYS, "stock", tmp_path_factory.mktemp("watched"), 600)
    yield Watched(child, url_of(child))
    child.close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as opened:

        def connect(url: str, *negotiation: bytes) -> Telnet:
            telnet = Telnet(url, *negotiation)
            opened.callback(telnet.close)
            return telnet

        yield connect


@pytest.fixture(autouse=True)
def undisturbed(watched: Watched) -> Iterator[None]:
    """Check that the loop ran as it did before, that nothing was logged, and that no file stays open."""
    files = len(os.listdir(f"/proc/{watched.child.pid}/fd"))
    threading.Event().wait(0.5)  # a hundred steps of the loop, to know of the middle one
    before, _, cost = delays(watched.child)
    said, began, waits = len(told(watched.child)), time.monotonic(), CpuWaits(watched.child.pid)
    yield
    after, steps, cost_after = delays(watched.child)
    assert after < before + MUCH + 2 * waits.seconds() / steps  # the middle one is at most twice the mean
    assert cost_after - cost < SHARE * (time.monotonic() - began) + AT_ONCE
    assert [line.split()[0] for line in told(watched.child)[said:]] == ["delays"]
    with closing(Telnet.as_soon_as_possible(watched.url)) as last:
        for _ in range(1000):
            last.ask("")
            if len(os.listdir(f"/proc/{watched.child.pid}/fd")) <= files + 3:  # its own: a socket and a pipe
                break
        else:
            raise AssertionError("files stay open")


def delays(child: Child) -> tuple[float, int, float]:
    """Return by how many seconds the program's loop was late since last asked, in how many steps of it.

    The median: on a busy machine, single delays are anything. And what the console has cost.
    """
    child.send(signal.SIGUSR1)
    child.until("delays ")
    _, delay, steps, cost = child.said[-1].split()
    return float(delay), int(steps), float(cost)


def flood(url: str, data: bytes, seconds: float) -> None:
    """Send ``data`` again and again, and read nothing, until the other side has enough."""
    host, _, port = url.removeprefix("telnet://").partition(":")
    over = threading.Event()
    timer = threading.Timer(seconds, over.set)
    timer.start()
    with socket.create_connection((host, int(port)), timeout=0.1) as sender:
        while not over.is_set():
            try:
                sender.sendall(data)
            except TimeoutError:
                continue  # it takes its time
            except OSError:
                return
    timer.cancel()


def test_binary(watched: Watched, connect: Connect) -> None:
    data = NEGOTIATION + random.Random(7).randbytes(2**20)
    flood(watched.url, data, 6.0)
    assert connect(watched.url).ask("lw loop")


def test_lines_without_an_end_to_them(watched: Watched, connect: Connect) -> None:
    other = connect(watched.url)
    flood(watched.url, NEGOTIATION + b"ps\r\n" * 20_000, 6.0)
    ours, theirs = CpuWaits(), CpuWaits(watched.child.pid)
    assert other.ask("ps").startswith("1 tasks running")
    assert other.took < 5 + ours.seconds() + theirs.seconds()


def test_a_line_of_10_mb(watched: Watched, connect: Connect) -> None:
    telnet = connect(watched.url)
    with contextlib.suppress(OSError):
        telnet.socket.sendall(b"x" * 10 * 2**20)
    assert "more than 4096 bytes without a line's end. Good-bye." in telnet.rest()


def test_negotiations_that_never_end(watched: Watched, connect: Connect) -> None:
    telnet = connect(watched.url)
    with contextlib.suppress(OSError):
        telnet.socket.sendall(b"\xff\xfa" + (b"x" * 62 + b"\r\n") * 2**14)
    assert "without a line's end. Good-bye." in telnet.rest()


def test_a_size_that_no_terminal_has(watched: Watched, connect: Connect) -> None:
    telnet = connect(watched.url, b"\xff\xfa\x1f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0" + NEGOTIATION)
    for size in (b"\0\0\0\0", b"\0\1\0\1", b"\x7f\x7f\x7f\x7f", b"\0\x78\0\x28", b"bad"):
        telnet.socket.sendall(b"\xff\xfa\x1f" + size + b"\xff\xf0help\r\n")
        telnet.until("Show task table")


def test_a_client_that_reads_nothing_holds_up_nobody(
    watched: Watched, connect: Connect, tmp_path: Path
) -> None:
    """The original waits in send() for the one client, in the thread of all."""
    child = Child(HEAD + CROWD, "stock", tmp_path)
    try:
        url = url_of(child)
        slow, other = connect(url), connect(url)
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        slow.socket.sendall(b"ps\r\n" * 3)  # some 1.5 MB, which no buffer of the kernel's takes
        for _ in range(20):
            ours, theirs = CpuWaits(), CpuWaits(child.pid)
            assert "no command" in other.ask("lw nothing")
            assert other.took < 10 + ours.seconds() + theirs.seconds()
        for _ in range(3):
            slow.until("4001 tasks running")  # nothing is lost, when it reads after all
    finally:
        child.close()


def test_200_half_open_connections(watched: Watched, connect: Connect) -> None:
    silent = [connect(watched.url, b"") for _ in range(200)]
    assert connect(watched.url).ask("ps").startswith("1 tasks running")
    assert "too many connections that say nothing" in silent[0].rest()


def test_200_sessions(watched: Watched, connect: Connect) -> None:
    sessions = [connect(watched.url) for _ in range(8)]
    for _ in range(192):
        assert connect(watched.url, b"").rest().startswith("loopwatch: 8 sessions are open already")
    for session in sessions:
        assert session.ask("ps").startswith("1 tasks running")


def test_a_browser(watched: Watched, connect: Connect) -> None:
    """Which may be told to send anything to a port of the machine that it runs on: it gets no prompt."""
    browser = connect(watched.url, b"")
    browser.socket.sendall(b"POST / HTTP/1.1\r\nHost: elsewhere\r\n\r\nsignal SIGKILL\r\nlw tasks\r\n")
    answered = browser.rest()
    assert "this port speaks telnet" in answered
    assert "loopwatch>" not in answered


def test_a_script_that_has_said_all(watched: Watched, connect: Connect) -> None:
    """What it has said is answered, though it sends no more."""
    telnet = connect(watched.url)
    telnet.socket.sendall(b"ps\r\nhelp\r\n")
    telnet.socket.shutdown(socket.SHUT_WR)
    answered = telnet.rest()
    assert "1 tasks running" in answered
    assert "stacktrace" in answered


def test_what_is_typed_ahead_of_an_answer_that_does_not_come(
    connect: Connect, tmp_path: Path, watched: Watched
) -> None:
    """It has room for so much in a pipe, and who writes to a full one waits."""
    child = Child(HEAD + WAITS, "stock", tmp_path)
    try:
        url = url_of(child)
        telnet = connect(url)
        number = re.findall(r"\d{6,}", telnet.ask("ps"))[0]
        child.send(signal.SIGUSR1)
        child.until("waits")
        telnet.socket.sendall(f"cancel {number}\r\n".encode())
        with contextlib.suppress(OSError):
            telnet.socket.sendall(b"help\r\n" * 3_000)
        assert "too much was typed ahead. Good-bye." in telnet.rest()
        assert connect(url).ask("lw loop")
    finally:
        child.close()
