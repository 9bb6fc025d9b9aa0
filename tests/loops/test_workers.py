"""Servers with several workers: one scrape of one port shows all live ones, whichever of them are killed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.pools.servers import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers meet on Linux")

PATIENCE = 120.0
"""Seconds after which a test gives up waiting for what should come at once."""

APPLICATION = """
import asyncio, os
INSTALL

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    await asyncio.sleep(0.001)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
"""

INSTALL = "import loopwatch; loopwatch.install()"

GUNICORN = ["-m", "gunicorn", "application:app", "--bind=127.0.0.1:APP", "-k=uvicorn_worker.UvicornWorker"]
GUNICORN += [f"--timeout={PATIENCE:.0f}"]  # by default, it replaces a worker that a busy machine makes silent
UVICORN = ["-m", "uvicorn", "application:app", "--port=APP"]

SCRAPE = b"GET /metrics HTTP/1.1\r\n\r\n"

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Shown:
    """What one scrape shows."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values: Series = {}
        self.counted: Series = {}
        """Of counters, and of the counts of histograms."""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in self.values, f"{key} is shown twice"
                self.values[key] = sample.value
                if family.type == "counter" or family.type == "histogram":
                    self.counted[key] = sample.value
        self.unlabelled = [name for name, labels in self.values if not dict(labels).get("process_pid")]
        """Series that are of no worker in particular."""

    @property
    def up(self) -> set[int]:
        """The pids of all workers that are shown."""
        found = self._of("loopwatch_worker_up")
        return {pid for pid, is_up in found.items() if is_up}

    @property
    def loops(self) -> set[int]:
        """The pids of the workers whose loops are shown."""
        return set(self._of("asyncio_eventloop_info"))

    def _of(self, name: str) -> Mapping[int, float]:
        return {int(dict(labels)["process_pid"]): v for (n, labels), v in self.values.items() if n == name}


def answer_to(client: socket.socket) -> Shown:
    """Return the answer to a client, which has to be complete."""
    said = b""
    while more := client.recv(1 << 20):
        said += more
    head, _, body = said.partition(b"\r\n\r\n")
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
    return Shown(body.decode())


def stop(pid: int) -> None:
    """Have a process stand still, and wait until each of its threads does: they go on for a while."""
    os.kill(pid, signal.SIGSTOP)
    ends = time.monotonic() + PATIENCE
    while {_state(thread) for thread in Path(f"/proc/{pid}/task").iterdir()} != {"T"}:
        assert time.monotonic() < ends, "it goes on and on"


def _state(thread: Path) -> str:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it has just ended
        return "T"


class Server:
    """A server with its workers, in a session of its own and with its own directories."""

    def __init__(self, directory: Path, command: list[str], **environ: str) -> None:
        self.port, app_port = free_port(), free_port()
        self._log = directory / "log"
        self._url = f"http://127.0.0.1:{self.port}/metrics"
        self.app = f"http://127.0.0.1:{app_port}/"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *(word.replace("APP", str(app_port)) for word in command)],
                cwd=directory,
                env={
                    **os.environ,
                    "HOME": str(directory),
                    "TMPDIR": str(directory),
                    "XDG_RUNTIME_DIR": str(directory),
                    "LOOPWATCH_PROMETHEUS_PORT": str(self.port),
                    "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": f"{PATIENCE:.0f}",  # an older one knows no option
                    "PYTHONPATH": os.pathsep.join([str(directory), *filter(None, sys.path)]),
                    **environ,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The pid of the server itself, which starts the workers."""
        return self._process.pid

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def scrape(self) -> Shown:
        """Scrape the port; while nobody has it, until somebody does."""
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(self._url, timeout=PATIENCE) as answer:
                    return Shown(answer.read().decode())
            except OSError:
                assert time.monotonic() < ends, self.said
                assert self._process.poll() is None, self.said
            threading.Event().wait(0.01)

    def until(self, condition: Callable[[Shown], bool]) -> Iterator[Shown]:
        """Scrape until ``condition`` is met; yields each scrape."""
        ends = time.monotonic() + PATIENCE
        while True:
            shown = self.scrape()
            yield shown
            if condition(shown):
                return
            assert time.monotonic() < ends, (shown.up, self.said)

    def scrape_once(self) -> Shown:
        """Scrape the port. Raises OSError if that is refused or cut off."""
        with self.client() as client:
            client.sendall(SCRAPE)
            return answer_to(client)

    def client(self) -> socket.socket:
        """Connect to the port."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    @property
    def listening(self) -> set[int]:
        """The pids of the processes that hold the socket which listens at the port."""
        return self._holding("0A", "")

    def talking_to(self, client: socket.socket) -> set[int]:
        """The pids of the processes that hold the other end of the client's connection, if it is accepted."""
        return self._holding("01", f":{client.getsockname()[1]:04X}")

    def _holding(self, state: str, remote: str) -> set[int]:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        rows = [row for row in rows if row[1].endswith(f":{self.port:04X}") and row[2].endswith(remote)]
        [inode] = [row[9] for row in rows if row[3] == state]
        found = set()
        for file in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):  # closed since
                if os.readlink(file) == f"socket:[{inode}]":
                    found.add(int(file.parts[2]))
        return found

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    for name in ("uvicorn", "gunicorn", "uvicorn_worker"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs: {name}")
    with ExitStack() as closed:

        def start(command: list[str], install: str = INSTALL, **environ: str) -> Server:
            (tmp_path / "application.py").write_text(APPLICATION.replace("INSTALL", install))
            server = Server(tmp_path, command, **environ)
            closed.callback(server.close)
            return server

        yield start


Start = Callable[..., Server]


@pytest.fixture
def load() -> Iterator[Callable[[str], None]]:
    """Ask a server again and again, whatever becomes of its workers, until the test is over."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def ask(url: str) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                answer.read()
            over.wait(0.005)

    def load(url: str) -> None:
        threads.append(threading.Thread(target=ask, args=[url]))
        threads[-1].start()

    yield load
    over.set()
    for thread in threads:
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("command", "install", "environ"),
    [
        pytest.param([*GUNICORN, "--workers=4"], INSTALL, {}, id="gunicorn"),
        pytest.param([*GUNICORN, "--workers=4", "--preload"], INSTALL, {}, id="gunicorn --preload"),
        pytest.param([*UVICORN, "--workers=4"], INSTALL, {}, id="uvicorn"),
        pytest.param(["-m", "loopwatch", "run", "--", *UVICORN, "--workers=4"], "", {}, id="loopwatch run"),
    ],
)
def test_one_scrape_shows_all_workers(
    start: Start, command: list[str], install: str, environ: Mapping[str, str]
) -> None:
    server = start(command, install, **environ)
    # One that gunicorn preloads the application into is a process with a loop, too: of its control socket.
    *_, shown = server.until(lambda shown: len(shown.up - {server.pid}) == 4 and shown.loops == shown.up)
    assert shown.unlabelled == []
    pids = {int(pid) for _, labels in shown.values for key, pid in labels if key == "process_pid"}
    assert pids == shown.up
    assert shown.text.count("# TYPE process_cpu_seconds_total") == 1
    assert "no /metrics endpoint" not in server.said
    assert "failed" not in server.said


def test_a_worker_by_itself_looks_as_ever(start: Start) -> None:
    shown = start([*UVICORN]).scrape()
    assert "process_pid" not in shown.text
    assert "loopwatch_worker_up" not in shown.text


def test_each_worker_may_be_killed(start: Start, load: Callable[[str], None], tmp_path: Path) -> None:
    """The scrape shows those alive, another one gets the port, and no counter falls."""
    server = start([*GUNICORN, "--workers=4"])
    *_, before = server.until(lambda shown: len(shown.up) == 4)
    load(server.app)
    first, seen = sorted(before.up), set(before.up)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
        for shown in server.until(lambda shown: len(shown.up) == 4 and pid not in shown.up):  # noqa: B023
            fell = [key for key, value in shown.counted.items() if value < before.counted.get(key, 0.0)]
            assert fell == []
            before = shown
            seen |= shown.up
    assert len(seen) == 8
    assert not seen - before.up - set(first)
    assert "failed" not in server.said
    entries = re.findall(r"-(\d+)-\d+$", "\n".join(os.listdir(tmp_path / "loopwatch")), re.MULTILINE)
    assert set(map(int, entries)) == before.up


def test_whom_a_killed_worker_was_answering_another_one_answers(start: Start, tmp_path: Path) -> None:
    """It is killed while waiting for one that is stopped, which here takes for ever."""
    for_ever = "from loopwatch.exporters import endpoint, siblings, standby\n"
    for_ever += "endpoint.PATIENCE = siblings.WITHIN = standby.LOOKS = 1000.0"
    server = start([*GUNICORN, "--workers=3"], f"{for_ever}\n{INSTALL}")
    *_, shown = server.until(lambda shown: len(shown.up) == 3 and shown.up <= server.listening)
    [lock] = (tmp_path / "loopwatch").glob("*.lock")
    holder = int(lock.read_text().split()[0])
    stopped, lives = shown.up - {holder}
    stop(stopped)
    with ExitStack() as opened:
        clients = [opened.enter_context(server.client()) for _ in range(3)]
        asking, silent = clients[:2], clients[2]
        for client in asking:
            client.sendall(SCRAPE)

        def by(pid: int, *clients: socket.socket) -> bool:
            return any(pid in server.talking_to(client) for client in clients)

        ends = time.monotonic() + PATIENCE
        while not (by(holder, silent) and by(lives, *asking)):  # with the others the holder is done by then
            assert time.monotonic() < ends, server.said
        os.kill(holder, signal.SIGKILL)
        os.kill(stopped, signal.SIGCONT)
        for client in asking:
            after = answer_to(client)
            assert {stopped, lives} <= after.up
            assert holder not in after.up


def test_while_the_worker_that_has_the_port_hangs_the_others_answer(start: Start, tmp_path: Path) -> None:
    server = start([*GUNICORN, "--workers=3"])
    *_, shown = server.until(lambda shown: len(shown.up) == 3 and shown.up <= server.listening)
    [lock] = (tmp_path / "loopwatch").glob("*.lock")
    holder = int(lock.read_text().split()[0])
    with server.client() as client:
        ends = time.monotonic() + PATIENCE
        while len(server.talking_to(client)) < 2:  # it is let in, and one stands by
            assert time.monotonic() < ends, server.said
        stop(holder)
        try:
            client.sendall(SCRAPE)
            assert answer_to(client).up <= shown.up - {holder}  # of the third one, if it came to it
            for _ in server.until(lambda now: now.up == shown.up - {holder}):
                pass
        finally:
            os.kill(holder, signal.SIGCONT)
    for _ in server.until(lambda now: now.up == shown.up):
        pass


def test_each_scrape_is_answered_while_a_worker_lives(start: Start, load: Callable[[str], None]) -> None:
    """Scraped without a pause, so that a worker dies in the middle of a scrape."""
    server = start([*GUNICORN, "--workers=4"])
    load(server.app)
    ends = time.monotonic() + 4 * PATIENCE
    *_, shown = server.until(lambda shown: len(shown.up) == 4)
    for pid in sorted(shown.up):
        while not (len(shown.up) == 4 and shown.up <= server.listening):  # none had only just begun
            assert time.monotonic() < ends, (shown.up, server.listening, server.said)
            shown = server.scrape_once()
        threading.Thread(target=os.kill, args=[pid, signal.SIGKILL]).start()
        while len(shown.up) != 4 or pid in shown.up:
            assert time.monotonic() < ends, (shown.up, server.said)
            shown = server.scrape_once()
    assert "failed" not in server.said


def test_a_reloaded_program_has_the_port_again(start: Start, tmp_path: Path) -> None:
    server = start([*UVICORN, "--reload"])

    def started(shown: Shown) -> float:
        return shown.values["process_start_time_seconds", ()]

    before = after = server.scrape()
    for after in server.until(lambda shown: started(shown) != started(before)):  # noqa: B007
        (tmp_path / "application.py").touch()  # again, as uvicorn sees none before it has begun to look
    assert "process_pid" not in after.text
    assert "no /metrics endpoint" not in server.said


def test_where_workers_cannot_meet_each_says_so_once(start: Start, tmp_path: Path) -> None:
    (tmp_path / "loopwatch").write_text("in the way")
    (tmp_path / f"loopwatch-{os.geteuid()}").write_text("in the way")
    server = start([*UVICORN, "--workers=3"])
    shown = server.scrape()
    assert "process_pid" not in shown.text
    why = "Workers cannot share it, since they have no place to meet"
    ends = time.monotonic() + PATIENCE
    while server.said.count(why) < 2 and time.monotonic() < ends:
        threading.Event().wait(0.05)
    assert server.said.count(why) == 2
