"""The terminal: its keys one by one, its size, and its state restored at the end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

if sys.platform != "win32":
    import termios
    import tty

WOULD_BE_READ = 4096
"""Bytes of keys read at a time."""


Handler = Callable[[int, FrameType | None], object]


class NoTerminalError(Exception):
    """There is no terminal that can be drawn on. The text says why."""


class Lines:
    """A screen full of lines, for rich to draw."""

    def __init__(self, lines: Sequence[Text]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines, each cut where the screen ends."""
        for line in self._lines:
            line.no_wrap = True
            line.overflow = "crop"
            yield line


class Terminal:
    """Keys in, screens out. Each screen is written in one piece over the last one, so nothing flickers."""

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise NoTerminalError("it takes a terminal of Unix; `loopwatch doctor` does without")
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise NoTerminalError("it takes a terminal; `loopwatch doctor` does without")
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        # Never closed: an outstanding answer may still arrive, and wake us.
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    @property
    def size(self) -> tuple[int, int]:
        """Current columns and lines; the variables COLUMNS and LINES hold earlier values."""
        width, height = os.get_terminal_size(sys.stdout.fileno())
        self._console.size = ConsoleDimensions(width or 80, height or 24)
        return self._console.size

    def wake(self, *_: object) -> None:
        """Make ``wait`` return. Any thread, or a signal handler."""
        with contextlib.suppress(BlockingIOError):  # a wake-up is pending already
            os.write(self._waker, b"\0")

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Take over the whole screen, and get each key as it is pressed; restore everything afterwards."""
        if sys.platform == "win32":
            return
        before = termios.tcgetattr(sys.stdin)
        handlers: dict[int, Handler] = {
            signal.SIGWINCH: self.wake,
            signal.SIGTERM: _end,
            signal.SIGHUP: _end,
        }
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            tty.setcbreak(sys.stdin, termios.TCSANOW)
            _without_suspension()
            with self._live:
                yield
        finally:
            with contextlib.suppress(termios.error):  # it is gone
                termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, before)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def show(self, lines: Sequence[Text]) -> None:
        """Draw a screen."""
        self._live.update(Lines(lines), refresh=True)

    def wait(self, seconds: float) -> str:
        """Wait for keys, a wake-up or the timeout; return what the keys sent."""
        ready, _, _ = select.select([sys.stdin, self._woken], [], [], seconds)
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, WOULD_BE_READ)
        if sys.stdin not in ready:
            return ""
        sent = os.read(sys.stdin.fileno(), WOULD_BE_READ)
        if not sent:  # the terminal is gone
            raise EOFError
        return sent.decode("utf-8", "replace")


def _without_suspension() -> None:
    """Disable Ctrl-Z: the shell would get a screen that is not its own."""
    if sys.platform != "win32":
        attributes: list[Any] = termios.tcgetattr(sys.stdin)
        attributes[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(sys.stdin, termios.TCSANOW, attributes)


def _end(number: int, frame: FrameType | None) -> None:
    """End cleanly, with the terminal restored."""
    raise SystemExit(128 + number)
