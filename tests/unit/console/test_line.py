"""The line console: who talks to it is answered, and whoever does harm goes without any."""

from __future__ import annotations

import os
import random
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from loopwatch import _allowance, _consoles
from loopwatch._clock import SYSTEM, Clock
from loopwatch._console.line import (
    FAREWELL,
    LONGEST_LINE,
    MOST_CLIENTS,
    PATIENCE,
    UNHEARD,
    WRONG_IN_A_ROW,
    LineConsole,
    Session,
)
from loopwatch._consoles import PROMPT, Client, Found, found
from loopwatch._journal import Journal
from loopwatch._settings import Settings
from loopwatch.testing import FakeClock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Python has no UNIX sockets there")

TIMEOUT = 30.0
"""Seconds; only a failing test waits as long."""
TOO_LONG = f"A line of more than {LONGEST_LINE} bytes is no command: it is left out."


class Echo:
    """Answers with the line and its width; to ``big`` with much, to ``slow`` once it is let go on."""

    def __init__(self) -> None:
        self.looks = 0
        self.spent = 0.0
        """CPU seconds, by a clock that a test hands in: each ``dear`` takes 10 ms."""
        self.go_on = threading.Event()
        self.waits = threading.Event()

    def run(self, line: str, width: int) -> str:
        if line == "slow":
            self.waits.set()
            assert self.go_on.wait(TIMEOUT)
        if line == "dear":
            self.spent += 0.01
        if line == "big":
            return ("x" * 99 + "\n") * 100_000
        return f"{line} in {width}" if line else ""

    def knows(self, line: str) -> bool:
        return line.startswith(("ask", "big", "slow", "dear"))

    def complete(self, text: str) -> list[str]:
        return [f"{text}-one", f"{text}-two"]

    def look(self) -> None:
        self.looks += 1


class Serving:
    """A console, and clients of it."""

    def __init__(self, clock: Clock = SYSTEM, echo: Echo | None = None) -> None:
        self.journal = Journal()
        self.echo = echo or Echo()
        self.console = LineConsole(Settings(service_name="sh\x1bop"), lambda: self.echo, self.journal, clock)
        self.console.start()
        assert self.console.path is not None
        self.path = self.console.path
        self._opened = ExitStack()

    def client(self) -> Client:
        return self._opened.enter_context(closing(Client(self.path, TIMEOUT)))

    def plain(self) -> socket.socket:
        """Connect as ``nc -U`` does."""
        return self._opened.enter_context(closing(_consoles.connect(self.path, TIMEOUT)))

    def close(self) -> None:
        self.echo.go_on.set()
        self._opened.close()
        self.console.stop()


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of this test's own, whose path is longer than a socket's may be."""
    runtime = tmp_path / ("long" * 30 if sys.platform == "linux" else "run")
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr(_consoles._user_directory.tempfile, "tempdir", str(runtime))
    return runtime


Serve = Callable[..., Serving]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve consoles, and stop them after the test."""
    with ExitStack() as stopped:

        def serve(clock: Clock = SYSTEM, echo: Echo | None = None) -> Serving:
            return stopped.enter_context(closing(Serving(clock, echo)))

        yield serve


def everything(connection: socket.socket) -> str:
    """Read all until the other side closes."""
    received = []
    while part := connection.recv(1 << 16):
        received.append(part)
    return b"".join(received).decode()


def read_all(connection: socket.socket) -> None:
    """Read until the other side closes, or resets the connection."""
    with suppress(OSError):
        while connection.recv(1 << 16):
            pass


def until(connection: socket.socket, end: str) -> str:
    """Read until that was said."""
    received = ""
    while not received.endswith(end):
        part = connection.recv(1 << 16)
        assert part, received
        received += part.decode()
    return received


class TestTalk:
    """What a person sees."""

    def test_as_with_nc(self, serve: Serve) -> None:
        """Greeting, prompt; a line, its answer, prompt; and the end, also of a line without a newline."""
        plain = serve().plain()
        plain.sendall(b"ask\r\n\nwidth 80\nask more\nask last")
        plain.shutdown(socket.SHUT_WR)
        greeting, rest = everything(plain).split("\n", 1)
        assert greeting.startswith("loopwatch ")
        assert greeting.endswith(f": sh\\x1bop, pid {os.getpid()}. `help` lists the commands.")
        assert rest == f"{PROMPT}ask in 100\n{PROMPT}{PROMPT}{PROMPT}ask more in 80\n{PROMPT}ask last in 80\n"

    def test_a_client_of_ours(self, serve: Serve) -> None:
        client = serve().client()
        assert client.greeting.endswith("`help` lists the commands.")
        assert client.ask("ask") == "ask in 100"
        assert client.ask("width x") == "width N: how many columns your terminal has."
        assert client.ask("complete ask") == "ask-one\nask-two"
        assert client.ask("ask a\nask b") == "ask a ask b in 100"  # one question has one answer
        assert client.ask("ask \udcff") == "ask \ufffd in 100"
        assert client.ask("") == ""
        with pytest.raises(ConnectionResetError):
            client.ask("quit")

    def test_several_at_once(self, serve: Serve) -> None:
        serving = serve()
        clients = [serving.client() for _ in range(MOST_CLIENTS)]
        clients[0].ask("width 70")
        assert [client.ask("ask") for client in clients] == [
            "ask in 70",
            *["ask in 100"] * (MOST_CLIENTS - 1),
        ]

    def test_each_who_comes_has_a_look_taken(self, serve: Serve) -> None:
        serving = serve()
        serving.client().ask("ask")
        serving.client().ask("ask")
        assert serving.echo.looks == 2

    def test_answers_cost_and_are_counted(self, serve: Serve) -> None:
        serving = serve()
        client = serving.client()
        for _ in range(50):
            client.ask("ask")
        assert 0.0 < serving.console.cpu_time < 5.0


class TestHarm:
    """Hostile input: a short error, nothing lost, and the others are answered."""

    @pytest.fixture
    def serving(self, serve: Serve) -> Iterator[Serving]:
        """Serve, and see at the end that others still are."""
        serving = serve()
        yield serving
        assert serving.client().ask("ask") == "ask in 100"
        assert serving.journal.failures() == {}

    def test_binary(self, serving: Serving) -> None:
        plain = serving.plain()
        plain.sendall(random.Random(1).randbytes(1000).replace(b"\n", b"") + b"\xff\xf4\xff\xfd\x06\0\n")
        plain.sendall(b"ask\n")
        until(plain, f"ask in 100\n{PROMPT}")

    def test_much_binary(self, serving: Serving) -> None:
        """It is not a person: after some lines nobody listens."""
        plain = serving.plain()
        reading = threading.Thread(target=read_all, args=(plain,))
        reading.start()  # one who does not read is let go for that
        with pytest.raises(OSError, match=r"Broken pipe|reset by peer"):
            plain.sendall(random.Random(2).randbytes(10_000_000))
        reading.join(TIMEOUT)

    def test_only_newlines(self, serving: Serving) -> None:
        plain = serving.plain()
        plain.sendall(b"\n" * (WRONG_IN_A_ROW + 1))
        assert everything(plain).endswith(f"{PROMPT * WRONG_IN_A_ROW}closed: that is not for me\n"[-60:])

    def test_a_line_of_10_mb(self, serving: Serving) -> None:
        """It is said once that it is too long; what comes after it is answered."""
        plain = serving.plain()
        for _ in range(160):
            plain.sendall(b"x" * (1 << 16))
        plain.sendall(b"\nask\n")
        said = until(plain, f"ask in 100\n{PROMPT}")
        assert said.count(TOO_LONG) == 1
        assert len(said) < 300

    def test_lines_that_are_too_long_in_one_piece(self, serving: Serving) -> None:
        plain = serving.plain()
        plain.sendall(b"ask " + b"x" * LONGEST_LINE + b"\nask\n")
        assert until(plain, f"ask in 100\n{PROMPT}").count(TOO_LONG) == 1

    def test_http(self, serving: Serving) -> None:
        """From a browser or a scraper: nothing of it is a command."""
        plain = serving.plain()
        plain.sendall(b"GET /../../etc/passwd HTTP/1.1\r\nHost: evil\r\nOrigin: evil\r\n\r\n")
        plain.shutdown(socket.SHUT_WR)
        assert "GET /../../etc/passwd HTTP/1.1 in 100\n" in everything(plain)

    def test_one_byte_at_a_time(self, serving: Serving) -> None:
        plain = serving.plain()
        for byte in b"ask":
            plain.sendall(bytes([byte]))
            assert serving.client().ask("ask") == "ask in 100"
        plain.sendall(b"\n")
        until(plain, f"ask in 100\n{PROMPT}")

    def test_one_who_does_not_read(self, serving: Serving) -> None:
        """10 MB wait for it, in the program only those of one answer."""
        plain = serving.plain()
        plain.sendall(b"big\n" * 100)
        assert serving.client().ask("ask") == "ask in 100"

    def test_one_who_hangs_up_in_the_middle(self, serving: Serving) -> None:
        for sent in (b"", b"as", b"ask", b"big\n", b"x" * 100_000):
            with closing(_consoles.connect(serving.path, TIMEOUT)) as plain:
                plain.sendall(sent)

    def test_200_connections(self, serving: Serving) -> None:
        """Those that have said nothing go first: a person is not put out by them."""
        person = serving.client()
        person.ask("ask")
        idle = [serving.plain() for _ in range(200)]
        assert person.ask("ask again") == "ask again in 100"
        serving.client().ask("ask")
        assert everything(idle[0]).endswith(FAREWELL.decode())
        assert person.ask("ask again") == "ask again in 100"

    def test_200_connections_that_talk(self, serve: Serve) -> None:
        """The one that was silent for longest goes, and is told so."""
        fake = FakeClock()
        serving = serve(fake.clock)
        person = serving.client()
        person.ask("ask")
        others = [serving.client() for _ in range(200)]
        for other in others[1 - MOST_CLIENTS :]:
            other.ask("ask")
        with pytest.raises(OSError, match="closed: too many"):
            serving.client()  # all the others are at work
        fake.advance(UNHEARD + 1)
        serving.client().ask("ask")
        with pytest.raises(OSError, match=r"closed: too many are connected|Broken pipe"):
            person.ask("ask again")


class TestTime:
    """How long it waits for whom."""

    def test_a_person_who_is_silent_may_stay(self, serve: Serve) -> None:
        fake = FakeClock()
        serving = serve(fake.clock)
        person = serving.client()
        fake.advance(86_400.0)
        serving.client().ask("ask")  # which has the thread look at the time
        assert person.ask("ask") == "ask in 100"

    @pytest.mark.parametrize("sent", [b"x" * (2 * LONGEST_LINE), b"big\n"])
    def test_who_does_not_read_or_end_a_long_line_has_to_go(self, serve: Serve, sent: bytes) -> None:
        fake = FakeClock()
        serving = serve(fake.clock)
        plain = serving.plain()
        until(plain, PROMPT)
        plain.sendall(sent)
        if sent != b"big\n":
            until(plain, PROMPT)
        serving.client().ask("ask")  # by now the thread has taken what was sent, in the order it came
        fake.advance(PATIENCE + 1)
        serving.client().ask("ask")
        assert len(everything(plain)) < 10_000_000

    @pytest.mark.parametrize("again", [False, True], ids=["one client", "new ones"])
    def test_many_commands_take_a_share_of_a_core(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, again: bool
    ) -> None:
        """Two are answered at once; each further one, of 10 ms, takes 100 ms, whoever asks."""
        monkeypatch.setattr(_allowance, "AT_ONCE", 0.02)
        echo = Echo()
        clock = Clock(thread_cpu=lambda: echo.spent)
        serving = serve(clock, echo)
        began = clock.monotonic()
        client = serving.client()
        for _ in range(12):
            if again:
                client = serving.client()
            assert client.ask("dear") == "dear in 100"
        assert clock.monotonic() - began >= 0.9
        assert serving.console.cpu_time == pytest.approx(0.12, abs=0.011)

    def test_those_of_many_clients_take_no_more(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are answered in turn, though no rest is longer than to pay for one command."""
        monkeypatch.setattr(_allowance, "AT_ONCE", 0.02)
        monkeypatch.setattr(_allowance, "LONGEST", 0.1)
        echo = Echo()
        clock = Clock(thread_cpu=lambda: echo.spent)
        serving = serve(clock, echo)
        clients = [serving.plain() for _ in range(8)]
        for client in clients:
            until(client, PROMPT)
        began = clock.monotonic()
        for client in clients:
            client.sendall(b"dear\ndear\ndear\nask\n")
        for client in clients:
            until(client, f"ask in 100\n{PROMPT}")
        assert clock.monotonic() - began >= 2.1
        assert serving.console.cpu_time == pytest.approx(0.24, abs=0.011)

    def test_a_slow_command_holds_up_nobody_but_the_console(self, serve: Serve) -> None:
        """It stops in time all the same."""
        serving = serve()
        plain = serving.plain()
        plain.sendall(b"slow\n")
        assert serving.echo.waits.wait(TIMEOUT)
        serving.echo.go_on.set()
        until(plain, f"slow in 100\n{PROMPT}")


class TestSession:
    """Lines out of what comes in pieces."""

    def test_pieces(self) -> None:
        whole = b"ask 1\nask 2\n\n" + b"y" * 9000 + b"\nask 3\nnothing\nask 4"
        for size in (1, 2, 3, 7, 100, 4096, 5000, 20_000):
            session = Session(Echo())
            said = [
                answer for at in range(0, len(whole), size) for answer in session.hear(whole[at : at + size])
            ]
            said += session.hear(b"")
            lines = "".join(said).replace(PROMPT, "").split("\n")
            assert lines == [
                "ask 1 in 100",
                "ask 2 in 100",
                TOO_LONG,
                "ask 3 in 100",
                "nothing in 100",
                "ask 4 in 100",
                "",
            ]

    def test_nothing_is_kept_of_a_line_that_is_too_long(self) -> None:
        session = Session(Echo())
        for _ in range(100):
            list(session.hear(b"x" * 50_000))
            assert len(session._begun) <= LONGEST_LINE


class TestDirectory:
    """Where it is, who can reach it, and what becomes of what others leave."""

    def test_its_user_alone_can_reach_it(self, serve: Serve, runtime: Path) -> None:
        path = Path(serve().path)
        assert path == runtime / "loopwatch" / f"console-{os.getpid()}"
        assert (stat.S_IMODE(path.stat().st_mode), stat.S_ISSOCK(path.stat().st_mode)) == (0o600, True)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert found() == [Found(os.getpid(), str(path))]

    def test_it_is_gone_when_it_is_stopped(self, serve: Serve) -> None:
        serving = serve()
        client = serving.client()
        serving.console.stop()
        assert (found(), serving.console.path, serving.console.thread) == ([], None, None)
        assert os.listdir(Path(serving.path).parent) == []
        with pytest.raises(OSError, match=r"hung up|Broken pipe|reset"):
            client.ask("ask")

    def test_what_the_dead_left_is_removed(self, serve: Serve, runtime: Path) -> None:
        """And nothing else: not what lives, nor what is not ours."""
        place = runtime / "loopwatch"
        place.mkdir(mode=0o700)
        dead = _no_such_pid()
        for name in (f"console-{dead}", f".console-{dead}", f"console-{os.getpid()}"):
            left = socket.socket(socket.AF_UNIX)
            left.bind(f"{_short(place)}/{name}")
            left.close()
        living = socket.socket(socket.AF_UNIX)
        living.bind(f"{_short(place)}/console-{dead + 1}")  # in a container, say: there is no such pid here
        living.listen()
        for name in ("console-", "console-x", "x", "console-1-2"):
            (place / name).touch()
        serving = serve()
        assert sorted(os.listdir(place)) == sorted(
            ["console-", "console-x", "x", "console-1-2", f"console-{dead + 1}", f"console-{os.getpid()}"]
        )
        assert serving.client().ask("ask") == "ask in 100"
        living.close()

    def test_a_name_that_another_answers_to_is_left_alone(self, runtime: Path) -> None:
        place = runtime / "loopwatch"
        place.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(f"{_short(place)}/console-{os.getpid()}")
            other.listen()
            console = LineConsole(Settings(), Echo, Journal(), SYSTEM)
            console.start()
            assert (console.path, console.thread) == (None, None)
            assert os.listdir(place) == [f"console-{os.getpid()}"]

    @pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
    def test_a_place_that_others_can_write_to_or_read_is_not_trusted(self, runtime: Path, mode: int) -> None:
        (runtime / "loopwatch").mkdir()
        (runtime / "loopwatch").chmod(mode)
        console = LineConsole(Settings(), Echo, Journal(), SYSTEM)
        console.start()
        try:
            assert console.path == f"{runtime}/loopwatch-{os.geteuid()}/console-{os.getpid()}"
        finally:
            console.stop()

    def test_a_link_is_not_followed(
        self, runtime: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        for name in ("loopwatch", f"loopwatch-{os.geteuid()}"):
            (runtime / name).symlink_to(elsewhere)
        console = LineConsole(Settings(), Echo, Journal(), SYSTEM)
        with caplog.at_level("DEBUG", "loopwatch"):
            console.start()
        assert (console.path, os.listdir(elsewhere), found()) == (None, [], [])
        assert "no console socket" in caplog.text

    def test_switched_off_there_is_none(self, runtime: Path) -> None:
        console = LineConsole(Settings(console_socket=False), Echo, Journal(), SYSTEM)
        console.start()
        assert (console.path, console.thread, os.listdir(runtime)) == (None, None, [])
        console.stop()

    def test_without_such_sockets_there_is_none(self, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As on Windows."""
        monkeypatch.setattr(_consoles, "POSSIBLE", False)
        console = LineConsole(Settings(), Echo, Journal(), SYSTEM)
        console.start()
        assert (console.path, console.thread, found(), os.listdir(runtime)) == (None, None, [], [])
        with pytest.raises(OSError, match="no UNIX sockets"):
            _consoles.connect("/somewhere", TIMEOUT)

    def test_without_a_thread_nothing_is_left(self, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        console = LineConsole(Settings(), Echo, Journal(), SYSTEM)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            console.start()
        assert (console.path, console.thread, os.listdir(runtime / "loopwatch")) == (None, None, [])


def _no_such_pid() -> int:
    """Return a pid that no process has, nor the next one."""
    taken = {int(name) for name in os.listdir("/proc") if name.isdigit()} if Path("/proc").is_dir() else set()
    return next(pid for pid in range(3_000_000, 4_000_000) if not {pid, pid + 1} & taken)


def _short(place: Path) -> str:
    """Return a path to a directory that is short enough for a socket's."""
    os.chdir(place)
    return "."
