"""Conversations with all clients, on one thread of ours, so that a blocked event loop stops none of them.

The thread waits on all its sockets: nothing runs while no client asks, slow clients cost no threads, and
stopping takes effect at once.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from ._clock import SYSTEM, Clock
from ._journal import Journal
from ._threads import IsToEnd, OwnThread

PAUSE = 1.0
"""Seconds without service after a failure of the server: its cause, such as a lack of file descriptors, would
only make it fail again at once."""
JOIN_TIMEOUT = 1.0


NONE = 0
"""No event on a file."""


class HasFile(Protocol):
    """What a selector can wait on."""

    def fileno(self) -> int:
        """Return its file descriptor."""


class Listener(HasFile, Protocol):
    """A listening socket, or what stands in for one."""

    def accept(self) -> tuple[socket.socket, object]:
        """Accept one client, without waiting. Raises OSError as a socket does."""

    def close(self) -> object:
        """Accept no more clients."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What has to happen before a conversation can go on: an event on a file, or a deadline."""

    file: HasFile | int
    event: int
    """One of ``selectors``; ``NONE`` to wait for the deadline alone."""
    until: float = math.inf
    """In monotonic time."""
    claim: float = 0.0
    """When there are too many clients, those with the smallest claim go; of equals, the earliest."""


Conversation: TypeAlias = Generator[Wait, None, None]
"""Talks to one client. When it ends, or raises OSError, the client is dropped. A client that has to go has
TimeoutError raised in its conversation."""

Converse = Callable[[socket.socket], Conversation]
"""Begins the conversation with a client that has connected."""


def at_once() -> float:
    """Let clients in without a wait."""
    return 0.0


@dataclass(slots=True, eq=False)
class _Client:
    socket: socket.socket
    conversation: Conversation
    patience_ends: float
    wait: Wait
    """What it waits for now."""


class Server:
    """Talks to those who connect, and watches files and times for its owners.

    Its thread calls everything that ``talk`` was given, the callbacks of ``when``, ``later`` and ``soon``,
    and ``on_cost``, with the CPU seconds that each bout of work took.
    """

    def __init__(
        self,
        component: str,
        journal: Journal,
        *,
        most_clients: int,
        patience: float = math.inf,
        farewell: bytes = b"",
        clock: Clock = SYSTEM,
        on_cost: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._component = component
        """The component under which failures of the server itself are counted."""
        self._journal = journal
        self._most_clients = most_clients
        self._patience = patience
        """Seconds a client has for the whole conversation."""
        self._farewell = farewell
        """Sent to those that have to go because there are too many."""
        self._clock = clock
        self._on_cost = on_cost
        self._clients: list[_Client] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._soon: deque[Callable[[], object]] = deque()
        self._interrupted = threading.Event()
        self.thread = OwnThread(f"loopwatch-{component}", self._serve, self._wake)
        with ExitStack() as opened:
            self._waker, self._wakened = map(opened.enter_context, socket.socketpair())
            self._selector = opened.enter_context(selectors.DefaultSelector())
            self._selector.register(self._wakened, selectors.EVENT_READ, self._woken)
            self._opened = opened.pop_all()

    def talk(self, listener: Listener, converse: Converse, rest: Callable[[], float] = at_once) -> None:
        """Talk to whoever connects to ``listener``. The server closes it with its other sockets.

        ``rest`` returns for how many seconds the next client has to wait until it is let in: the system
        keeps them in order. Call it before the start or on the thread, like the next three.
        """
        self._opened.callback(listener.close)
        self.when(listener, partial(self._admit, listener, converse, rest))

    def when(self, file: HasFile | int, call: Callable[[], None]) -> None:
        """Call whenever ``file`` is readable, until ``no_more``."""
        self._selector.register(file, selectors.EVENT_READ, call)

    def no_more(self, file: HasFile | int) -> None:
        """Undo ``when``; to be called before the file is closed."""
        self._selector.unregister(file)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, after so many seconds."""
        self._due.append((self._clock.monotonic() + seconds, call))

    def start(self) -> None:
        """Begin to serve. Raises RuntimeError, and closes everything, if no thread can be started."""
        try:
            self.thread.start()
        except RuntimeError:
            self.close()
            raise

    def soon(self, call: Callable[[], object]) -> None:
        """Call once, on the server's thread. To be used from any other thread."""
        self._soon.append(call)
        self._wake()

    def stop(self) -> None:
        """Stop serving and free the address, without waiting for clients. Does nothing the second time."""
        self.thread.end(JOIN_TIMEOUT)
        self.close()

    def close(self) -> None:
        """Close the sockets only: all there is to do in a forked child, where the thread does not run."""
        self.thread.forget()
        self._opened.close()
        while self._clients:
            client = self._clients.pop()
            with contextlib.suppress(ValueError):  # it is running in another thread, or was in the parent
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
            except BaseException as error:  # noqa: BLE001 - counted; the server goes on, even if killed
                self._journal.failure(self._component, error)
                self._interrupted.wait(PAUSE)

    def _turn(self) -> None:
        """Wait until something can be done, and do it."""
        while self._soon:
            self._soon.popleft()()
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
        first = min(moments, default=math.inf)
        return None if first == math.inf else max(0.0, first - self._clock.monotonic())

    def _do_what_is_due(self) -> None:
        now = self._clock.monotonic()
        due = [each for each in self._due if each[0] <= now]
        self._due = [each for each in self._due if each not in due]
        for _, call in due:
            call()
        for client in [client for client in self._clients if client.wait.until <= now]:
            self._advance(client)

    def _admit(self, listener: Listener, converse: Converse, rest: Callable[[], float]) -> None:
        if seconds := rest():
            self.no_more(listener)
            self.later(seconds, partial(self.when, listener, partial(self._admit, listener, converse, rest)))
        else:
            self.admit(listener, converse)

    def admit(self, listener: Listener, converse: Converse) -> None:
        """Talk to the next client that has connected to ``listener``, if there is one. On the thread."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone away already
        connection.setblocking(False)
        conversation = converse(connection)
        patience_ends = self._clock.monotonic() + self._patience
        client = _Client(connection, conversation, patience_ends, next(conversation))
        self._clients.append(client)
        self._await(client)

    def _advance(self, client: _Client) -> None:
        self._await_no_more(client)
        try:
            client.wait = next(client.conversation)
        except (StopIteration, OSError):
            self._let_go(client)  # everything is said, or the client has gone away
        except BaseException as error:  # noqa: BLE001 - counted; the other clients are still served
            self._journal.failure(self._component, error)
            self._let_go(client)
        else:
            self._await(client)

    def _await(self, client: _Client) -> None:
        if client.wait.event != NONE:
            self._selector.register(client.wait.file, client.wait.event, partial(self._advance, client))

    def _await_no_more(self, client: _Client) -> None:
        if client.wait.event != NONE:
            self._selector.unregister(client.wait.file)

    def _dismiss_overdue(self) -> None:
        """Drop clients whose time is up and, when there are too many, those with the least claim."""
        now = self._clock.monotonic()
        while self._clients and self._clients[0].patience_ends <= now:
            self._dismiss(self._clients[0])
        while len(self._clients) > self._most_clients:
            first_to_go = min(self._clients, key=lambda client: client.wait.claim)
            with contextlib.suppress(OSError):  # it does not read, or has gone away
                first_to_go.socket.send(self._farewell)
            self._dismiss(first_to_go)

    def _dismiss(self, client: _Client) -> None:
        self._await_no_more(client)
        try:
            client.conversation.throw(TimeoutError("it took too long, or there are too many"))
        except (StopIteration, OSError):
            pass
        except BaseException as error:  # noqa: BLE001 - counted, and the client goes: else it fails for ever
            self._journal.failure(self._component, error)
        self._let_go(client)

    def _let_go(self, client: _Client) -> None:
        self._clients.remove(client)
        client.conversation.close()
        client.socket.close()
