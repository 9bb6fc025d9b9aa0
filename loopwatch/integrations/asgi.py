"""Gives each request an id, which every task, stall, loss and log line of that request then carries.

::

    app.add_middleware(loopwatch.integrations.asgi.RequestIdMiddleware)  # Starlette, FastAPI
    app = loopwatch.integrations.asgi.RequestIdMiddleware(app)  # any ASGI application
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar, Token
from typing import Any
from uuid import uuid4

import loopwatch

__all__ = ["RequestIdMiddleware", "request_id"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]

LENGTH = 128
"""Characters kept of an id sent by a client."""

_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]+")
"""Allows nothing that could end a header, a log line or a quoted label."""
_TRACEPARENT = re.compile(
    rb"(?!ff|00-.{52}-)[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)
"""W3C Trace Context. Versions after 00 may have more fields; a version is never ff, an id never all zeros."""

request_id: ContextVar[str] = ContextVar("request_id")
"""The id of the request being handled. Watched as soon as the middleware is created."""
_left: ContextVar[str] = ContextVar("loopwatch_request_id_left")
"""The id that a failed request has left behind in this context: it belongs to no request any more."""


class RequestIdMiddleware:
    """Sets ``request_id`` for each HTTP request and WebSocket, and sends it back as ``X-Request-ID``.

    The id is the trace id of a valid ``traceparent``, else a valid ``X-Request-ID``, cut at 128 characters;
    else a new one, so that clients cannot write anything they like into logs and headers. An ``X-Request-ID``
    that the application sends itself is left as it is.

    Make it the outermost middleware: code outside it has no id, except code that reports an exception raised
    through it: the variable then stays set, unless it was set before. Servers handle each request in its own
    context, but that of a request sent before the previous one was answered (pipelining) may be a copy of the
    previous one's, id included.

    Raises ConfigurationError if another variable is watched under the name ``request_id``.
    """

    def __init__(self, app: _Application) -> None:
        self._app = app
        loopwatch.watch_var(request_id)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        identity = _identity(scope["headers"])
        token = request_id.set(identity)
        stays = False
        try:
            await self._app(scope, receive, _answering(send, identity.encode("ascii")))
        except Exception:
            stays = token.old_value in (Token.MISSING, _left.get(None))
            if stays:
                _left.set(identity)
            raise
        finally:
            if not stays:
                request_id.reset(token)


def _identity(headers: Any) -> str:
    """Return the id a request comes with, else a new one. If a header is repeated, the first counts."""
    sent: dict[bytes, bytes] = {}
    for name, value in headers:
        sent.setdefault(bytes(name).lower(), bytes(value).strip())
    if parent := _TRACEPARENT.fullmatch(sent.get(b"traceparent", b"")):
        return parent["trace"].decode("ascii")
    given = sent.get(b"x-request-id", b"")
    return given[:LENGTH].decode("ascii") if _ID.fullmatch(given) else uuid4().hex


def _answering(send: _Send, identity: bytes) -> _Send:
    async def answer(message: _Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            headers = list(message.get("headers") or ())
            if all(bytes(name).lower() != b"x-request-id" for name, _ in headers):
                message = {**message, "headers": [*headers, (b"x-request-id", identity)]}
        await send(message)

    return answer
