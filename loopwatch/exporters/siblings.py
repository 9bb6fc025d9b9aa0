"""Asks the other workers for their pages, all at once, and waits for none longer than for the others.

A worker answers on its own endpoint's thread. One that cannot, because it is stopped or its GIL is held, is
left out.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from loopwatch._clock import Clock
from loopwatch._server import Wait

from .meeting import Entry, Meeting

WITHIN = 0.5
"""Seconds for all together, of a scrape: it is to be answered within 1 s, and merging takes some."""
AGAIN = 0.05
"""Seconds until a worker whose backlog is full is asked again: a dozen scrapes at the same time suffice to
fill it."""
LONGEST = 16 * 1024 * 1024
"""Bytes of one answer; a longer one is not an answer of ours."""
CHUNK = 256 * 1024


@dataclass(slots=True, eq=False)
class _Asked:
    pid: int
    socket: socket.socket
    said: bytearray


class Siblings:
    """One round of questions: each worker's answer, by pid; None for one that did not answer."""

    def __init__(self, meeting: Meeting, clock: Clock) -> None:
        self._meeting = meeting
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._waiting: list[_Asked] = []
        self._busy: list[Entry] = []
        self.texts: dict[int, bytes | None] = {}

    def ask(
        self, entries: Sequence[Entry], path: str, content_type: str, within: float
    ) -> Generator[Wait, None, None]:
        """Ask all for a page, and go on until all have answered or ``within`` seconds are over."""
        until = self._clock.monotonic() + within
        try:
            self._ask_all(entries, path, content_type)
            while (self._waiting or self._busy) and (now := self._clock.monotonic()) < until:
                next_look = min(until, now + AGAIN) if self._busy else until
                yield Wait(self._selector, selectors.EVENT_READ, next_look)  # waited on like a file
                self._ask_all(self._busy, path, content_type)
                for key, _ in self._selector.select(0):
                    self._hear(key.data, content_type)
        finally:
            self._selector.close()
            for asked in self._waiting:
                asked.socket.close()

    def _ask_all(self, entries: Sequence[Entry], path: str, content_type: str) -> None:
        self._busy = []
        for entry in entries:
            self._ask(entry, path, content_type)

    def _ask(self, entry: Entry, path: str, content_type: str) -> None:
        self.texts[entry.pid] = None
        try:
            connection = self._meeting.connect(entry)
        except (ConnectionRefusedError, FileNotFoundError):
            self._meeting.remove(entry)  # it has uninstalled, or become another program
            del self.texts[entry.pid]
            return
        except BlockingIOError:
            self._busy.append(entry)
            return
        except OSError:  # we have no files left
            return
        asked = _Asked(entry.pid, connection, bytearray())
        self._waiting.append(asked)
        try:
            connection.send(f"GET {path} HTTP/1.1\r\nAccept: {content_type}\r\n\r\n".encode())
            self._selector.register(connection, selectors.EVENT_READ, asked)
        except OSError:
            self._finish(asked)

    def _hear(self, asked: _Asked, content_type: str) -> None:
        """Read all that is there: if other requests kept us from looking earlier, we look only once."""
        while len(asked.said) <= LONGEST:
            try:
                said = asked.socket.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                self.texts[asked.pid] = _text(bytes(asked.said), content_type)
                break
            asked.said += said
        self._selector.unregister(asked.socket)
        self._finish(asked)

    def _finish(self, asked: _Asked) -> None:
        self._waiting.remove(asked)
        asked.socket.close()


def _text(response: bytes, content_type: str) -> bytes | None:
    """Return the body of a response; None if it is incomplete or not what was asked for."""
    head, end, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    whole = end and headers.get("Content-Length") == str(len(body))
    fitting = status.startswith("HTTP/1.1 200 ") and headers.get("Content-Type") == content_type
    return body if whole and fitting else None
