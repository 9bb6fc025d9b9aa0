"""Output to a telnet client: sent as fast as the client takes it, without making anybody else wait."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

LIMIT = 32 * 2**20
"""Bytes queued for a client. A client that falls further behind, within one answer, is disconnected."""
PATIENCE = 30.0
"""Seconds a client has to take an answer before it may ask again."""
CHUNK = 2**16
"""Bytes offered to the socket at a time."""


class Output:
    """The terminal of one client, for ``prompt_toolkit`` and ``click``. Everything in the loop's thread.

    ``lost`` is called once, with the reason, when nothing more can be sent.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, conn: socket.socket, lost: Callable[[str], None]) -> None:
        self._conn = conn
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._sent = asyncio.Event()
        self._sent.set()
        self._closed = False

    def write(self, text: str) -> None:
        """Send as much as possible now, and the rest as the client takes it."""
        if self._closed:
            return
        lines = text.replace("\r\n", "\n").replace("\n", "\r\n")
        self._unsent += lines.encode(self.encoding, self.errors)
        if self._sent.is_set():
            self._send()
        if len(self._unsent) > LIMIT:
            self._give_up("it takes too little of what it is sent")

    def flush(self) -> None:
        """Do nothing: it is sent already."""

    def isatty(self) -> bool:
        """Return True: it is a terminal."""
        return True

    async def drained(self) -> None:
        """Wait until the client has taken everything; disconnect it if that takes too long."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._sent.wait()
        except TimeoutError:
            self._give_up("it does not take what it is sent")

    def close(self) -> None:
        """Send nothing further."""
        if not self._closed:
            self._closed = True
            self._loop.remove_writer(self._conn)
        self._unsent.clear()
        self._sent.set()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._conn.send(self._unsent[:CHUNK])]
        except BlockingIOError:
            if self._sent.is_set():
                self._sent.clear()
                self._loop.add_writer(self._conn, self._send)
        except OSError as error:
            self._give_up(str(error))
        else:
            if not self._sent.is_set():
                self._sent.set()
                self._loop.remove_writer(self._conn)

    def _give_up(self, why: str) -> None:
        if not self._closed:
            self.close()
            self._lost(why)
