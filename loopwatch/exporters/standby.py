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
from .meeting import Entry, Meeting
from .passing import receive

ATTENDS = b"\0"
"""Says, to who asked for it, that this process stands by."""
RELEASED = b"\0"
"""Says that the client is answered. A connection that ends without a word is that of a process that died."""


class Standby:
    """Finds a sibling for each client. The endpoint's thread."""

    def __init__(self) -> None:
        self.meeting: Meeting | None = None
        """Where the siblings are; without it nobody stands by."""
        self._turns = 0
        self._silent: dict[Entry, socket.socket] = {}
        """Of those that had not said that they attend when the client was answered: where they may yet."""

    @contextlib.contextmanager
    def beside(self, client: socket.socket) -> Iterator[Callable[[], None]]:
        """Have one stand by until what this gives is called, or the client was talked to.

        Where the conversation is closed in the middle it is not released: it may go on in the process that
        this is a fork of, and if not, the sibling is to take over.
        """
        found = self._asked(client)
        if found is None:
            yield lambda: None
            return
        entry, asked = found
        with asked:
            try:
                yield partial(_say, asked, RELEASED)
            except Exception:
                self._end(client, entry, asked)
                raise
            self._end(client, entry, asked)

    def close(self) -> None:
        """Wait for no word any more."""
        while self._silent:
            self._silent.popitem()[1].close()

    def _asked(self, client: socket.socket) -> tuple[Entry, socket.socket] | None:
        """Send the client's connection to one sibling, each in turn, those that seem to hang last."""
        meeting = self.meeting
        if meeting is None or not meeting.shared:
            return None
        self._turns += 1
        with contextlib.suppress(OSError):  # no files are left, or the directory is gone
            others = meeting.others()
            first = self._turns % len(others) if others else 0
            for entry in sorted(others[first:] + others[:first], key=self._hanging().__contains__):
                with contextlib.suppress(OSError):  # it is gone, or has many to answer
                    return entry, _sent(client, meeting.connect(entry))
        return None

    def _hanging(self) -> set[Entry]:
        """Return those that have still not said that they attend, though their client is answered.

        With one of them a client would wait, until it is tired of it, for an answer that nobody gives.
        """
        for entry, asked in list(self._silent.items()):
            if _word(asked) is not None:
                del self._silent[entry]
                asked.close()
        return set(self._silent)

    def _end(self, client: socket.socket, entry: Entry, asked: socket.socket) -> None:
        _say(asked, RELEASED)
        with contextlib.suppress(OSError):  # it has gone away
            client.shutdown(socket.SHUT_WR)  # to close it is not enough: a sibling that hangs has it open
        if entry not in self._silent and _word(asked) is None:
            with contextlib.suppress(OSError):  # no files are left
                self._silent[entry] = asked.dup()


def _sent(client: socket.socket, asked: socket.socket) -> socket.socket:
    try:
        socket.send_fds(asked, [b"\0"], [client.fileno()])  # a file cannot go alone
    except OSError:
        asked.close()
        raise
    return asked


def _say(connection: socket.socket, what: bytes) -> None:
    with contextlib.suppress(OSError):  # it is gone itself, or was released before
        connection.send(what)


def _word(connection: socket.socket) -> bytes | None:
    """Return what the other one says; nothing, b"", if it is gone, None if it has not said anything yet."""
    try:
        return connection.recv(1)
    except BlockingIOError:
        return None
    except OSError:  # so it is told that a word of its own was not heard
        return b""


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
        _say(connection, ATTENDS)
        yield Wait(connection, selectors.EVENT_READ, claim=-1.0)
        if _word(connection) == b"":
            yield from take_over(client)
