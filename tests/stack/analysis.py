"""``python -m analysis PORT``: the demo's service with a drain, two jobs, and a request id that is watched.

A line on its standard input ends its loop; the process goes on, to be scraped, until there are no more.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

import uvicorn
from analysis_service.app import create_app
from analysis_service.documents import request_id

import loopwatch


async def serve(port: int) -> None:
    """Serve until there is a line. Of two jobs one is done at once, and one has to be cut off."""
    app = loopwatch.drain_lifespan(create_app(), timeout=1.0)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))

    def listen() -> None:
        sys.stdin.readline()
        server.should_exit = True

    threading.Thread(target=listen, daemon=True).start()
    loopwatch.spawn(asyncio.sleep(0))
    loopwatch.spawn(asyncio.Event().wait())
    await server.serve()


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)  # nobody reads on: a full pipe would hold up the loop
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    loopwatch.watch_var(request_id)
    asyncio.run(serve(int(sys.argv[1])))
    print("ended", flush=True)
    sys.stdin.read()
