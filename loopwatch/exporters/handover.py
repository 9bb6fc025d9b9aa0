"""The socket that listens at the address. All siblings hold it, though only one of them answers there.

So it keeps listening when that one dies: clients that connect by then wait in the kernel for the next one.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from .answer import Answer
from .endpoint import Endpoint
from .meeting import Entry, Meeting
from .passing import receive

LISTENER = "/listener"
"""What a sibling requests. It is served only at the meeting, which only this user can reach."""


class Handover:
    """Gets the socket from siblings, and passes it on. Used on the endpoint's thread, like ``Port``.

    ``on_listener`` is called when the socket has come.
    """

    def __init__(self, endpoint: Endpoint, on_listener: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._on_listener = on_listener
        self._asked: dict[Entry, socket.socket] = {}
        self.listener: socket.socket | None = None
        """The socket, once we have it."""

    def answer(self) -> Answer:
        """Answer a sibling: with the socket, if we have it."""
        file = self.listener.fileno() if self.listener is not None else None
        return Answer(HTTPStatus.OK if file is not None else HTTPStatus.NOT_FOUND, b"", file=file)

    def ask(self, meeting: Meeting, pid: int | None = None) -> None:
        """Ask the sibling ``pid``, or all, if we have none; one yet to answer is not asked again."""
        if self.listener is not None:
            return
        for entry in meeting.others():
            if pid in (None, entry.pid) and entry not in self._asked:
                with contextlib.suppress(OSError):  # it is gone or has many to answer: we try again soon
                    asked = self._asked[entry] = meeting.connect(entry)
                    self._endpoint.when(asked, partial(self._hear, entry))
                    asked.send(f"GET {LISTENER} HTTP/1.1\r\n\r\n".encode())

    def close(self) -> None:
        """Close everything. The address is free once the last sibling has done so."""
        for asked in self._asked.values():
            asked.close()
        self._asked.clear()
        if self.listener is not None:
            self.listener.close()

    def _hear(self, entry: Entry) -> None:
        asked = self._asked.pop(entry)
        self._endpoint.no_more(asked)
        with asked:
            listener = _received(asked)
        if listener is not None and self.listener is None:
            self.listener = listener
            self._on_listener()
        elif listener is not None:
            listener.close()


def _received(connection: socket.socket) -> socket.socket | None:
    """Return the socket that was received; None if there was none."""
    with contextlib.suppress(OSError):  # the sibling is gone
        return receive(connection, 1024)[1]
    return None
