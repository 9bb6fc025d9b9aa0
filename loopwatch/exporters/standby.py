"""A sibling stands by for each client: should this process die before it answers, or hang, that one does it.

It is sent the client's connection as soon as that has come, so it stays open. What the client asks for is
left unread in it until the answer has begun: whoever takes over finds it as if it had just come. Of a process
that died before it could say that it has begun, the kernel knows. One that hung, and goes on, finds itself
told that its client was taken, and says nothing any more.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

from loopwatch._clock import SYSTEM, Clock
from loopwatch._server import Conversation, Converse, Listener, Wait
from loopwatch._threads import Imports

from .answer import Respond
from .endpoint import MAX_REQUEST, Attendant, Nobody, converse
from .meeting import Entry, Meeting
from .passing import receive, send

ATTENDS = b"\0"
"""Says, to who asked for it, that this process stands by."""
RELEASED = b"\0"
"""Says that the client is being answered, or is let go. A connection that ends without a word is that of a
process that died."""
TAKES = b"\1"
"""Says, to who asked, that this process answers the client in its place."""
LOOKS = 1.0
"""Seconds between two looks at a client. Who finds it unanswered twice takes over: to answer takes half a
second if some worker hangs, and who scrapes has 10 s of patience, as Prometheus has by itself."""
TAKEN = b"\1"
"""Comes with the connection of a client who was taken over. From who did that it is not taken while that one
lives: where all the workers compute, to answer takes seconds, and were each one overtaken by the next, none
would come to it."""

TakeAndSend = Callable[[socket.socket, socket.socket], tuple[socket.socket, bool]]
"""Lets in who has connected to the first, sends its connection over the second, and says if that was done."""

_SEGMENTS_SENT = slice(156, 160)
"""Where ``TCP_INFO`` has the number of segments with data that were sent, since Linux 4.6."""


class Standby:
    """Finds a sibling for each client. The endpoint's thread."""

    def __init__(self, imports: Imports) -> None:
        self.meeting: Meeting | None = None
        """Where the siblings are; without it nobody stands by."""
        self._imports = imports
        self._take_and_send: TakeAndSend | None = None
        self._turns = 0
        self._asked: _Asked | None = None
        """Who was sent the client who was let in just now."""
        self._silent: dict[Entry, socket.socket] = {}
        """Of those that had not said that they attend when the client was answered: where they may yet."""

    def attended(self, listener: socket.socket) -> Listener:
        """Return what lets in clients with whom one stands by from then on."""
        return _Attended(listener, self._let_in)

    @contextlib.contextmanager
    def beside(self, client: socket.socket) -> Iterator[Attendant]:
        """Have one stand by until the answer has begun, or the client was talked to.

        Where the conversation is closed in the middle it is not released: it may go on in the process that
        this is a fork of, and if not, the sibling is to take over.
        """
        asked, self._asked = self._asked, None
        if asked is None or asked.client is not client:  # it was taken over
            asked = self._ask(client)
        if asked is None:
            yield Nobody()
            _shut(client)
            return
        with asked.connection:
            try:
                yield asked
            except Exception:
                self._end(asked)
                raise
            self._end(asked)

    def close(self) -> None:
        """Wait for no word any more."""
        while self._silent:
            self._silent.popitem()[1].close()
        if self._asked is not None:
            self._asked.connection.close()

    def _let_in(self, listener: socket.socket) -> socket.socket:
        """Let one in. The sibling is found before: a process that dies in between takes the client along."""
        found = next(self._reached(), None)
        if found is None:
            return listener.accept()[0]
        entry, asked = found
        # Who shares it may have changed that; with the GIL held, nothing here would run until somebody came.
        listener.setblocking(False)
        try:
            client, sent = self._taking()(listener, asked)
        except OSError:
            asked.close()
            raise
        if sent:
            self._asked = _Asked(client, entry, asked)
        else:  # it died just now
            asked.close()
        return client

    def _taking(self) -> TakeAndSend:
        if self._take_and_send is None:
            try:
                with self._imports:
                    from .taking import take_and_send
            except BaseException:  # noqa: BLE001 - no ctypes, another C library, an audit hook that forbids it
                take_and_send = _taken_and_sent
            self._take_and_send = take_and_send
        return self._take_and_send

    def _ask(self, client: socket.socket) -> _Asked | None:
        """Send one the client's connection."""
        for entry, connection in self._reached():
            if send(client, connection, TAKEN):
                return _Asked(client, entry, connection)
            connection.close()
        return None

    def _reached(self) -> Iterator[tuple[Entry, socket.socket]]:
        """Connect to siblings, each the first in turn, those that seem to hang last."""
        meeting = self.meeting
        if meeting is None or not meeting.shared:
            return
        self._turns += 1
        try:
            others = meeting.others()
        except OSError:  # no files are left, or the directory is gone
            return
        first = self._turns % len(others) if others else 0
        for entry in sorted(others[first:] + others[:first], key=self._hanging().__contains__):
            with contextlib.suppress(OSError):  # it is gone, or has many to answer
                yield entry, meeting.connect(entry)

    def _hanging(self) -> set[Entry]:
        """Return those that have still not said that they attend, though their client is answered.

        With one of them a client would wait, until it is tired of it, for an answer that nobody gives.
        """
        for entry, asked in list(self._silent.items()):
            if _word(asked) is not None:
                del self._silent[entry]
                asked.close()
        return set(self._silent)

    def _end(self, asked: _Asked) -> None:
        if asked.is_taken():
            return
        asked.begun()
        _shut(asked.client)
        if not asked.attends and asked.entry not in self._silent:
            with contextlib.suppress(OSError):  # no files are left
                self._silent[asked.entry] = asked.connection.dup()


@dataclass(slots=True)
class _Asked:
    """A sibling that was sent a client."""

    client: socket.socket
    entry: Entry
    connection: socket.socket
    """To the sibling."""
    attends: bool = False
    """Whether it has said so, or is gone."""
    takes: bool = False
    """Whether it has said so."""

    def begun(self) -> None:
        """Let it go: the client is being answered, or is let go."""
        _say(self.connection, RELEASED)

    def is_taken(self) -> bool:
        """Return whether it answers the client, as this process hung."""
        word = _word(self.connection)
        if word is not None:
            self.attends = True
            self.takes = self.takes or TAKES in word
        return self.takes


class _Attended:
    """Stands in the place of a listening socket."""

    def __init__(self, listener: socket.socket, let_in: Callable[[socket.socket], socket.socket]) -> None:
        self._let_in = partial(let_in, listener)
        self.fileno = listener.fileno
        self.close = listener.close

    def accept(self) -> tuple[socket.socket, object]:
        return self._let_in(), None


def _taken_and_sent(listener: socket.socket, to: socket.socket) -> tuple[socket.socket, bool]:
    client, _ = listener.accept()
    return client, send(client, to)


def _is_begun(client: socket.socket) -> bool:
    """Whether an answer has begun; False where the system does not tell, as kernels before 4.6."""
    with contextlib.suppress(OSError, AttributeError):
        told = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEGMENTS_SENT.stop)
        return any(told[_SEGMENTS_SENT])
    return False


def _say(connection: socket.socket, what: bytes) -> None:
    with contextlib.suppress(OSError):  # it is gone itself, or was released before
        connection.send(what)


def _shut(client: socket.socket) -> None:
    """Have a client hear the end: to close it is not enough, as a process that hangs has it open."""
    with contextlib.suppress(OSError):  # it has gone away
        client.shutdown(socket.SHUT_WR)


def _word(connection: socket.socket) -> bytes | None:
    """Return what the other one says; nothing, b"", if it is gone, None if it has not said anything yet."""
    try:
        return connection.recv(2)  # one says no more
    except BlockingIOError:
        return None
    except OSError:  # so it is told that a word of its own was not heard
        return b""


def attend(
    connection: socket.socket, respond: Respond, take_over: Converse, clock: Clock = SYSTEM
) -> Conversation:
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
        looks = math.inf if said == TAKEN else LOOKS
        if (yield from _is_left(connection, client, clock, looks)):
            yield from take_over(client)


def _is_left(
    connection: socket.socket, client: socket.socket, clock: Clock, looks: float
) -> Generator[Wait, None, bool]:
    """Wait for word of who asked; return whether the client is left to us: that one died, or hangs."""
    was_waiting = False
    while True:
        yield Wait(connection, selectors.EVENT_READ, clock.monotonic() + looks, claim=-1.0)
        if word := _word(connection):
            return False
        if word is not None:
            break
        is_waiting = _has_asked(client)
        if is_waiting and was_waiting:
            _say(connection, TAKES)  # then look once more: so does, before it answers, who goes on just now
            break
        was_waiting = is_waiting
    if not _is_begun(client):
        return True
    with contextlib.suppress(OSError):
        client.recv(MAX_REQUEST)  # what is left in it would, as it is closed, break the answer off
    return False


def _has_asked(client: socket.socket) -> bool:
    """Whether there is a request that nobody has begun to answer."""
    with contextlib.suppress(OSError):
        return client.recv(1, socket.MSG_PEEK) != b""
    return False
