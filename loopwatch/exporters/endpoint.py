"""``/metrics`` over HTTP on a thread of its own, which answers while every event loop is blocked.

One thread waits on all its sockets: nothing runs between scrapes, slow clients cost no threads, and stopping
takes effect at once. That is why this is not ``http.server``, which also looks up its own name in the DNS.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus

from loopwatch._clock import SYSTEM, Clock
from loopwatch._journal import Journal

from .answer import Answer

COMPONENT = "endpoint"
"""What failures of the server itself are counted under."""
PATH = "/metrics"
PATIENCE = 10.0
"""Seconds a client has for sending its request and taking the answer; Prometheus gives a scrape as long."""
MAX_CLIENTS = 32
MAX_REQUEST = 16 * 1024
PAUSE = 1.0
"""Seconds without service after a failure of the server: what caused it, such as a lack of file descriptors,
would only fail again at once."""
JOIN_TIMEOUT = 1.0

_END_OF_HEAD = b"\r\n\r\n"
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to these


@dataclass(slots=True, eq=False)
class _Client:
    socket: socket.socket
    conversation: Generator[int, None, None]
    """Yields the event to wait for before it can go on."""
    patience_ends: float


class Endpoint:
    """Serves what ``answer`` makes of a scrape's method and headers, on an address of its own.

    Raises OSError if the address cannot be had. On the endpoint's thread are called: ``answer``; ``prepare``,
    once it is asked for; and ``on_cost`` with the seconds of CPU that each bout of work took.
    """

    def __init__(
        self,
        host: str,
        port: int,
        answer: Callable[[str, Mapping[str, str]], Answer],
        journal: Journal,
        *,
        prepare: Callable[[], object] = lambda: None,
        clock: Clock = SYSTEM,
        on_cost: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._answer = answer
        self._prepare = prepare
        self._prepared = False
        self._journal = journal
        self._clock = clock
        self._on_cost = on_cost
        self._clients: list[_Client] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="loopwatch-endpoint", daemon=True)
        with ExitStack() as opened:
            self._listener = opened.enter_context(_listen(host, port))
            self._waker, self._wakened = map(opened.enter_context, socket.socketpair())
            self._selector = opened.enter_context(selectors.DefaultSelector())
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._selector.register(self._wakened, selectors.EVENT_READ)
            self._opened = opened.pop_all()
        self.url = _url(self._listener)
        """Where the metrics are; a wildcard address is shown as loopback, since it cannot be connected to."""

    def start(self) -> None:
        """Begin to serve. Raises RuntimeError, and gives the address back, if no thread can be had."""
        try:
            self._thread.start()
        except RuntimeError:
            self.close()
            raise

    def prepare(self) -> None:
        """Have the first scrape prepared for, by the endpoint's thread. Does nothing the second time."""
        if not self._prepared:
            self._prepared = True
            self._waker.send(b"\0")

    def stop(self) -> None:
        """Stop serving and free the address; waits for no client. Does nothing the second time."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._waker.send(b"\0")
        if self._thread.ident is not None:
            self._thread.join(JOIN_TIMEOUT)
        self.close()

    def close(self) -> None:
        """Close the sockets alone: all there is to do in a forked child, where the thread does not run."""
        self._opened.close()
        while self._clients:
            self._clients.pop().socket.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                while not self._stopping.is_set():
                    self._turn()
            except BaseException as error:  # noqa: BLE001 - counted, and the endpoint goes on, if killed too
                self._journal.failure(COMPONENT, error)
                self._stopping.wait(PAUSE)

    def _turn(self) -> None:
        """Wait until something can be done, and do it."""
        ready = self._selector.select(self._longest_wait())
        began = self._clock.thread_cpu()
        for key, _ in ready:
            if key.data is not None:
                self._advance(key.data)
            elif key.fileobj is self._listener:
                self._admit()
            elif not self._stopping.is_set():
                self._wakened.recv(1)
                self._prepare()
        self._dismiss_overdue()
        self._on_cost(self._clock.thread_cpu() - began)

    def _longest_wait(self) -> float | None:
        if not self._clients:
            return None
        return max(0.0, self._clients[0].patience_ends - self._clock.monotonic())

    def _admit(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone away already
        connection.setblocking(False)
        patience_ends = self._clock.monotonic() + PATIENCE
        client = _Client(connection, self._converse(connection), patience_ends)
        self._clients.append(client)
        self._selector.register(connection, next(client.conversation), client)

    def _advance(self, client: _Client) -> None:
        try:
            event = next(client.conversation)
        except (StopIteration, OSError):
            self._dismiss(client)  # all is said, or the client has gone away
        except BaseException as error:  # noqa: BLE001 - counted, and the other clients are served
            self._journal.failure(COMPONENT, error)
            self._dismiss(client)
        else:
            self._selector.modify(client.socket, event, client)

    def _dismiss_overdue(self) -> None:
        """Let go of clients whose time is up and, when there are too many, of those that came first."""
        now = self._clock.monotonic()
        while self._clients and (self._clients[0].patience_ends <= now or len(self._clients) > MAX_CLIENTS):
            self._dismiss(self._clients[0])

    def _dismiss(self, client: _Client) -> None:
        self._clients.remove(client)
        self._selector.unregister(client.socket)
        client.socket.close()

    def _converse(self, connection: socket.socket) -> Generator[int, None, None]:
        request = b""
        while _END_OF_HEAD not in request and len(request) < MAX_REQUEST:
            yield selectors.EVENT_READ
            received = connection.recv(MAX_REQUEST)
            if not received:
                return
            request += received
        unsent = memoryview(self._reply(request))
        while unsent:
            yield selectors.EVENT_WRITE
            unsent = unsent[connection.send(unsent) :]

    def _reply(self, request: bytes) -> bytes:
        try:
            method, path, headers = _parse(request)
        except ValueError:
            return _message(Answer(HTTPStatus.BAD_REQUEST, b"This is no HTTP request.\n"))
        if path == PATH:
            response = self._answer(method, headers)
        elif path == "/":
            response = Answer(HTTPStatus.OK, f"loopwatch: the metrics are at {PATH}\n".encode())
        else:
            response = Answer(HTTPStatus.NOT_FOUND, f"Nothing here; the metrics are at {PATH}\n".encode())
        return _message(response, with_body=method != "HEAD")


def _listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; looks ``host`` up only if it is a name, and takes ``::`` for IPv4 as well."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = _REACHED_AT.get(host, host)
    return f"http://[{host}]:{port}{PATH}" if ":" in host else f"http://{host}:{port}{PATH}"


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
