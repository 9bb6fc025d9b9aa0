"""Draining while an ASGI server shuts down. The server's own signal handling stays as it is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from loopwatch._arguments import LONGEST_DRAIN, seconds
from loopwatch._context.backing import backing
from loopwatch._internals.links import links
from loopwatch._store.daemons import daemon
from loopwatch._store.jobs import JOBS

from .drain import Cancel, Drain, check_cancel

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


in_use = False
"""Whether an application of this process drains in its lifespan."""


def drain_lifespan(app: Application, timeout: float = 8.0, cancel: Cancel = "jobs") -> Application:
    """Return the ASGI application ``app``, draining the event loop when its server shuts down.

    The server has answered its last request by then; the drain runs before the application's own shutdown,
    which closes what the jobs still need. ``timeout`` and ``cancel`` as for ``drain()``. An application that
    does not support the lifespan protocol is given one. Wrap the whole application, or add it as middleware.
    """
    global in_use
    in_use = True
    limit = seconds("timeout", timeout, 0.0, LONGEST_DRAIN)
    check_cancel(cancel)

    async def draining(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(limit, cancel, receive, send).of(app, scope)
        else:
            await app(scope, receive, send)

    return draining


class _Lifespan:
    """One life of an application, from startup to shutdown."""

    def __init__(self, timeout: float, cancel: Cancel, receive: Receive, send: Send) -> None:
        self._timeout = timeout
        self._cancel = cancel
        self._receive = receive
        self._send = send
        self._heard = False
        """Whether the application has asked for a message, and so supports the lifespan protocol."""

    async def of(self, app: Application, scope: MutableMapping[str, Any]) -> None:
        """Run ``app`` through its lifespan, and answer in its place if it does not support the protocol."""
        try:
            await app(scope, self.receive, self._send)
        except Exception:
            if self._heard:
                raise
        if not self._heard:
            await self.receive()
            await self._send({"type": "lifespan.startup.complete"})
            await self.receive()
            await self._send({"type": "lifespan.shutdown.complete"})

    async def receive(self) -> Message:
        """Pass on the server's message; the shutdown message only after a drain."""
        self._heard = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._drain()
        return message

    async def _drain(self) -> None:
        try:
            self._spare_server()
            await Drain(self._timeout, self._cancel).run()
            JOBS.of(asyncio.get_running_loop()).shut_down = True
        except Exception as error:  # noqa: BLE001 - the shutdown goes on
            backing().journal.failure("drain", error)

    def _spare_server(self) -> None:
        """Declare the tasks of the server that wait for this lifespan to be daemons.

        They wait for an event, not for our task, so nothing else shows it. They are suspended in a method of
        the object whose ``send`` we were given: true of uvicorn, hypercorn and Starlette's test client.
        """
        server = getattr(self._send, "__self__", None)
        for task in asyncio.all_tasks() if server is not None else ():
            if any(held is server for link in links(task)[0] for held in gc.get_referents(link)):
                daemon(task)
