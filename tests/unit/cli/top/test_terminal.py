"""In a real terminal: each frame over the last one, and at the end all is as it was, whatever ended it."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

if sys.platform == "win32":
    pytest.skip("a terminal of Unix", allow_module_level=True)

import fcntl
import pty
import termios

TIMEOUT = 120.0
OWN_SCREEN, OLD_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
HOME = "\x1b[H"
TARGET = "127.0.0.1:1"
"""Where nobody answers: what is drawn is about that."""

TOP = "from loopwatch.__main__ import main; import sys; sys.argv[1:] = ['top', '--every=0.1', sys.argv[1]]; "


class Top:
    """``loopwatch top`` in a pseudo-terminal."""

    def __init__(
        self, opened: ExitStack, code: str = f"{TOP}main()", size: tuple[int, int] = (80, 24)
    ) -> None:
        self._ours, self._theirs = pty.openpty()
        for file in (self._ours, self._theirs):
            opened.callback(os.close, file)
        self.resize(80, 24)
        self.before = termios.tcgetattr(self._theirs)
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, TARGET],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        assert self.process.stderr is not None
        opened.callback(self.process.stderr.close)
        opened.callback(self.process.wait)
        opened.callback(self.process.kill)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def hang_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, self._ours)
        os.close(nowhere)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read_until(self, found: Callable[[str], object]) -> str:
        """Read on until ``found`` in what has been read since the last call; return that."""
        ends, read = time.monotonic() + TIMEOUT, b""
        while not found(read.decode("utf-8", "ignore")):
            assert time.monotonic() < ends, read[-2000:]
            assert self.process.poll() is None, self.errors()
            if select.select([self._ours], [], [], 0.05)[0]:
                read += os.read(self._ours, 65536)
        self.said += read.decode("utf-8", "ignore")
        return read.decode("utf-8", "ignore")

    def end(self) -> int:
        """Wait for the end; the rest of what it says is read."""
        ends = time.monotonic() + TIMEOUT
        while self.process.poll() is None or select.select([self._ours], [], [], 0)[0]:
            assert time.monotonic() < ends
            if select.select([self._ours], [], [], 0.05)[0]:
                self.said += os.read(self._ours, 65536).decode("utf-8", "ignore")
        return self.process.wait()

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was: its modes, its screen, its cursor."""
        modes = termios.tcgetattr(self._theirs) == self.before
        screen = self.said.rfind(OLD_SCREEN) > self.said.rfind(OWN_SCREEN) >= 0
        cursor = self.said.rfind(SHOWN) > self.said.rfind(HIDDEN) >= 0
        return modes and screen and cursor


@pytest.fixture
def start() -> Iterator[Callable[..., Top]]:
    with ExitStack() as opened:
        yield lambda *args, **options: Top(opened, *args, **options)


def drawn(text: str) -> bool:
    return "connection refused" in text and "q quit" in text


def test_q_ends_it_with_the_terminal_as_it_was(start: Callable[..., Top]) -> None:
    top = start()
    top.read_until(drawn)
    assert not top.restored
    top.press("q")
    assert (top.end(), top.errors()) == (0, "")
    assert top.restored


def test_so_does_ctrl_c(start: Callable[..., Top]) -> None:
    top = start()
    top.read_until(drawn)
    top.press("\x03")
    assert (top.end(), top.errors()) == (0, "")
    assert top.restored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_so_does_a_signal(start: Callable[..., Top], number: signal.Signals) -> None:
    top = start()
    top.read_until(drawn)
    top.process.send_signal(number)
    assert top.end() == 128 + number
    assert top.restored


def test_so_does_an_error_of_ours_which_is_told_afterwards(start: Callable[..., Top]) -> None:
    broken = "import loopwatch._cli.top.session as s; s.press = lambda *_: 1 / 0; "
    top = start(f"{TOP}{broken}main()")
    top.read_until(drawn)
    top.press("j")
    assert top.end() == 1
    assert "ZeroDivisionError" in top.errors()
    assert top.restored


def test_ctrl_z_does_not_leave_the_shell_with_our_screen(start: Callable[..., Top]) -> None:
    top = start()
    top.read_until(drawn)
    top.press("\x1a")
    top.press("?")
    top.read_until(lambda text: "PgUp" in text)


def test_each_frame_is_drawn_over_the_last_and_nothing_is_cleared(start: Callable[..., Top]) -> None:
    top = start()
    top.read_until(drawn)
    for page in "23456789?1":
        top.press(page)
        top.read_until(lambda text: text.count("q quit") > 1)
    frames = top.said.split(HOME)[2:]
    assert len(frames) >= 10
    for frame in frames[:-1]:
        assert not re.search(r"\x1b\[[0-3]?[JK]", frame), frame
        assert frame.count("\n") == 23


def test_a_new_size_is_drawn_at_once(start: Callable[..., Top]) -> None:
    top = start()
    top.read_until(drawn)
    for width, height in ((200, 60), (40, 10), (80, 24)):
        top.resize(width, height)
        top.read_until(lambda text, height=height: any(f.count("\n") == height - 1 for f in text.split(HOME)))


@pytest.mark.parametrize("which", [{"stdin": subprocess.DEVNULL}, {"stdout": subprocess.PIPE}])
def test_without_a_terminal_it_says_what_does_without(which: dict[str, int]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loopwatch", "top", TARGET],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **which,  # type: ignore[call-overload]
    )
    assert done.returncode == 1
    assert "it takes a terminal; `loopwatch doctor` does without" in done.stderr


def test_a_terminal_that_is_gone_is_an_end(start: Callable[..., Top]) -> None:
    top = start()
    top.read_until(drawn)
    top.hang_up()
    top.process.wait(TIMEOUT)
    assert "Traceback" not in top.errors()
