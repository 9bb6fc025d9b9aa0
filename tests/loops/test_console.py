"""The line console of a real process: also while its loop is blocked, after a fork, under hostile input."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

import loopwatch
from loopwatch import Agent, _consoles
from loopwatch._consoles import Client
from tests.machine import CpuWaits

from .child import Child

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Python has no UNIX sockets there")

Start = Callable[[str], Child]
Script = Callable[..., subprocess.CompletedProcess[str]]
TIMEOUT = 120.0
"""Seconds that a test waits for an answer before it fails."""
WITHIN = 1.0
"""Seconds in which the console has to show who blocks a loop."""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


BLOCKING = """
agent = loopwatch.install(prometheus_port=None)

def sleeps():
    import time
    time.sleep(600.0)

def computes():
    import time
    until = time.monotonic() + 600.0
    while time.monotonic() < until: pass  # in one line, whichever step of it a sample shows

async def handle():
    await asyncio.sleep(0)  # an eager task has no name before
    WORK()

async def main():
    await asyncio.sleep(0.2)
    say("pid", os.getpid())
    await asyncio.create_task(handle(), name="request")
    say("over")

run(main())
"""


class TestBlocked:
    """While the loop cannot answer."""

    @pytest.mark.parametrize("work", ["sleeps", "computes"])
    def test_the_culprit_is_shown_within_a_second(
        self, start_child: Start, tmp_path: Path, work: str, cpu_waits: CpuWaits
    ) -> None:
        """Counted from when the loop was blocked, as the stall itself says; plus what both wait for a CPU."""
        child = start_child(BLOCKING.replace("WORK", work))
        child.until("pid")
        waits = CpuWaits(child.pid)
        with closing(Client(_path_of(child, tmp_path), TIMEOUT)) as client:
            while f"__main__.{work}" not in (answer := client.ask("stall")):
                pass
            shown_at = re.search(r"has been stalled for (\S+ \S+),", answer)
            assert shown_at is not None
            assert _seconds(shown_at[1]) <= WITHIN + waits.seconds() + cpu_waits.seconds()
            assert f"program.py:{_line_of(tmp_path, work)}" in answer
            assert "request (handle)" in answer
            row = client.ask("stalls").split("\n")[1]
            number = row.split()[0]
            assert answer.startswith(f"stall {number}:")
        child.send(signal.SIGKILL)
        child.end()
        assert "over" not in child.said  # it was blocked until now

    def test_the_stall_keeps_its_number_when_it_is_over(self, agent: Agent, run: Callable[..., None]) -> None:
        """Which need not be the first: a busy machine may have stalled the loop before."""
        seen: list[str] = []
        asked = threading.Event()

        async def main() -> None:
            asker = threading.Thread(target=ask)
            await asyncio.sleep(0.1)
            asker.start()
            asked.wait(TIMEOUT)
            asked.set()
            await asyncio.to_thread(asker.join)
            assert agent.console_path is not None
            number = seen[0].partition(":")[0]
            with closing(Client(agent.console_path, TIMEOUT)) as client:
                async with asyncio.timeout(TIMEOUT):
                    while " was stalled" not in (answer := await asyncio.to_thread(client.ask, number)):
                        pass
                seen.append(answer)

        def ask() -> None:
            try:
                assert agent.console_path is not None
                with closing(Client(agent.console_path, TIMEOUT)) as client:
                    while "has been stalled" not in (answer := client.ask("stall")):
                        assert not asked.is_set()
                    seen.append(answer)
            finally:
                asked.set()

        run(main())
        before, after = seen
        assert before.startswith("stall ")
        assert after.partition(":")[0] == before.partition(":")[0]


class TestLife:
    """When there is a socket, and whose it is."""

    def test_there_is_one_from_the_first_loop_to_the_end(
        self, agent: Agent, run: Callable[..., None], runtime: Path
    ) -> None:
        async def main() -> None:
            assert agent.console_path == str(runtime / "loopwatch" / f"console-{os.getpid()}")
            with closing(Client(agent.console_path, TIMEOUT)) as client:
                assert f"pid {os.getpid()}." in client.greeting
                assert "main" in await asyncio.to_thread(client.ask, "loop")

        assert (agent.console_path, _consoles.found()) == (None, [])
        run(main())
        run(main())
        assert len(_consoles.found()) == 1
        loopwatch.uninstall()
        assert (agent.console_path, _consoles.found(), os.listdir(runtime / "loopwatch")) == (None, [], [])

    def test_switched_off_there_is_none(
        self, install: Callable[..., Agent], run: Callable[..., None]
    ) -> None:
        agent = install(console_socket=False)
        run(asyncio.sleep(0.05))
        assert (agent.console_path, _consoles.found()) == (None, [])
        assert "loopwatch-console" not in {thread.name for thread in threading.enumerate()}

    def test_it_is_gone_with_the_process(self, script: Script, runtime: Path) -> None:
        done = script(
            "import asyncio, loopwatch\n"
            "agent = loopwatch.install(prometheus_port=None)\n"
            "asyncio.run(asyncio.sleep(0.05))\n"
            "print(agent.console_path)\n",
        )
        assert Path(done.stdout.strip()).parent == runtime / "loopwatch"
        assert os.listdir(runtime / "loopwatch") == []

    def test_one_that_was_killed_is_tidied_up_after(
        self, start_child: Start, tmp_path: Path, agent: Agent, run: Callable[..., None]
    ) -> None:
        child = start_child(BLOCKING.replace("WORK()", "await forever()"))
        child.until("pid")
        path = _path_of(child, tmp_path)
        assert [one.path for one in _consoles.found()] == [path]
        child.close()
        run(asyncio.sleep(0.05))
        assert os.listdir(tmp_path / "loopwatch") == [f"console-{os.getpid()}"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    def test_a_child_has_its_own_once_it_runs_a_loop(self, start_child: Start, tmp_path: Path) -> None:
        """And the parent keeps its own, with its clients."""
        child = start_child("""
import time

agent = loopwatch.install(prometheus_port=None)

async def main(who):
    say(who, "pid", os.getpid())
    await forever()

run(asyncio.sleep(0.05))
say("parent pid", os.getpid())
while not os.path.exists("fork"):
    time.sleep(0.01)
if os.fork():
    run(main("parent"))
say("before", agent.console_path)
run(main("child"))
""")
        child.until("parent pid")
        with closing(Client(_path_of(child, tmp_path), TIMEOUT)) as parent:
            assert " sleep " in parent.ask("tasks state=any")
            (tmp_path / "fork").touch()
            child.until("child pid")
            assert "before None" in child.said
            while " main " not in parent.ask("tasks"):
                pass
            assert " sleep " in parent.ask("tasks state=any")
            assert len(_consoles.found()) == 2
            with closing(Client(_path_of(child, tmp_path), TIMEOUT)) as other:
                assert child.said[-1].split()[-1] in other.greeting
                assert " main " in other.ask("tasks")
                assert " sleep " not in other.ask("tasks state=any")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    def test_the_commands_are_imported_for_the_first_who_asks(
        self, start_child: Start, tmp_path: Path
    ) -> None:
        """By a thread that does not live on in a child: a fork waits until it is done."""
        child = start_child("""
import sys, threading

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "loopwatch._console.commands":
            begun.set()
            goes_on.wait(20)

begun, goes_on = threading.Event(), threading.Event()
sys.meta_path.insert(0, Slow())
agent = loopwatch.install(prometheus_port=None)
run(asyncio.sleep(0.05))
say("imported", begun.is_set(), "loopwatch._console.commands" in sys.modules)
say("pid", os.getpid())
begun.wait()
threading.Timer(0.3, goes_on.set).start()  # much later than a fork waits for threads
if not os.fork():
    async def main():
        say("child pid", os.getpid())
        await forever()
    run(main())
run(forever())
""")
        child.until("pid")
        assert "imported False False" in child.said
        with closing(Client(_path_of(child, tmp_path), TIMEOUT)) as client:
            assert " sleep " in client.ask("tasks state=any")
        child.until("child pid")
        with closing(Client(_path_of(child, tmp_path), TIMEOUT)) as client:
            assert " main " in client.ask("tasks")


class TestHostile:
    """Whoever connects harms neither the loop nor the scrapes."""

    def test_no_input_holds_up_the_loop(
        self, agent: Agent, run: Callable[..., float], cpu_waits: CpuWaits
    ) -> None:
        """200 connections: binary, half a line, half-open, silent, and 10 MB in a line."""

        async def main() -> float:
            assert agent.console_path is not None
            harm = asyncio.create_task(asyncio.to_thread(_harm, agent.console_path))
            worst = 0.0
            while not harm.done():
                before = time.monotonic()
                await asyncio.sleep(0.005)
                worst = max(worst, time.monotonic() - before - 0.005)
            cpu_waits.seconds()  # while the thread that did it is still there to be asked
            await harm
            with closing(Client(agent.console_path, TIMEOUT)) as client:
                assert "main" in await asyncio.to_thread(client.ask, "loop")
            return worst

        assert run(main()) < 0.1 + cpu_waits.seconds()
        errors = {point.labels: point.value for point in agent.snapshot().points["internal_errors"]}
        assert errors["console",] == 0


def _harm(path: str) -> None:
    chance = random.Random(5)
    with ExitStack() as opened:
        connections = [opened.enter_context(closing(_consoles.connect(path, TIMEOUT))) for _ in range(200)]
        for at, connection in enumerate(connections):
            with suppress(OSError):  # it was pushed out by later ones
                if at % 4 == 0:
                    connection.sendall(chance.randbytes(5000))
                elif at % 4 == 1:
                    connection.sendall(b"tas")
                elif at % 4 == 2:
                    connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            for _ in range(160):
                connections[-1].sendall(b"x" * (1 << 16))


def _path_of(child: Child, directory: Path) -> str:
    """Return the socket of a child that has just said its pid."""
    return str(directory / "loopwatch" / f"console-{child.said[-1].split()[-1]}")


def _seconds(said: str) -> float:
    value, unit = said.split()
    return float(value) / (1000 if unit == "ms" else 1)


def _line_of(directory: Path, work: str) -> int:
    """Return the line at which the work goes on."""
    lines = (directory / "program.py").read_text(encoding="utf-8").split("\n")
    wanted = "    time.sleep(600.0)" if work == "sleeps" else "    while time.monotonic() < until: pass"
    return next(number for number, line in enumerate(lines, 1) if line.startswith(wanted))
