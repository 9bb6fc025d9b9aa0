"""The telnet console, as the agent sees it: a thread with its own loop, which starts and ends.

aiomonitor and its dependencies are imported in that thread, and only if a console is asked for. aiomonitor's
own start and close are not used: they wait in the program's loop without a limit, for a port that is in use,
or for a session that waits for that very loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from loopwatch import _settings
from loopwatch._clock import Clock
from loopwatch._internals.monitor import Now, bring_in, unstarted_monitor, used_by_program
from loopwatch._internals.tasks import running_loop
from loopwatch._journal import Journal
from loopwatch._settings import CONSOLE_PORT, REPL, Settings
from loopwatch._threads import Imports, IsToEnd, OwnThread
from loopwatch._version import __version__
from loopwatch._words import clean

if TYPE_CHECKING:
    from .menu import Answering
    from .telnet_server import TelnetServer

COMPONENT = "telnet"
"""The component under which failures are counted."""
PORTS = 32
"""Ports that are tried, one after the other: as many processes of a program can each have one."""
OF_AIOMONITOR = range(20101, 20104)
"""aiomonitor's own ports: telnet, web, REPL. If the program uses aiomonitor, they are left to it."""
JOIN_TIMEOUT = 1.5
"""Seconds for the thread to end: longer than its sessions get."""
TALKATIVE = "prompt_toolkit.contrib.telnet", "aiomonitor.monitor"
"""Loggers that record what each client sends, and claim that a web interface was started."""


class TelnetConsole:
    """Answers people by telnet, on loopback.

    ``now`` returns the loop that aiomonitor's own commands look at; while ``unwatched`` is entered in a
    thread, what is created there does not count as the program's.
    """

    def __init__(
        self,
        settings: Settings,
        commands: Callable[[], Answering],
        now: Now,
        unwatched: Callable[[], AbstractContextManager[object]],
        imports: Imports,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._commands = commands
        self._now = now
        self._unwatched = unwatched
        self._journal = journal
        self._clock = clock
        self._imports = imports
        self._opened: _Opened | None = None
        self._take_back: Callable[[], None] | None = None
        self.thread = OwnThread("loopwatch-telnet", self._run, self._wake)
        self._stopping = False
        self.cpu_time = 0.0
        """CPU seconds of the thread so far."""
        self._earlier_cpu = 0.0
        """CPU seconds of our earlier threads, which have ended."""

    @property
    def url(self) -> str | None:
        """Where this process answers; None while it does not, as before a loop runs."""
        opened = self._opened
        return opened.url if opened is not None else None

    @property
    def wanted(self) -> bool:
        """Whether the settings ask for a telnet console."""
        return self._settings.console is not False

    def prepare(self) -> None:
        """Import the dependencies, unless a loop runs in this thread: it would be blocked for half a second.

        Not in a program under ``loopwatch run``, most of whose processes may never run a loop. They import
        the dependencies when the first loop is about to run.
        """
        if _settings.RUN not in os.environ and running_loop() is None:
            self._import()

    def _import(self) -> None:
        with self._imports, self._unwatched():
            if self.wanted and self._take_back is None:
                self._take_back = bring_in()
                from . import session, telnet_server  # noqa: F401

    def start(self) -> None:
        """Start the thread, if wanted and not yet started. Raises RuntimeError if none can be started."""
        if self.wanted and not self.thread.started:
            self._stopping = False
            if running_loop() is None:  # else the thread imports, without blocking the loop
                self._import()
            self.thread.start()

    def stop(self) -> None:
        """End all sessions and the thread, and free the port. Waits for no client and no loop."""
        self._stopping = True
        self.thread.end(JOIN_TIMEOUT)
        self._give_back()

    def forget(self) -> None:
        """Return to the state before the start, in a forked child: the sessions are the parent's."""
        opened, self._opened = self._opened, None
        self.thread.forget()
        self._stopping = False
        self.cpu_time = self._earlier_cpu = 0.0
        if opened is not None:
            opened.abandon()

    def _give_back(self) -> None:
        take_back, self._take_back = self._take_back, None
        if take_back is not None:
            take_back()

    def _wake(self) -> None:
        opened = self._opened
        if opened is not None:
            opened.wake()

    def _run(self, is_to_end: IsToEnd) -> None:
        self._earlier_cpu = self.cpu_time
        try:
            self._import()
            if self._opened is None and not self._stopping:
                self._opened = self._open()
        except Exception as error:  # noqa: BLE001 - counted; everything but this console works
            self._journal.failure(COMPONENT, error)
        opened = self._opened
        if opened is None:
            if self._stopping:  # stopped during the import, which outlasted the wait for this thread
                self._give_back()
            return
        with opened.runs():
            while not is_to_end():
                opened.loop.run_forever()
            self._count_cost()
            if self._stopping:  # else we end for a fork: afterwards the sessions go on in another thread
                self._opened = None
                opened.close()

    def _open(self) -> _Opened | None:
        from .telnet_server import HOST, listen

        ports = self._ports()
        try:
            listener = listen(ports)
        except OSError as error:
            self._journal.say(
                logging.WARNING,
                "loopwatch: no telnet console in process %d, since no port from %d to %d can be had: %s",
                os.getpid(),
                ports[0],
                ports[-1],
                error,
            )
            return None
        port = listener.getsockname()[1]
        opened = _Opened(f"telnet://{HOST}:{port}", self._journal)
        with opened.runs():
            opened.serve(partial(self._server, listener))
        self._journal.say(
            logging.INFO, "loopwatch: the telnet console of process %d is at %s:%d", os.getpid(), HOST, port
        )
        return opened

    def _ports(self) -> list[int]:
        asked = self._settings.console
        if asked == 0 and asked is not False:
            return [0]
        if isinstance(asked, int) and asked is not True:
            return list(range(asked, min(asked + PORTS, 65536)))
        taken = OF_AIOMONITOR if used_by_program() else OF_AIOMONITOR[1:]
        return [port for port in range(CONSOLE_PORT, CONSOLE_PORT + PORTS) if port not in taken]

    def _server(self, listener: socket.socket) -> TelnetServer:
        """Build the server and its sessions. In the server's loop."""
        from .session import Sessions
        from .telnet_server import TelnetServer

        host, port = listener.getsockname()
        greeting = (
            f"loopwatch {__version__} in {clean(self._settings.service_name)}, process {os.getpid()}.\n"
            "`lw` asks loopwatch, as in `lw stalls`; `help` lists all there is.\n"
        )
        monitor = unstarted_monitor(self._now, host, port)
        sessions = Sessions(monitor, self._commands(), self._now, greeting, self._settings.console == REPL)
        return TelnetServer(listener, sessions.interact, self._clock, self._journal, self._count_cost)

    def _count_cost(self) -> None:
        self.cpu_time = self._earlier_cpu + self._clock.thread_cpu()


class _Opened:
    """An open console: a loop, and a server in it. For a fork, it outlives the thread that runs it.

    The selector keeps its registrations in this process. A kernel object such as epoll would be shared with
    forked children, which would remove our files from it.
    """

    def __init__(self, url: str, journal: Journal) -> None:
        self.url = url
        self._journal = journal
        self._muted = _Muted()
        self._server: TelnetServer | None = None
        self._over = False
        selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
        self.loop = asyncio.SelectorEventLoop(selector())
        self.loop._loopwatch_own = True  # type: ignore[attr-defined]  # marks the loop as not to be watched
        self.loop.set_debug(False)
        self.loop.set_exception_handler(self._failed)

    @contextmanager
    def runs(self) -> Iterator[None]:
        """Mark the calling thread as the one that runs the loop."""
        with self._muted.in_this_thread():
            yield

    def serve(self, make: Callable[[], TelnetServer]) -> None:
        """Begin to serve: clients are answered whenever the loop runs."""

        async def begin() -> None:
            self._server = make()

        self.loop.run_until_complete(begin())

    def wake(self) -> None:
        """Make the loop return from ``run_forever``. Any thread."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(self.loop.stop)

    def close(self) -> None:
        """End the sessions and free the port, in bounded time."""
        try:
            if self._server is not None:
                self.loop.run_until_complete(self._server.close())
        except Exception as error:  # noqa: BLE001 - counted; the rest goes with the loop
            self._journal.failure(COMPONENT, error)
        self._let_go()

    def abandon(self) -> None:
        """Drop everything in a forked child, without telling the clients or the log."""
        if self._server is not None:
            self._server.abandon()
        self._let_go()

    def _let_go(self) -> None:
        """Make sure that nothing goes on once this object is dropped."""
        self._over = True
        self.loop.set_exception_handler(self._failed)  # the line editor has set its own
        with contextlib.suppress(RuntimeError):  # forked while its thread ran: here the loop "runs" for ever
            self.loop.close()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._over:
            self._journal.failure(COMPONENT, context.get("exception") or RuntimeError(context["message"]))


class _Muted(logging.Filter):
    """Suppresses what noisy libraries log from one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = 0

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Suppress it for the calling thread."""
        self._thread = threading.get_ident()
        loggers = [logging.getLogger(name) for name in TALKATIVE]
        for each in loggers:
            each.addFilter(self)
        try:
            yield
        finally:
            for each in loggers:
                each.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record: only if it comes from another thread."""
        return threading.get_ident() != self._thread
