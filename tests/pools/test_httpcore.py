"""httpcore's pool under httpx, and httpcore2's under httpx2, against a real server of HTTP/1.1."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

from .experiment import ten_callers_of_two

PACKAGES = {"httpx": "httpcore", "httpx2": "httpcore2"}


@pytest.fixture
def agent() -> Iterator[Agent]:
    yield loopwatch.install(prometheus_port=None)
    loopwatch.uninstall()


@pytest.fixture(params=PACKAGES)
def httpx(request: pytest.FixtureRequest) -> Any:
    try:
        return importlib.import_module(request.param)
    except ImportError:
        pytest.skip(f"needs: {request.param}")


@pytest.fixture
def kind(httpx: Any) -> str:
    return PACKAGES[httpx.__name__]


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """Serve HTTP/1.1: each response at once, its body when the connection closes or never."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def test_ten_callers_of_two(agent: Agent, httpx: Any, kind: str) -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=2)
        async with server() as url, httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def acquire() -> Any:
                return await client.send(client.build_request("GET", url), stream=True)

            done = await ten_callers_of_two(agent, kind, acquire, lambda response: response.aclose())
            assert done.label.startswith(f"{__name__}:")
            assert (done.timeouts, done.cancelled, done.instances, done.created) == (0, 0, 1, 1)

    asyncio.run(main())
