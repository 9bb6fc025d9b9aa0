"""``/metrics`` inside the program's own service: an ASGI and a WSGI app over the kept exposition.

They answer on whatever path they are mounted at. Compression is left to the service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from .answer import Answer
from .kept import KeptCollector

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


def asgi_app(kept: KeptCollector) -> ASGIApplication:
    """Build an ASGI app, to be mounted in another or served on its own."""

    async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            headers = scope.get("headers", ())  # optional in ASGI
            accept = ",".join(v.decode("latin-1") for k, v in headers if k.lower() == b"accept")
            response = kept.answer(scope["method"], accept)
            await _respond(response, scope["method"], send)

    return metrics


def wsgi_app(kept: KeptCollector) -> WSGIApplication:
    """Build a WSGI app."""

    def metrics(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = kept.answer(environ["REQUEST_METHOD"], environ.get("HTTP_ACCEPT", ""))
        start_response(f"{response.status.value} {response.status.phrase}", response.all_headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    return metrics


async def _respond(response: Answer, method: str, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in response.all_headers]
    await send({"type": "http.response.start", "status": response.status.value, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})


async def _live(receive: Receive, send: Send) -> None:
    """Take part in start-up and shutdown of a server that serves only this app; there is nothing to do."""
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
