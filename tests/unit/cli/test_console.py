"""``loopwatch console``: which process it asks, and what it does with the answers."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loopwatch import _consoles
from loopwatch._cli.commands import cli
from loopwatch._clock import SYSTEM
from loopwatch._console.line import LineConsole
from loopwatch._consoles import Found
from loopwatch._journal import Journal
from loopwatch._settings import Settings

TIMEOUT = 120.0
SILENT = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(f"console-{os.getpid()}")
listener.listen()
print("listens", flush=True)
sys.stdin.read()
"""


class Echo:
    """Answers with the line."""

    def run(self, line: str, width: int) -> str:
        return f"{line} in {width}" if line else ""

    def knows(self, line: str) -> bool:
        return True

    def complete(self, text: str) -> list[str]:
        return [name for name in ("stalls", "stall") if name.startswith(text)]

    def look(self) -> None:
        pass


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(_consoles._user_directory.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr("loopwatch._cli.console.GREETED", TIMEOUT)
    return tmp_path


@pytest.fixture
def served() -> Iterator[LineConsole]:
    """A process with a console: this one."""
    console = LineConsole(Settings(service_name="shop"), Echo, Journal(), SYSTEM)
    console.start()
    yield console
    console.stop()


@pytest.fixture
def other(runtime: Path, served: LineConsole) -> Iterator[int]:
    """The pid of another one, which has a socket and never answers."""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            SILENT,
        ],
        cwd=runtime / "loopwatch",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        yield process.pid
        process.kill()


def ask(*words: str, lines: str = "") -> Result:
    return CliRunner().invoke(cli, ["console", *words], input=lines)


@pytest.mark.usefixtures("served")
class TestWhich:
    """The process that is asked."""

    def test_the_only_one_there_is(self) -> None:
        assert ask("stalls", "cause=gc").output == "stalls cause=gc in 90\n"

    def test_that_of_a_pid(self) -> None:
        assert ask(str(os.getpid()), "task", "3").output == "task 3 in 90\n"

    def test_that_of_a_path(self, served: LineConsole) -> None:
        assert served.path is not None
        assert ask(served.path, "loop").output == "loop in 90\n"

    def test_of_several_they_are_listed(self, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """With what each says of itself, in the time it has for that: here, what a busy machine takes."""
        monkeypatch.setattr("loopwatch._cli.console.GREETED", 4.0)
        result = ask("stalls")
        assert result.exit_code == 1
        both = sorted([(other, "does not answer"), (os.getpid(), "shop")])
        assert result.output == "\n".join(
            ["Error: Which one?", *(f"  {pid}  {said}" for pid, said in both), ""]
        )
        assert ask(str(os.getpid()), "loop").output == "loop in 90\n"

    def test_one_that_does_not_answer_is_given_up(self, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("loopwatch._cli.console.TIMEOUT", 0.1)
        result = ask(str(other), "loop")
        assert result.exit_code == 1
        assert "does not answer: the process is stopped, or code in C holds its GIL" in result.output

    def test_a_pid_without_one(self) -> None:
        result = ask("1", "loop")
        assert (result.exit_code, result.output) == (
            1,
            f"Error: There is none with pid 1, but:\n  {os.getpid()}  shop\n",
        )


class TestNone:
    """Where there is nobody to ask."""

    def test_no_process(self) -> None:
        result = ask()
        assert result.exit_code == 1
        assert "unless LOOPWATCH_CONSOLE_SOCKET=0" in result.output

    def test_a_path_that_leads_nowhere(self, runtime: Path) -> None:
        assert (
            ask(f"{runtime}/nowhere", "loop").output
            == f"Error: {runtime}/nowhere: No such file or directory\n"
        )

    def test_what_the_dead_left_is_not_offered(self, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (runtime / "loopwatch").mkdir(mode=0o700)
        monkeypatch.chdir(runtime / "loopwatch")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(f"console-{os.getpid()}")
            assert _consoles.found() == []
            left.listen()
            assert [one.pid for one in _consoles.found()] == [os.getpid()]
        assert _consoles.found() == []


@pytest.mark.usefixtures("served")
class TestTalk:
    """Lines in, text out."""

    def test_lines_from_a_pipe(self) -> None:
        assert ask(lines="loop\n\nstalls\n").output == "loop in 90\nstalls in 90\n"

    def test_what_it_says_cannot_control_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may be the socket of another user's."""
        monkeypatch.setattr(Echo, "run", lambda self, line, width: "\x1b[2J\x9b\nx")
        assert ask("loop").output == "\\x1b[2J\\x9b\nx\n"

    def test_a_dialogue(self, served: LineConsole) -> None:
        """On a terminal: with a prompt, completion and a history."""
        controller, terminal = pty.openpty()
        command = [sys.executable, "-m", "loopwatch", "console", str(os.getpid())]
        env = {**os.environ, "TERM": "dumb"}
        with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=env) as process:
            os.close(terminal)
            screen = Screen(controller)
            try:
                screen.until("lists the commands.\r\n")
                screen.until("loopwatch> ")
                for typed, answer in (
                    ("stall\n", "stall in "),
                    ("\x1b[A\n", "stall in "),  # the line before
                    ("stalls\t\n", "stalls in "),
                ):
                    os.write(controller, typed.encode())
                    screen.until(answer)
                    screen.until("loopwatch> ")
                os.write(controller, b"\x04")
                assert process.wait(TIMEOUT) == 0
            finally:
                process.kill()
                os.close(controller)

    def test_the_end_of_the_process_is_told(
        self, served: LineConsole, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def end(self: Echo, line: str, width: int) -> str:
            raise OSError("as when it is gone")

        monkeypatch.setattr(Echo, "run", end)
        result = ask("loop")
        assert (result.exit_code, result.output) == (1, f"Error: {served.path}: it has hung up\n")


def test_found_is_sorted_by_pid() -> None:
    assert sorted([Found(10, "b"), Found(9, "z")]) == [Found(9, "z"), Found(10, "b")]


class Screen:
    """What a program writes to its terminal."""

    def __init__(self, controller: int) -> None:
        self._controller = controller
        self._unread = ""

    def until(self, said: str) -> None:
        """Read on until something was said."""
        while said not in self._unread:
            assert select.select([self._controller], [], [], TIMEOUT)[0], self._unread
            self._unread += os.read(self._controller, 1000).decode()
        self._unread = self._unread.partition(said)[2]
