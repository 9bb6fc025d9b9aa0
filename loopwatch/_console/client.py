"""One telnet client: the telnet of ``prompt_toolkit``, with bounds on what a client can cost."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TextIO, cast

from prompt_toolkit.application.current import create_app_session
from prompt_toolkit.contrib.telnet.server import TelnetConnection
from prompt_toolkit.input import PipeInput

from loopwatch._clock import Clock

from .output import Output

READ = 64
"""Bytes read at a time: a word or two, so that their cost is known before more are read."""
REST = 9.0
"""After each read, reading pauses for this multiple of the CPU time this thread spent on it: cheap input,
such as typing, never takes more than a tenth of a core; expensive input is also limited by an allowance..."""
SHORTEST_REST, LONGEST_REST = 0.003, 0.5
"""...and these are the bounds of such a pause, in seconds. A person waits that long after a long answer."""
LONGEST_LINE = 4096
"""Bytes of a line. The line editor lays out the whole line again for each of them."""
LONGEST_SILENCE = 65536
"""The same including bytes of the telnet protocol, which are kept until they make sense."""
NEGOTIATION = 5.0
"""Seconds within which a client must name its terminal type. Telnet clients do so at once."""

NOT_TELNET = (
    "loopwatch: this port speaks telnet, and no telnet client has answered. Use `telnet`; "
    "from nc and scripts `loopwatch console` and its socket take plain lines.\n"
)
TOO_LONG = f"\nloopwatch: more than {LONGEST_LINE} bytes without a line's end. Good-bye.\n"
TOO_MUCH = "\nloopwatch: too much was typed ahead. Good-bye.\n"

Interact = Callable[["Client"], Awaitable[None]]


class Client(TelnetConnection):
    """A connection, from its negotiation to its end. In the loop's thread.

    Unlike the original, it never makes other clients wait for one, reads without a bound, or keeps input that
    is never completed. ``costs`` is called whenever this thread may have computed something, and returns for
    how many seconds nothing may be read. ``turn`` is held by the client that is answered next.
    """

    def __init__(
        self,
        conn: socket.socket,
        keys: PipeInput,
        interact: Interact,
        clock: Clock,
        costs: Callable[[], float],
        turn: asyncio.Lock,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._clock = clock
        self._costs = costs
        self._turn = turn
        self._negotiated = asyncio.Event()
        self._open = True
        self._typed = bytearray()
        self._line_length = self._unended = 0
        self._after_return = False
        super().__init__(
            conn,
            conn.getpeername(),
            cast("Any", interact),
            cast("Any", None),  # the server, used only to notify other clients
            encoding=Output.encoding,
            style=None,
            vt100_input=keys,
            enable_cpr=False,  # a script does not answer a cursor position request
        )
        self.stdout = cast("TextIO", Output(conn, self._lose))
        self.parser.data_received_callback = self._typed.extend
        self.parser.ttype_received_callback = self._named(self.parser.ttype_received_callback)
        if (pipe := getattr(keys, "pipe", None)) is not None:  # none on Windows
            os.set_blocking(pipe.write_fd, False)  # a full pipe would block this thread for ever

    @property
    def negotiated(self) -> bool:
        """Whether the client has named its terminal type."""
        return self._negotiated.is_set()

    @property
    def output(self) -> Output:
        """Where to write to the client."""
        return cast("Output", self.stdout)

    async def run_application(self) -> None:
        """Serve the client until it disconnects, is cancelled or exceeds its bounds."""
        self._loop.add_reader(self.conn, self._readable)
        try:
            if not await self._speaks_telnet():
                self.output.write(NOT_TELNET)
                return
            with create_app_session(input=self.vt100_input, output=self.vt100_output):
                self.context = contextvars.copy_context()
                await self.interact(self)
        finally:
            self.close()

    async def _speaks_telnet(self) -> bool:
        try:
            async with asyncio.timeout(NEGOTIATION):
                return await self._negotiated.wait()
        except TimeoutError:
            return False

    async def rest(self) -> None:
        """Wait until more may be answered: one read may contain many commands, each of them expensive.

        Waiting clients are answered one after the other: otherwise all would begin as soon as one may.
        """
        async with self._turn:
            while seconds := self._costs():
                await asyncio.sleep(seconds)

    def close(self) -> None:
        """Close the connection."""
        if self._open:
            self._open = False
            self.vt100_input.close()
            self._loop.remove_reader(self.conn)
            self.output.close()
            self.conn.close()

    def abandon(self) -> None:
        """Close only the socket: in a forked child, where the connection is not ours."""
        self._open = False
        self.output.close()
        self.conn.close()

    def dismiss(self, word: str) -> None:
        """End the session from outside, with a last word."""
        if self._open:
            self.output.write(word)
        self._lose(word)

    def _lose(self, why: str) -> None:
        if self._task is not None:
            self._task.cancel(why)

    def _named(self, original: Callable[[str], None]) -> Callable[[str], None]:
        def named(terminal: str) -> None:
            if not self.negotiated:  # the line editor keeps the first terminal
                original(terminal)
                self._negotiated.set()

        return named

    def _readable(self) -> None:
        began = self._clock.thread_cpu()
        try:
            received = self.conn.recv(READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(str(error))
            return
        self._loop.remove_reader(self.conn)
        if len(received) == READ and self._is_long_line():
            self.dismiss(TOO_LONG)
            return
        if not received:
            self.vt100_input.close()  # the session answers the lines it has, and then ends
            return
        if self._take(received):
            self._loop.call_later(SHORTEST_REST, self._rest, began)

    def _is_long_line(self) -> bool:
        """Whether the unread input is already too long: then none of it is laid out."""
        with contextlib.suppress(OSError):
            ahead = self.conn.recv(LONGEST_LINE, socket.MSG_PEEK)
            return len(ahead) == LONGEST_LINE and not (b"\r" in ahead or b"\n" in ahead)
        return False

    def _take(self, received: bytes) -> bool:
        """Pass on what was received; False if it was too much."""
        self.feed(received)
        typed, self._typed[:] = bytes(self._typed), b""
        if self._after_return:
            typed = typed.removeprefix(b"\n")  # a line may end in CR LF, which is one end, not two
        self._after_return = typed.endswith(b"\r") or (self._after_return and not typed)
        typed = typed.replace(b"\r\n", b"\r")
        ends = max(typed.rfind(b"\r"), typed.rfind(b"\n"))
        if ends >= 0:
            self._line_length = self._unended = 0
        self._line_length += len(typed) - ends - 1
        self._unended += len(received)
        if self._line_length > LONGEST_LINE or self._unended > LONGEST_SILENCE:
            self.dismiss(TOO_LONG)
            return False
        try:
            if typed:
                self.vt100_input.send_bytes(typed)
        except BlockingIOError:
            self.dismiss(TOO_MUCH)
            return False
        return True

    def _rest(self, began: float, rested: float = SHORTEST_REST, owed: float | None = None) -> None:
        """Read on, or pause longer if what was read has cost too much.

        The debt to the allowance is determined once: for what other clients add later, they pause themselves.
        """
        cost = self._clock.thread_cpu() - began
        owed = self._costs() if owed is None else owed
        missing = max(min(REST * cost, LONGEST_REST), owed) - rested
        if not self._open:
            return
        if missing > SHORTEST_REST:
            self._loop.call_later(missing, self._rest, began, rested + missing, owed)
            return
        self._loop.add_reader(self.conn, self._readable)
