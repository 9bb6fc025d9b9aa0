"""``python -m tests.benchmarks.served SUBJECT``: what ``server`` loads. Prints its URL; SIGTERM ends it."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from .subjects import SUBJECTS


class Item(BaseModel):
    """What the one route takes and gives."""

    name: str
    price: float
    tags: list[str] = []


def application(name: str) -> FastAPI:
    """Build the application, with the subject attached as it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        SUBJECTS[name].attach(asyncio.get_running_loop())
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/items/{number}")
    async def read_item(number: int, q: str | None = None) -> Item:
        await asyncio.sleep(0)
        return Item(name=f"item {number}", price=number / 7, tags=[q or "none", "some"])

    return app


def main() -> None:
    name = sys.argv[1]
    SUBJECTS[name].prepare()
    # By its protocol asyncio knows that it may switch Nagle's algorithm off; create_server() leaves that out.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/items/7?q=x", flush=True)
    config = uvicorn.Config(
        application(name), log_level="error", access_log=False, loop="asyncio", http="httptools"
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
