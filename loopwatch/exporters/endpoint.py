"""HTTP on a thread of its own, which answers while every event loop is blocked.

Not by ``http.server``: with that, slow clients cost threads, and it looks up its own name in the DNS.
"""

from __future__ import annotations

import selectors
import socket
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext, suppress
from http import HTTPStatus
from typing import Protocol, TypeAlias

from loopwatch._clock import SYSTEM, Clock
from loopwatch._journal import Journal
from loopwatch._server import Conversation, Server, Wait

from .answer import Answer, Request, Respond, refused

COMPONENT = "endpoint"
"""The component under which failures of the server itself are counted."""
PATIENCE = 10.0
"""Seconds a client has to send its request and take the answer; Prometheus allows a scrape the same."""
MAX_CLIENTS = 32
MAX_REQUEST = 16 * 1024
MAX_HEARD_OUT = 64 * 1024 * 1024
"""Bytes that a client may send on after it was refused, and still be told so."""

_END_OF_HEAD = b"\r\n\r\n"


class Attendant(Protocol):
    """Whoever stands by during a client's conversation."""

    def begun(self) -> None:
        """Note that the answer has begun."""

    def is_taken(self) -> bool:
        """Return whether somebody else answers by now."""


Beside: TypeAlias = Callable[[socket.socket], AbstractContextManager[Attendant]]
"""Has somebody stand by during a client's conversation."""


class Nobody:
    """The attendant of a client without one."""

    def begun(self) -> None:
        """Do nothing."""

    def is_taken(self) -> bool:
        """Return False."""
        return False


def nobody(client: socket.socket) -> AbstractContextManager[Attendant]:
    """Have nobody stand by."""
    return nullcontext(Nobody())


class Endpoint(Server):
    """Serves answers to clients that connect, and watches files and deadlines for its owners.

    ``prepare`` is called on its thread, beside whatever ``Server`` calls there, once asked for.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        prepare: Callable[[], object] = lambda: None,
        clock: Clock = SYSTEM,
        on_cost: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        super().__init__(
            COMPONENT, journal, most_clients=MAX_CLIENTS, patience=PATIENCE, clock=clock, on_cost=on_cost
        )
        self._prepare = prepare
        self._prepared = False

    def prepare(self) -> None:
        """Have the endpoint's thread prepare for the first scrape. Does nothing the second time."""
        if not self._prepared:
            self._prepared = True
            self.soon(self._prepare)


def converse(
    connection: socket.socket, respond: Respond, *, received: bytes = b"", beside: Beside = nobody
) -> Conversation:
    """Read one request, the beginning of which may have been ``received``, and answer it.

    One that comes in one piece, as they do, is left unread until the answer has begun. Nothing is sent if
    somebody else has answered meanwhile.
    """
    with beside(connection) as attendant:
        unread = 0
        while _END_OF_HEAD not in received and len(received) < MAX_REQUEST:
            yield Wait(connection, selectors.EVENT_READ)
            more = connection.recv(MAX_REQUEST, socket.MSG_PEEK)
            if not more:
                return
            received += more
            unread = len(more)
            if _END_OF_HEAD not in received:  # left unread, it would wake us again and again
                if attendant.is_taken():
                    return
                attendant.begun()
                connection.recv(unread)
                unread = 0
        try:
            response, reply = yield from _reply(received, respond)
            if attendant.is_taken():
                return
            unsent = yield from _begin(connection, response, reply)
        except Exception:
            if not attendant.is_taken():
                _take(connection, unread)
            raise
        _take(connection, unread)  # nobody else would if we died once a sibling is told
        attendant.begun()
        yield from _go_on(connection, unsent)
        if response.status >= HTTPStatus.BAD_REQUEST:
            yield from _hear_out(connection)


def _take(connection: socket.socket, unread: int) -> None:
    if unread:  # a connection closed with something left unread loses what is on its way to the client
        with suppress(BlockingIOError):  # a sibling that saw us begin has taken it
            connection.recv(unread)


def _begin(connection: socket.socket, response: Answer, reply: bytes) -> Generator[Wait, None, memoryview]:
    """Send as much as can be sent at once; return the rest."""
    if response.file is not None:
        socket.send_fds(connection, [reply], [response.file])  # short, and nothing follows
        return memoryview(b"")
    while True:
        with suppress(BlockingIOError):
            return memoryview(reply)[connection.send(reply) :]
        yield Wait(connection, selectors.EVENT_WRITE)


def _go_on(connection: socket.socket, unsent: memoryview) -> Conversation:
    while unsent:
        yield Wait(connection, selectors.EVENT_WRITE)
        with suppress(BlockingIOError):
            unsent = unsent[connection.send(unsent) :]


def _hear_out(connection: socket.socket) -> Conversation:
    """Read what a client goes on to send: left unread, it would take the answer with it."""
    connection.shutdown(socket.SHUT_WR)
    for _ in range(MAX_HEARD_OUT // MAX_REQUEST):
        yield Wait(connection, selectors.EVENT_READ)
        if not connection.recv(MAX_REQUEST):
            return


def _reply(received: bytes, respond: Respond) -> Generator[Wait, None, tuple[Answer, bytes]]:
    try:
        request = _parse(received)
    except ValueError:
        return _message(refused(HTTPStatus.BAD_REQUEST, "This is no HTTP request."))
    response = yield from respond(request)
    return _message(response, with_body=request.method != "HEAD")


def _parse(received: bytes) -> Request:
    """Parse a request; raises ValueError if it is not one."""
    head, end, _ = received.decode("latin-1").partition("\r\n\r\n")
    request_line, *header_lines = head.split("\r\n")
    method, target, version = request_line.split(" ")
    if not end or not version.startswith("HTTP/1."):
        raise ValueError(request_line)
    headers: defaultdict[str, str] = defaultdict(str)
    for line in header_lines:
        name, _, value = line.partition(":")
        headers[name.lower()] += f"{value},"
    path, _, query = target.partition("?")
    return Request(method, path, query, headers)


def _message(response: Answer, *, with_body: bool = True) -> tuple[Answer, bytes]:
    status = response.status
    headers = [*response.all_headers, ("Connection", "close")]
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines).encode("latin-1") + _END_OF_HEAD
    return response, head + response.body if with_body else head
