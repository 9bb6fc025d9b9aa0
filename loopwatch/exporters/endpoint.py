"""``/metrics`` over HTTP on a thread of its own, which answers while every event loop is blocked.

Not by ``http.server``: with that, slow clients cost threads, and it looks up its own name in the DNS.
"""

from __future__ import annotations

import selectors
import socket
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from functools import partial
from http import HTTPStatus

from loopwatch._clock import SYSTEM, Clock
from loopwatch._journal import Journal
from loopwatch._server import Server, Wait

from .answer import Answer, Answering

COMPONENT = "endpoint"
"""What failures of the server itself are counted under."""
PATH = "/metrics"
PATIENCE = 10.0
"""Seconds a client has for sending its request and taking the answer; Prometheus gives a scrape as long."""
MAX_CLIENTS = 32
MAX_REQUEST = 16 * 1024

_END_OF_HEAD = b"\r\n\r\n"

Respond = Callable[[str, Mapping[str, str]], Answering]
"""Makes the answer to a scrape's method and headers; the headers' names are in lower case."""


class Endpoint(Server):
    """Serves what is answered to those who connect, and looks after files and times for its owners.

    On its thread are called, beside what its ``Server`` calls there: ``prepare``, once it is asked for.
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

    def serve(self, listener: socket.socket, respond: Respond) -> None:
        """Answer whoever connects to ``listener``. Before the start or on the thread, like ``talk``."""
        self.talk(listener, partial(_converse, respond=respond))

    def prepare(self) -> None:
        """Have the first scrape prepared for, by the endpoint's thread. Does nothing the second time."""
        if not self._prepared:
            self._prepared = True
            self.soon(self._prepare)


def _converse(connection: socket.socket, respond: Respond) -> Generator[Wait, None, None]:
    request = b""
    while _END_OF_HEAD not in request and len(request) < MAX_REQUEST:
        yield Wait(connection, selectors.EVENT_READ)
        received = connection.recv(MAX_REQUEST)
        if not received:
            return
        request += received
    reply = yield from _reply(request, respond)
    unsent = memoryview(reply)
    while unsent:
        yield Wait(connection, selectors.EVENT_WRITE)
        unsent = unsent[connection.send(unsent) :]


def _reply(request: bytes, respond: Respond) -> Generator[Wait, None, bytes]:
    try:
        method, path, headers = _parse(request)
    except ValueError:
        return _message(Answer(HTTPStatus.BAD_REQUEST, b"This is no HTTP request.\n"))
    if path == PATH:
        response = yield from respond(method, headers)
    elif path == "/":
        response = Answer(HTTPStatus.OK, f"loopwatch: the metrics are at {PATH}\n".encode())
    else:
        response = Answer(HTTPStatus.NOT_FOUND, f"Nothing here; the metrics are at {PATH}\n".encode())
    return _message(response, with_body=method != "HEAD")


def _parse(request: bytes) -> tuple[str, str, defaultdict[str, str]]:
    """Take method, path and headers out of a request; raises ValueError if it is none."""
    head, end, _ = request.decode("latin-1").partition("\r\n\r\n")
    request_line, *header_lines = head.split("\r\n")
    method, target, version = request_line.split(" ")
    if not end or not version.startswith("HTTP/1."):
        raise ValueError(request_line)
    headers: defaultdict[str, str] = defaultdict(str)
    for line in header_lines:
        name, _, value = line.partition(":")
        headers[name.lower()] += f"{value},"
    return method, target.partition("?")[0], headers


def _message(response: Answer, *, with_body: bool = True) -> bytes:
    status = response.status
    headers = [*response.all_headers, ("Connection", "close")]
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines).encode("latin-1") + _END_OF_HEAD
    return head + response.body if with_body else head
