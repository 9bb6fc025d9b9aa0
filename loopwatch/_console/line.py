"""The line console: commands over a UNIX socket, for ``nc -U`` and ``loopwatch console``.

It has a thread of its own rather than the endpoint's: a command on 10,000 tasks, or a client that does not
read, must not delay a scrape, and there may be no endpoint. Nothing runs while nobody is connected.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from loopwatch._allowance import Allowance
from loopwatch._clock import Clock
from loopwatch._consoles import PROMPT, Listener, NoConsoleError
from loopwatch._journal import Journal
from loopwatch._server import NONE, Conversation, Server, Wait
from loopwatch._settings import Settings
from loopwatch._threads import OwnThread
from loopwatch._version import __version__
from loopwatch._words import clean

COMPONENT = "console"
MOST_CLIENTS = 16
"""Beyond these, the client that has been silent for longest is disconnected."""
SHARE = 0.1
"""Share of a core that all clients together may cost in the long run."""
NOT_YET = 0.01
"""Seconds until a client checks again whether it is its turn, while another is about to take its own."""
UNHEARD = 60.0
"""Seconds added to the silence of a client that has not sent a command yet: clients that only connect,
however many, never take the place of a person at work."""
LONGEST_LINE = 4096
AT_ONCE = 64 * 1024
"""Bytes read at a time."""
PATIENCE = 30.0
"""Seconds a client has to take an answer, and to end a line that is too long."""
WRONG_IN_A_ROW = 50
"""Empty lines or non-commands in a row after which a client is disconnected: it is not a person."""
TOO_LONG = f"A line of more than {LONGEST_LINE} bytes is no command: it is left out.\n{PROMPT}"
FAREWELL = b"\nclosed: too many are connected\n"


class Commands(Protocol):
    """Answers command lines."""

    def run(self, line: str, width: int) -> str:
        """Return the answer to a line."""

    def knows(self, line: str) -> bool:
        """Whether a line begins with the name of a command."""

    def complete(self, text: str) -> list[str]:
        """Return completions of the last word."""

    def look(self) -> None:
        """Note the current counts, to tell later what has changed."""


class LineConsole:
    """Serves the commands of this process on its socket. ``telnet`` returns the URL of the telnet console.

    ``commands`` is called for each client, once it is greeted.
    """

    def __init__(
        self,
        settings: Settings,
        commands: Callable[[], Commands],
        journal: Journal,
        clock: Clock,
        telnet: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._telnet = telnet
        self._enabled = settings.console_socket
        self._service_name = settings.service_name
        self._commands = commands
        self._journal = journal
        self._clock = clock
        self._allowance = Allowance(SHARE, clock)
        self._turns: deque[object] = deque()
        """Clients that wait until more may be answered, in order of arrival."""
        self._server: Server | None = None
        self._listener: Listener | None = None
        self.cpu_time = 0.0
        """CPU seconds of the thread so far."""

    @property
    def path(self) -> str | None:
        """Path of the socket; None while there is none."""
        return None if self._listener is None else self._listener.path

    @property
    def thread(self) -> OwnThread | None:
        """The thread, while there is one."""
        return None if self._server is None else self._server.thread

    def start(self) -> None:
        """Start serving, if wanted. If no socket can be had, that is only logged."""
        if not self._enabled:
            return
        try:
            listener = self._listener = Listener()
        except NoConsoleError as error:
            self._journal.say(logging.DEBUG, "loopwatch: no console socket: %s", error)
            return
        try:
            server = self._server = Server(
                COMPONENT,
                self._journal,
                most_clients=MOST_CLIENTS,
                farewell=FAREWELL,
                clock=self._clock,
                on_cost=self._add_cost,
            )
            server.talk(listener.socket, self._talk)
            server.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove the socket, and disconnect all clients."""
        server, listener = self._server, self._listener
        self._server = self._listener = None
        if listener is not None:
            listener.leave()
        if server is not None:
            server.stop()

    def forget(self) -> None:
        """Close what was inherited, in a forked child, where the thread does not run."""
        self.cpu_time = 0.0
        for part in (self._server, self._listener):
            if part is not None:
                part.close()
        self._server = self._listener = None
        self._allowance, self._turns = Allowance(SHARE, self._clock), deque()

    def _add_cost(self, seconds: float) -> None:
        self.cpu_time += seconds

    def _talk(self, connection: socket.socket) -> Conversation:
        claim = self._clock.monotonic() - UNHEARD
        yield from self._send(connection, self._greeting(), claim)
        commands = self._commands()
        commands.look()
        session = Session(commands)
        while not session.over:
            late = self._clock.monotonic() + PATIENCE
            yield Wait(connection, selectors.EVENT_READ, late if session.skips else math.inf, claim)
            try:
                received = connection.recv(AT_ONCE)
            except BlockingIOError:
                if self._clock.monotonic() < late:
                    continue
                return
            yield from self._rest(connection, claim)
            for answer in session.hear(received):
                if session.understood:
                    claim = self._clock.monotonic()
                yield from self._send(connection, answer, claim)
                yield from self._rest(connection, claim)

    def _rest(self, connection: socket.socket, claim: float) -> Conversation:
        """Wait until more may be answered: clients take turns, since each answer may be expensive."""
        turn, turns = object(), self._turns
        turns.append(turn)
        try:
            while (rest := self._allowance.rest(self._clock.thread_cpu())) or turns[0] is not turn:
                yield Wait(connection, NONE, self._clock.monotonic() + max(rest, NOT_YET), claim)
        finally:
            turns.remove(turn)

    def _send(self, connection: socket.socket, text: str, claim: float) -> Conversation:
        unsent = memoryview(text.encode("utf-8", "backslashreplace"))
        late = self._clock.monotonic() + PATIENCE
        while unsent:
            yield Wait(connection, selectors.EVENT_WRITE, late, claim)
            if self._clock.monotonic() >= late:
                raise TimeoutError
            unsent = unsent[connection.send(unsent) :]

    def _greeting(self) -> str:
        service = clean(self._service_name)
        url = self._telnet()
        telnet = f", {url}" if url is not None else ""
        told = f"loopwatch {__version__}: {service}{telnet}, pid {os.getpid()}"
        return f"{told}. `help` lists the commands.\n{PROMPT}"


class Session:
    """What one client has sent so far, line by line, and the answers."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._begun = b""
        self._width = 100
        self._wrong = 0
        self.skips = False
        """Whether the rest of an overlong line is still to come."""
        self.understood = False
        """Whether the last line was a command."""
        self.over = False
        self._own: dict[str, Callable[[str], str]] = {
            "width": self._set_width,
            "complete": lambda text: "\n".join(self._commands.complete(text)),
            "quit": self._end,
            "exit": self._end,
        }

    def hear(self, received: bytes) -> Iterator[str]:
        """Take received bytes, empty at the end; yield the answers to the complete lines."""
        *lines, begun = (self._begun + received).split(b"\n")
        self._begun = b""
        if not received:
            lines, begun = [begun] if begun else [], b""
            self.over = True
        for line in lines:
            if self.skips:
                self.skips = False
                continue
            yield self._answer(line) if len(line) <= LONGEST_LINE else TOO_LONG
            if self._wrong >= WRONG_IN_A_ROW:
                self.over = True
                yield "closed: that is not for me\n"
            if self.over and received:
                return
        if len(begun) > LONGEST_LINE and not self.skips:
            self.skips = True
            yield TOO_LONG
        self._begun = b"" if self.skips else begun

    def _answer(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace").strip()
        name, _, rest = text.partition(" ")
        own = self._own.get(name)
        self.understood = own is not None or self._commands.knows(text)
        self._wrong = 0 if self.understood else self._wrong + 1
        answer = own(rest) if own is not None else self._commands.run(text, self._width)
        prompt = "" if self.over else PROMPT
        return f"{answer}\n{prompt}" if answer else prompt

    def _set_width(self, text: str) -> str:
        if not (text.isascii() and text.isdigit() and len(text) <= 4):
            return "width N: how many columns your terminal has."
        self._width = int(text)
        return ""

    def _end(self, text: str) -> str:
        self.over = True
        return ""
