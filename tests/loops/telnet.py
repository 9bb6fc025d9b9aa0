"""A telnet client that a test scripts, and programs for it to talk to.

It sends what a client sends, and reads until the prompt is back.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from .child import Child
from .provoked import but_stalls

HEAD = """
import threading, time

async def up():
    while agent.console_url is None:
        await asyncio.sleep(0.01)
    say("console", agent.console_url)

def on_signal(call):
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, call)

def install(console=0, **settings):
    global agent
    agent = loopwatch.install(console=console, prometheus_port=None, **settings)
"""

IDLE = """
install()

async def main():
    await up()
    await forever()

run(main())
"""

NEGOTIATION = b"\xff\xfb\x1f\xff\xfa\x1f\x00\x78\x00\x28\xff\xf0\xff\xfa\x18\x00xterm\xff\xf0"
"""A window of 120 columns, and a terminal. Without the latter there is no prompt."""
PATIENCE = 120.0
"""Seconds after which a test gives up."""
READY, ACCEPTED = b"\x1b[?2004h", b"\x1b[?2004l"
"""What the line editor sends when it takes a line, and when it has taken one."""


def plain(received: bytes) -> str:
    """Return roughly what a person sees of it."""
    text = received.decode("utf-8", "replace")
    return re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", text).replace("\r", "")


class ClosedError(AssertionError):
    """The other side has closed the connection."""


class Telnet:
    """A session."""

    def __init__(self, url: str, negotiation: bytes = NEGOTIATION) -> None:
        host, _, port = url.removeprefix("telnet://").partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket.sendall(negotiation)
        self._received = b""
        self.took = 0.0
        """Seconds of the last question."""
        try:
            self.greeting = plain(self._until(READY)) if negotiation else ""
        except BaseException:
            self.close()
            raise

    @classmethod
    def as_soon_as_possible(cls, url: str) -> Telnet:
        """Connect, though sessions that have just gone may still count."""
        while True:
            try:
                return cls(url)
            except ClosedError as error:
                if "sessions are open already" not in str(error):
                    raise

    def ask(self, line: str) -> str:
        """Send a line, and return the answer without the line itself and the next prompt."""
        began = time.monotonic()
        self.socket.sendall(line.encode() + b"\r\n")
        self._until(ACCEPTED)
        answer = plain(self._until(READY))
        self.took = time.monotonic() - began
        return answer.rstrip("\n")

    def rest(self) -> str:
        """Return what comes until the other side closes."""
        received = self._received
        while True:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                return plain(received)
            if not more:
                return plain(received)
            received += more

    def until(self, word: str) -> str:
        """Return what comes up to ``word``."""
        return plain(self._until(word.encode()))

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                raise ClosedError(f"closed after {self._received!r}")
            self._received += more
        before, _, self._received = self._received.partition(mark)
        return before


Connect = Callable[..., Telnet]


def listening(pid: int) -> list[int]:
    """Return the ports that a process listens on."""
    files = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    ports = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = row.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in files:
                ports.append(int(local.rpartition(":")[2], 16))
    return ports


def url_of(child: Child) -> str:
    child.until("console telnet://")
    return child.said[-1].split()[-1]


def told(child: Child) -> list[str]:
    """Return what the child has said, except about stalls of a busy machine."""
    return but_stalls("\n".join(child.said))


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
