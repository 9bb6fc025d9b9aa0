"""HTTP on a thread of its own, which answers while every event loop is blocked.

One thread waits on all its sockets: nothing runs between requests, slow clients cost no threads, and stopping
takes effect at once. That is why this is not ``http.server``, which also looks up its own name in the DNS.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from loopwatch._clock import SYSTEM, Clock
from loopwatch._journal import Journal
from loopwatch._threads import IsToEnd, OwnThread

from .answer import Answer, HasFile, Request, Respond, Wait, refused

COMPONENT = "endpoint"
"""What failures of the server itself are counted under."""
PATIENCE = 10.0
"""Seconds a client has for sending its request and taking the answer; Prometheus gives a scrape as long."""
MAX_CLIENTS = 32
MAX_REQUEST = 16 * 1024
MAX_HEARD_OUT = 64 * 1024 * 1024
"""Bytes that a client may go on to send after it was refused, and still be told so."""
PAUSE = 1.0
"""Seconds without service after a failure of the server: what caused it, such as a lack of file descriptors,
would only fail again at once."""
JOIN_TIMEOUT = 1.0

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(slots=True, eq=False)
class _Client:
    socket: socket.socket
    conversation: Generator[Wait, None, None]
    patience_ends: float
    wait: Wait
    """For what it waits now."""


class Endpoint:
    """Serves what is answered to those who connect, and looks after files and times for its owners.

    On its thread are called: all that ``serve`` was given; what is to be done ``when`` and ``later``;
    ``prepare``, once it is asked for; and ``on_cost`` with the CPU seconds that each bout of work took.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        prepare: Callable[[], object] = lambda: None,
        clock: Clock = SYSTEM,
        on_cost: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._prepare = prepare
        self._preparing: bool | None = None
        """None until it is asked for, then whether it is still to be done."""
        self._journal = journal
        self._clock = clock
        self._on_cost = on_cost
        self._clients: list[_Client] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._interrupted = threading.Event()
        self.thread = OwnThread("loopwatch-endpoint", self._serve, self._wake)
        with ExitStack() as opened:
            self._waker, self._wakened = map(opened.enter_context, socket.socketpair())
            self._selector = opened.enter_context(selectors.DefaultSelector())
            self._selector.register(self._wakened, selectors.EVENT_READ, self._woken)
            self._opened = opened.pop_all()

    def serve(self, listener: socket.socket, respond: Respond) -> None:
        """Answer whoever connects to ``listener``, which is closed with the rest.

        Before the start or on the thread, like the next three.
        """
        self._opened.enter_context(listener)
        self._selector.register(listener, selectors.EVENT_READ, partial(self._admit, listener, respond))

    def when(self, file: HasFile | int, call: Callable[[], None]) -> None:
        """Call whenever ``file`` can be read, until ``no_more``."""
        self._selector.register(file, selectors.EVENT_READ, call)

    def no_more(self, file: HasFile | int) -> None:
        """Take back what was asked for with ``when``; before the file is closed."""
        self._selector.unregister(file)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, in so many seconds."""
        self._due.append((self._clock.monotonic() + seconds, call))

    def start(self) -> None:
        """Begin to serve. Raises RuntimeError, and closes all, if no thread can be had."""
        try:
            self.thread.start()
        except RuntimeError:
            self.close()
            raise

    def prepare(self) -> None:
        """Have the first scrape prepared for, by the endpoint's thread. Does nothing the second time."""
        if self._preparing is None:
            self._preparing = True
            self._wake()

    def stop(self) -> None:
        """Stop serving and free the address; waits for no client. Does nothing the second time."""
        self.thread.end(JOIN_TIMEOUT)
        self.close()

    def close(self) -> None:
        """Close the sockets alone: all there is to do in a forked child, where the thread does not run."""
        self.thread.forget()
        self._opened.close()
        while self._clients:
            client = self._clients.pop()
            with contextlib.suppress(ValueError):  # it goes on in another thread, or did in the parent
                client.conversation.close()
            client.socket.close()

    def _wake(self) -> None:
        self._interrupted.set()
        self._waker.send(b"\0")

    def _woken(self) -> None:
        self._wakened.recv(1)

    def _serve(self, is_to_end: IsToEnd) -> None:
        self._interrupted.clear()
        while True:
            try:
                while not is_to_end():
                    self._turn()
                return
            except BaseException as error:  # noqa: BLE001 - counted, and the endpoint goes on, if killed too
                self._journal.failure(COMPONENT, error)
                self._interrupted.wait(PAUSE)

    def _turn(self) -> None:
        """Wait until something can be done, and do it."""
        if self._preparing:
            self._preparing = False
            self._prepare()
        ready = self._selector.select(self._longest_wait())
        began = self._clock.thread_cpu()
        for key, _ in ready:
            key.data()
        self._do_what_is_due()
        self._dismiss_overdue()
        self._on_cost(self._clock.thread_cpu() - began)

    def _longest_wait(self) -> float | None:
        moments = [moment for moment, _ in self._due]
        moments += [min(client.patience_ends, client.wait.until) for client in self._clients]
        return max(0.0, min(moments) - self._clock.monotonic()) if moments else None

    def _do_what_is_due(self) -> None:
        now = self._clock.monotonic()
        due = [each for each in self._due if each[0] <= now]
        self._due = [each for each in self._due if each not in due]
        for _, call in due:
            call()
        for client in [client for client in self._clients if client.wait.until <= now]:
            self._advance(client)

    def _admit(self, listener: socket.socket, respond: Respond) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone away already
        connection.setblocking(False)
        patience_ends = self._clock.monotonic() + PATIENCE
        conversation = _converse(connection, respond)
        client = _Client(connection, conversation, patience_ends, next(conversation))
        self._clients.append(client)
        self._await(client)

    def _advance(self, client: _Client) -> None:
        self._selector.unregister(client.wait.file)
        try:
            client.wait = next(client.conversation)
        except (StopIteration, OSError):
            self._let_go(client)  # all is said, or the client has gone away
        except BaseException as error:  # noqa: BLE001 - counted, and the other clients are served
            self._journal.failure(COMPONENT, error)
            self._let_go(client)
        else:
            self._await(client)

    def _await(self, client: _Client) -> None:
        self._selector.register(client.wait.file, client.wait.event, partial(self._advance, client))

    def _dismiss_overdue(self) -> None:
        """Let go of clients whose time is up and, when there are too many, of those that came first."""
        now = self._clock.monotonic()
        while self._clients and (self._clients[0].patience_ends <= now or len(self._clients) > MAX_CLIENTS):
            self._selector.unregister(self._clients[0].wait.file)
            self._let_go(self._clients[0])

    def _let_go(self, client: _Client) -> None:
        self._clients.remove(client)
        client.conversation.close()
        client.socket.close()


def _converse(connection: socket.socket, respond: Respond) -> Generator[Wait, None, None]:
    received = b""
    while _END_OF_HEAD not in received and len(received) < MAX_REQUEST:
        yield Wait(connection, selectors.EVENT_READ)
        more = connection.recv(MAX_REQUEST)
        if not more:
            return
        received += more
    status, reply = yield from _reply(received, respond)
    unsent = memoryview(reply)
    while unsent:
        yield Wait(connection, selectors.EVENT_WRITE)
        unsent = unsent[connection.send(unsent) :]
    if status >= HTTPStatus.BAD_REQUEST:
        yield from _hear_out(connection)


def _hear_out(connection: socket.socket) -> Generator[Wait, None, None]:
    """Take what a client goes on to send: if it were left unread, the answer would be lost with it."""
    connection.shutdown(socket.SHUT_WR)
    for _ in range(MAX_HEARD_OUT // MAX_REQUEST):
        yield Wait(connection, selectors.EVENT_READ)
        if not connection.recv(MAX_REQUEST):
            return


def _reply(received: bytes, respond: Respond) -> Generator[Wait, None, tuple[HTTPStatus, bytes]]:
    try:
        request = _parse(received)
    except ValueError:
        return _message(refused(HTTPStatus.BAD_REQUEST, "This is no HTTP request."))
    response = yield from respond(request)
    return _message(response, with_body=request.method != "HEAD")


def _parse(received: bytes) -> Request:
    """Take a request apart; raises ValueError if it is none."""
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


def _message(response: Answer, *, with_body: bool = True) -> tuple[HTTPStatus, bytes]:
    status = response.status
    headers = [*response.all_headers, ("Connection", "close")]
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines).encode("latin-1") + _END_OF_HEAD
    return status, head + response.body if with_body else head
