"""``python -m tests.benchmarks.served``: the server loaded by ``server``. Prints its URL; SIGTERM ends it."""

from __future__ import annotations

import asyncio
import inspect
import socket

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import loopwatch

from .subjects import CORE, SUBJECTS

CREATE_TASK = asyncio.BaseEventLoop.create_task


class Item(BaseModel):
    """What the one route accepts and returns."""

    name: str
    price: float
    tags: list[str] = []


app = FastAPI()


@app.get("/items/{number}")
async def read_item(number: int, q: str | None = None) -> Item:
    await asyncio.sleep(0)
    return Item(name=f"item {number}", price=number / 7, tags=[q or "none", "some"])


@app.put("/subject/{name}")
async def become(name: str) -> str:
    """Switch to another subject: uninstall the agent, and install it again unless the name is ``bare``."""
    loopwatch.uninstall()
    SUBJECTS[name].prepare()
    found = asyncio.BaseEventLoop.create_task
    assert (found is CREATE_TASK) == (name in ("bare", CORE)), "not what it was"
    assert inspect.unwrap(found) is CREATE_TASK
    return name


def main() -> None:
    # asyncio disables Nagle's algorithm only if the socket names its protocol; create_server() sets none.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False, loop="asyncio", http="httptools")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
