"""The connections of an export over HTTP, tracked one by one: to break one off, and to leave none to a child.

``requests`` can close idle connections, but cannot reach the one in use by a request. That is the one that
hangs when a Collector does not answer, and that a forked child would share.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import traceback
import weakref
from functools import partial
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from urllib3 import connectionpool
from urllib3.connection import HTTPConnection as PlainConnection
from urllib3.connection import HTTPSConnection as TlsConnection

_closing = threading.Lock()
"""Held while a twin is closed or shut down: otherwise its number might belong to another file by then."""


class _Known:
    """What our connections have in common; mixed into those of urllib3.

    Each has a twin of its socket, since a TLS socket is out of reach before its handshake is over.
    """

    _sock: Any = None
    _twin: socket.socket | None = None
    _number = -1
    """The socket's file descriptor, even if the socket was wrapped."""

    def __init__(self, *args: Any, known: _References, **options: Any) -> None:
        super().__init__(*args, **options)
        known[:] = [*(each for each in known if each() is not None), weakref.ref(self)]

    @property
    def sock(self) -> Any:
        """The socket, as http.client and urllib3 know it."""
        return self._sock

    @sock.setter
    def sock(self, sock: Any) -> None:
        self._sock = sock
        if sock is None and self._twin is not None:
            with _closing:
                self._twin.close()
                self._twin = None
        elif isinstance(sock, socket.socket) and self._twin is None:
            self._number = sock.fileno()
            self._twin = sock.dup()

    def break_off(self) -> None:
        """Make whoever waits for the other end see that it is gone. Any thread."""
        with _closing, contextlib.suppress(OSError):  # it is not connected any more
            if self._twin is not None:
                self._twin.shutdown(socket.SHUT_RDWR)

    def leave_to_parent(self) -> None:
        """Close it here, in a forked child, which does not use it; in the parent it stays open."""
        twin, self._twin = self._twin, None
        if twin is None:
            return
        with contextlib.suppress(OSError):  # it had been closed by then
            if os.path.sameopenfile(self._number, twin.fileno()):
                os.close(self._number)
        twin.close()
        if isinstance(self._sock, socket.socket):
            self._sock.detach()  # otherwise it would close whatever gets that number next


class HTTPConnection(_Known, PlainConnection):
    """Named as error messages show it."""


class HTTPSConnection(_Known, TlsConnection):
    """Named as error messages show it."""


class HTTPConnectionPool(connectionpool.HTTPConnectionPool):
    """Named as error messages show it."""

    ConnectionCls = HTTPConnection


class HTTPSConnectionPool(connectionpool.HTTPSConnectionPool):
    """Named as error messages show it."""

    ConnectionCls = HTTPSConnection


_References = list[weakref.ref[_Known]]


class _Adapter(HTTPAdapter):
    """Has all connections created from these classes, including those to a proxy."""

    def __init__(self, known: _References) -> None:
        self._pools: Any = {
            "http": partial(HTTPConnectionPool, known=known),
            "https": partial(HTTPSConnectionPool, known=known),
        }
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


class Session(requests.Session):
    """What the SDK's exporters send with. Once closed, it sends nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        self._errors: list[Exception] = []
        self._known: _References = []  # not a set: it is iterated while another thread adds to it
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self._known))
        _sessions.add(self)

    def send(self, *args: Any, **options: Any) -> requests.Response:
        """Send, unless closed: an exporter that was broken off tries again at once."""
        try:
            if self._closed:
                raise requests.exceptions.ConnectionError("broken off")
            return super().send(*args, **options)
        except Exception as error:
            self._errors.append(error)
            raise

    def forget_errors(self) -> str | None:
        """Return the text of the first error since the last call, and clear the frames of all of them.

        They hold each other, and everything sent, until a full collection finds them. That may take hours.
        """
        first = str(self._errors[0]) if self._errors else None
        known: set[int] = set()
        while self._errors:
            error = self._errors.pop()
            if id(error) not in known:
                known.add(id(error))
                traceback.clear_frames(error.__traceback__)
                error.__traceback__ = None
                near = (error.__cause__, error.__context__, getattr(error, "reason", None), *error.args)
                self._errors.extend(each for each in near if isinstance(each, Exception))
        return first

    def close(self) -> None:
        """Close all connections, whatever is in progress on them. Any thread."""
        self._closed = True
        super().close()
        for connection in self.connections():
            connection.break_off()

    def connections(self) -> list[_Known]:
        """Return the connections that exist. Any thread."""
        return [each for reference in tuple(self._known) if (each := reference()) is not None]


_sessions: WeakSet[Session] = WeakSet()


def _after_fork_in_child() -> None:
    global _closing
    _closing = threading.Lock()
    for session in list(_sessions):
        for each in session.connections():
            each.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)  # also for sessions that outlive uninstall()
