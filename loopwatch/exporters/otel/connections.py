"""The connections of an export over HTTP, known one by one: to break one off, and to leave none to a child.

``requests`` can close those that wait for work. The one that a request stands on is out of its reach. That is
the one which hangs when a Collector does not answer, and which a forked child would share.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from functools import partial
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from urllib3 import connection, connectionpool

_closing = threading.Lock()
"""Held while one is closed or broken off: else its number might be that of another file by then."""


class _Known:
    """What our connections have in common; mixed into those of urllib3."""

    sock: Any

    def __init__(self, *args: Any, known: WeakSet[_Known], **options: Any) -> None:
        super().__init__(*args, **options)
        self._known = known
        self._broken_off = False

    def connect(self) -> None:
        """Connect, and be known from before: also while that hangs, as a handshake may."""
        self._known.add(self)
        super().connect()  # type: ignore[misc]
        if self._broken_off:
            self.close()
            raise ConnectionAbortedError("broken off while it was opened")

    def close(self) -> None:
        """See ``_closing``."""
        with _closing:
            super().close()  # type: ignore[misc]

    def break_off(self) -> None:
        """Have who waits for an answer see its end. Any thread."""
        with _closing, contextlib.suppress(OSError):  # which says that there is no connection
            self._broken_off = True
            if isinstance(self.sock, socket.socket):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # that of TLS would write to it

    def leave_to_parent(self) -> None:
        """Close it here, in a forked child, where nobody uses it; in the parent it stays open."""
        if isinstance(self.sock, socket.socket) and (number := self.sock.detach()) >= 0:
            os.close(number)


class HTTPConnection(_Known, connection.HTTPConnection):
    """As errors call it."""


class HTTPSConnection(_Known, connection.HTTPSConnection):
    """As errors call it."""


class HTTPConnectionPool(connectionpool.HTTPConnectionPool):
    """As errors call it."""

    ConnectionCls = HTTPConnection


class HTTPSConnectionPool(connectionpool.HTTPSConnectionPool):
    """As errors call it."""

    ConnectionCls = HTTPSConnection


class _Adapter(HTTPAdapter):
    """Has all connections made of these classes, those to a proxy included."""

    def __init__(self, known: WeakSet[_Known]) -> None:
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
    """What an exporter of the SDK's sends with. Once closed, it sends nothing any more."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        self._known: WeakSet[_Known] = WeakSet()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self._known))
        _sessions.add(self)

    def send(self, *args: Any, **options: Any) -> requests.Response:
        """Send, if it is not closed: an exporter that was broken off tries again at once."""
        if self._closed:
            raise requests.exceptions.ConnectionError("broken off")
        return super().send(*args, **options)

    def close(self) -> None:
        """Close all connections, whatever is under way on them. Any thread."""
        self._closed = True
        super().close()
        for each in list(self._known):
            each.break_off()

    def leave_to_parent(self) -> None:
        """Close in a forked child what it inherited, without a word to the other end."""
        for each in list(self._known):
            each.leave_to_parent()


_sessions: WeakSet[Session] = WeakSet()


def _after_fork_in_child() -> None:
    global _closing
    _closing = threading.Lock()
    for session in list(_sessions):
        session.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)  # also for what outlives an uninstall()
