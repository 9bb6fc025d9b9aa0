"""A sibling stands by for each client: should this process die before it answers, that one does it.

It is sent the client's connection as soon as that has come, so it stays open. What the client asks for is
left unread in it until the answer is there: whoever takes over finds it as if it had just come.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable, Iterator
from functools import partial

from loopwatch._server import Conversation, Converse, Wait

from .answer import Respond
from .endpoint import MAX_REQUEST, converse
from .meeting import Meeting
from .passing import receive

RELEASED = b"\0"
"""Says that the client is answered. A connection that ends without it is that of a process that died."""


class Standby:
    """Finds a sibling for each client. The endpoint's thread."""

    def __init__(self) -> None:
        self.meeting: Meeting | None = None
        """Where the siblings are; without it nobody stands by."""
        self._turns = 0

    @contextlib.contextmanager
    def beside(self, client: socket.socket) -> Iterator[Callable[[], None]]:
        """Have one stand by until what this gives is called, or the client was talked to.

        Where the conversation is closed in the middle it is not released: it may go on in the process that
        this is a fork of, and if not, the sibling is to take over.
        """
        asked = self._asked(client)
        if asked is None:
            yield lambda: None
            return
        with asked:
            try:
                yield partial(_release, asked)
            except Exception:
                _end(client, asked)
                raise
            _end(client, asked)

    def _asked(self, client: socket.socket) -> socket.socket | None:
        """Send the client's connection to one sibling, each in turn: one of them may hang."""
        meeting = self.meeting
        if meeting is None or not meeting.shared:
            return None
        self._turns += 1
        with contextlib.suppress(OSError):  # no files are left, or the directory is gone
            others = meeting.others()
            first = self._turns % len(others) if others else 0
            for entry in others[first:] + others[:first]:
                with contextlib.suppress(OSError):  # it is gone, or has many to answer
                    return _sent(client, meeting.connect(entry))
        return None


def _sent(client: socket.socket, asked: socket.socket) -> socket.socket:
    try:
        socket.send_fds(asked, [b"\0"], [client.fileno()])  # a file cannot go alone
    except OSError:
        asked.close()
        raise
    return asked


def _end(client: socket.socket, asked: socket.socket) -> None:
    _release(asked)
    with contextlib.suppress(OSError):  # it has gone away
        client.shutdown(socket.SHUT_WR)  # to close it is not enough: a sibling that hangs has it open


def _release(asked: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is gone itself, or was released before
        asked.send(RELEASED)


def attend(connection: socket.socket, respond: Respond, take_over: Converse) -> Conversation:
    """Talk to a sibling: answer what it asks; or, if it sends a client's connection, stand by for it.

    Who stands by is the first to go when there are too many to talk to.
    """
    yield Wait(connection, selectors.EVENT_READ)
    said, client = receive(connection, MAX_REQUEST)
    if client is None:
        yield from converse(connection, respond, received=said)
        return
    with client:
        yield Wait(connection, selectors.EVENT_READ, claim=-1.0)
        if connection.recv(1) != RELEASED:
            yield from take_over(client)
