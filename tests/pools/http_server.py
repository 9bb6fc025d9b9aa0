"""HTTP/1.1 and HTTP/2 (by prior knowledge) on one port: ``/delay/0.3`` answers after 0.3 seconds.

The answer to ``/held`` begins at once, and ends when the client hangs up; so does a web socket. ``/behind/x``
answers once somebody has asked for ``/opens/x``.

python http_server.py PORT MAX_CONCURRENT_STREAMS
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"].startswith("/held"):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"o", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    match scope["path"].rpartition("/"):
        case "/delay", _, seconds:
            await asyncio.sleep(float(seconds))
        case "/behind", _, gate:
            await gates[gate].wait()
        case "/opens", _, gate:
            gates[gate].set()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"ok"})


config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
config.h2_max_concurrent_streams = int(sys.argv[2])
config.keep_alive_timeout = 3600  # connections end when the clients end them, and not before
config.keep_alive_max_requests = 1_000_000_000

asyncio.run(serve(app, config))
