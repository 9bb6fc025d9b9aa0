"""A sibling stands by for each client: should this process die or hang before answering, the sibling answers.

It is sent the client's connection as soon as that has come, so it stays open. The request is left unread in
it until the answer has begun: whoever takes over finds it as if it had just come. If a process died before it
could say that its answer had begun, the kernel knows. One that hung, and resumes, finds itself told that its
client was taken, and says no more.
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
from .passing import ALONE, receive, send

ATTENDS = b"\0"
"""Tells the process that asked that this one stands by."""
RELEASED = b"\0"
"""Says that the client is being answered, or is let go. If a connection ends without a word, its process has
died."""
TAKES = b"\1"
"""Tells the process that asked that this one answers the client instead."""
LOOKS = 1.0
"""Seconds between two looks at a client. A sibling that finds it unanswered twice takes over: answering takes
half a second if some worker hangs, and the client waits 10 s, as Prometheus does by default."""
TAKEN = b"\1"
"""Comes with the connection of a client that was taken over. It is not taken from the process that did so as
long as that lives: where all workers compute, answering takes seconds, and were each one overtaken by the
next, none would ever answer."""

TakeAndSend = Callable[[socket.socket, socket.socket], tuple[socket.socket, bool]]
"""Accepts a client from the first, sends its connection over the second, and says whether that was done."""

_SEGMENTS_SENT = slice(156, 160)
"""Where ``TCP_INFO`` has the number of data segments sent, since Linux 4.6."""


class Standby:
    """Finds a sibling for each client. The endpoint's thread."""

    def __init__(self, imports: Imports) -> None:
        self.meeting: Meeting | None = None
        """Where the siblings are; without it nobody stands by."""
        self._imports = imports
        self._take_and_send: TakeAndSend | None = None
        self._turns = 0
        self._asked: _Asked | None = None
        """The sibling that was sent the client let in just now."""
        self._silent: dict[Entry, socket.socket] = {}
        """Of siblings that had not said that they attend when the client was answered: where they may yet."""

    def attended(self, listener: socket.socket) -> Listener:
        """Return a listener whose clients have a sibling standing by from then on."""
        return _Attended(listener, self._let_in)

    @contextlib.contextmanager
    def beside(self, client: socket.socket) -> Iterator[Attendant]:
        """Have a sibling stand by until the answer has begun, or the conversation is over.

        A sibling is not released if the conversation is closed in the middle: that may go on in the process
        that this is a fork of, and if not, the sibling is to take over.
        """
        asked, self._asked = self._asked, None
        if asked is None or asked.client is not client:  # the client was taken over
            asked = self._ask(client, TAKEN)
        if asked is None:
            try:
                yield Nobody()
            except Exception:
                _shut(client)
                raise
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
        """Stop waiting for any word."""
        while self._silent:
            self._silent.popitem()[1].close()
        if self._asked is not None:
            self._asked.connection.close()

    def _let_in(self, listener: socket.socket) -> socket.socket:
        """Let one in. The sibling is found first: a process that dies in between takes the client along."""
        found = next(self._reached(), None)
        if found is None:
            return listener.accept()[0]
        entry, asked = found
        # Whoever shares it may have made it block; as the GIL is held, nothing would run until a client came.
        listener.setblocking(False)
        try:
            client, sent = self._taking()(listener, asked)
        except OSError:
            asked.close()
            raise
        if sent:
            self._asked = _Asked(client, entry, asked)
        else:  # the sibling has just died
            asked.close()
            self._asked = self._ask(client, ALONE)
        return client

    def _taking(self) -> TakeAndSend:
        if self._take_and_send is None:
            try:
                with self._imports:
                    from .taking import take_and_send
            except BaseException:  # noqa: BLE001 - no ctypes, another C library, a forbidding audit hook
                take_and_send = _taken_and_sent
            self._take_and_send = take_and_send
        return self._take_and_send

    def _ask(self, client: socket.socket, text: bytes) -> _Asked | None:
        """Send the client's connection to one, with ``text``: ``ALONE`` or ``TAKEN``."""
        for entry, connection in self._reached():
            if send(client, connection, text):
                return _Asked(client, entry, connection)
            connection.close()
        return None

    def _reached(self) -> Iterator[tuple[Entry, socket.socket]]:
        """Connect to siblings, taking turns to be first; those that seem to hang come last."""
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

        With one of them standing by, a client would wait for an answer that nobody gives, until it gives up.
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
    """Whether it has said that it does, or is gone."""
    takes: bool = False
    """Whether it has said that it does."""

    def begun(self) -> None:
        """Release it: the client is being answered, or is let go."""
        _say(self.connection, RELEASED)

    def is_taken(self) -> bool:
        """Return whether it answers the client, since this process hung."""
        word = _word(self.connection)
        if word is not None:
            self.attends = True
            self.takes = self.takes or TAKES in word
        return self.takes


class _Attended:
    """Stands in for a listening socket."""

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
    """Whether an answer has begun; False where the system does not tell, like kernels before 4.6."""
    with contextlib.suppress(OSError, AttributeError):
        told = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEGMENTS_SENT.stop)
        return any(told[_SEGMENTS_SENT])
    return False


def _say(connection: socket.socket, what: bytes) -> None:
    with contextlib.suppress(OSError):  # the other is gone, or was released before
        connection.send(what)


def _shut(client: socket.socket) -> None:
    """Let a client see the end: closing is not enough, since a process that hangs has it open."""
    with contextlib.suppress(OSError):  # it has gone away
        client.shutdown(socket.SHUT_WR)


def _word(connection: socket.socket) -> bytes | None:
    """Return what the other one says; nothing, b"", if it is gone; None if it has not said anything yet."""
    try:
        return connection.recv(2)  # it never says more
    except BlockingIOError:
        return None
    except OSError:  # this is how we learn that it did not read a word of ours
        return b""


def attend(
    connection: socket.socket, respond: Respond, take_over: Converse, clock: Clock = SYSTEM
) -> Conversation:
    """Talk to a sibling: answer what it asks; or, if it sends a client's connection, stand by for it.

    One that we stand by for is the first to go when there are too many.
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
    """Wait for word from the sibling; return whether it has left the client to us: it died, or hangs."""
    was_waiting = False
    while True:
        yield Wait(connection, selectors.EVENT_READ, clock.monotonic() + looks, claim=-1.0)
        if word := _word(connection):
            return False
        if word is not None:
            break
        is_waiting = _has_asked(client)
        if is_waiting and was_waiting:
            _say(connection, TAKES)  # then look once more, as a sibling resuming now does before it answers
            break
        was_waiting = is_waiting
    if not _is_begun(client):
        return True
    with contextlib.suppress(OSError):
        client.recv(MAX_REQUEST)  # what was left unread would cut the answer off as it is closed
    return False


def _has_asked(client: socket.socket) -> bool:
    """Whether there is a request that nobody has begun to answer."""
    with contextlib.suppress(OSError):
        return client.recv(1, socket.MSG_PEEK) != b""
    return False
