"""The console as the engine sees it: the commands, and the ways to reach them."""

from __future__ import annotations

from loopwatch._clock import Clock
from loopwatch._journal import Journal
from loopwatch._settings import Settings
from loopwatch._threads import OwnThread

from .commands import Commands
from .line import LineConsole
from .source import Source


class Console:
    """Answers people about this process, while loops run in it."""

    def __init__(self, settings: Settings, source: Source, journal: Journal, clock: Clock) -> None:
        self.commands = Commands(source, journal, clock)
        self._line = LineConsole(settings, self.commands, journal, clock)

    @property
    def path(self) -> str | None:
        """Where the socket of the line console is; None while there is none."""
        return self._line.path

    @property
    def cpu_time(self) -> float:
        """CPU seconds spent on answers."""
        return self._line.cpu_time

    def start(self) -> None:
        """Let people in. Raises RuntimeError if no thread can be had."""
        self._line.start()

    def stop(self) -> None:
        """Let everybody go."""
        self._line.stop()

    def threads(self) -> dict[str, OwnThread]:
        """The threads there are, by the component that counts their failures."""
        line = self._line.thread
        return {} if line is None else {"console": line}

    def forget(self) -> None:
        """Be as before the start: in a forked child."""
        self._line.forget()
        self.commands.forget()
