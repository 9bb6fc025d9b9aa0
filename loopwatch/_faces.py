"""All that shows what loopwatch knows, together: what leaves the process, and where people ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from ._clock import Clock
from ._console.commands import Commands
from ._console.source import Source
from ._console.telnet import TelnetConsole
from ._events import Event
from ._internals.monitor import Now
from ._journal import Journal
from ._settings import Settings
from ._threads import OwnThread
from .exporters.exports import Exports


class Faces:
    """Shows what ``source`` knows, and the events that ``take_events`` returns.

    ``unwatched`` keeps what is created in a thread meanwhile from counting as the program's; ``now`` returns
    the loop that aiomonitor's own commands look at.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        take_events: Callable[[], Iterable[Event]],
        unwatched: Callable[[], AbstractContextManager[object]],
        now: Now,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._exports = Exports(settings, source.snapshot, take_events, unwatched, journal, clock)
        self.metrics, self.otel = self._exports.metrics, self._exports.otel
        commands = Commands(source, journal, clock)
        self.telnet = TelnetConsole(settings, commands, now, unwatched, journal, clock)

    def refresh(self, *, loops_run: bool) -> None:
        """Keep ready what may be asked for, and begin what waits for a loop. The watchdog's chore."""
        self._exports.refresh(loops_run=loops_run)
        if loops_run:
            self.telnet.start()

    def threads(self) -> dict[str, OwnThread]:
        """The threads there are, by the component that counts their failures."""
        return {**self._exports.threads(), "console": self.telnet.thread}

    def before_fork(self) -> None:
        """Wait for imports under way."""
        self._exports.before_fork()
        self.telnet.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.telnet.after_fork_in_parent()
        self._exports.after_fork_in_parent()

    def forget(self) -> None:
        """Be as before the first start: in a forked child."""
        self.telnet.forget()
        self._exports.forget()
