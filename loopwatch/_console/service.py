"""The console as the engine sees it: the commands, and the ways to reach them.

The commands are imported by the thread that answers the first client, since most processes have none. They
import only each other and ``unicodedata``: nothing that the program may be in the middle of importing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from loopwatch._clock import Clock
from loopwatch._internals.monitor import Now
from loopwatch._journal import Journal
from loopwatch._settings import Settings
from loopwatch._threads import Imports, OwnThread

from .line import LineConsole
from .source import Source
from .telnet import TelnetConsole

if TYPE_CHECKING:
    from .commands import Commands


class Console:
    """Answers people about this process, while loops run in it.

    ``now`` returns the loop that aiomonitor's own commands look at; while ``unwatched`` is entered in a
    thread, what is created there does not count as the program's.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        now: Now,
        unwatched: Callable[[], AbstractContextManager[object]],
        imports: Imports,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._source = source
        self._journal = journal
        self._clock = clock
        self._commands: Commands | None = None
        self._imports = imports
        self._telnet = TelnetConsole(settings, self._answering, now, unwatched, imports, journal, clock)
        self._line = LineConsole(settings, self._answering, journal, clock, lambda: self._telnet.url)

    @property
    def path(self) -> str | None:
        """Path of the line console's socket; None while there is none."""
        return self._line.path

    @property
    def url(self) -> str | None:
        """URL of the telnet console; None while there is none."""
        return self._telnet.url

    @property
    def cpu_time(self) -> float:
        """CPU seconds spent on answers."""
        return self._line.cpu_time + self._telnet.cpu_time

    def prepare(self) -> None:
        """Import what takes long, while that blocks no loop."""
        self._telnet.prepare()

    def start(self) -> None:
        """Accept clients. Raises RuntimeError if no thread can be started."""
        self._line.start()
        self._telnet.start()

    def stop(self) -> None:
        """Disconnect all clients, and undo ``prepare``."""
        self._telnet.stop()
        self._line.stop()

    def threads(self) -> dict[str, OwnThread]:
        """The running threads, by the component that counts their failures."""
        line = self._line.thread
        return {"telnet": self._telnet.thread} | ({} if line is None else {"console": line})

    def forget(self) -> None:
        """Return to the state before the start, in a forked child."""
        self._telnet.forget()
        self._line.forget()
        self._commands = None  # in the child the numbers go to other tasks and stalls

    def _answering(self) -> Commands:
        """Return the commands. Called in our answering threads."""
        with self._imports:
            if self._commands is None:
                from .commands import Commands

                self._commands = Commands(self._source, self._journal, self._clock)
            return self._commands
