"""An application drains in its lifespan, before its own shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

import pytest

import loopwatch
from loopwatch._jobs import lifespan

Message = MutableMapping[str, Any]


@pytest.fixture(autouse=True)
def not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan, "in_use", False)


class Server:
    """Leads an application through its lifespan, from a task of its own, as uvicorn does."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.answers: asyncio.Queue[Message] = asyncio.Queue()
        self.said: list[str] = []

    async def send(self, message: Message) -> None:
        self.answers.put_nowait(message)

    async def tell(self, kind: str) -> None:
        self.messages.put_nowait({"type": kind})
        self.said.append((await self.answers.get())["type"])

    async def lead(self, app: Any) -> None:
        task = asyncio.create_task(app({"type": "lifespan"}, self.messages.get, self.send))
        await self.tell("lifespan.startup")
        await self.tell("lifespan.shutdown")
        await task


def lead(app: Any) -> list[str]:
    async def main() -> list[str]:
        server = Server()
        serving = asyncio.create_task(server.lead(app))  # not the task that the loop runs for
        finished = asyncio.Event()
        serving.add_done_callback(lambda _: finished.set())
        await finished.wait()
        await serving
        return server.said

    return asyncio.run(main())


COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_jobs_end_before_the_application_does() -> None:
    events: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.02)
        events.append("job")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        loopwatch.spawn(work())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    assert lead(loopwatch.drain_lifespan(app, timeout=30)) == COMPLETE
    assert events == ["job", "shutdown"]


def test_the_servers_tasks_are_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "loopwatch")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    assert lead(loopwatch.drain_lifespan(app, timeout=600)) == COMPLETE
    assert "0 finished" in caplog.text


@pytest.mark.parametrize("how", ["raises", "returns"])
def test_an_application_without_a_lifespan_is_given_one(how: str) -> None:
    finished: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asyncio.get_running_loop().call_soon(lambda: finished.append(True))
        if how == "raises":
            raise AssertionError("http only")

    assert lead(loopwatch.drain_lifespan(app, timeout=30)) == COMPLETE
    assert finished == [True]


def test_a_failure_of_the_application_is_its_own() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("no database")

    async def main() -> None:
        server = Server()
        server.messages.put_nowait({"type": "lifespan.startup"})
        with pytest.raises(RuntimeError, match="no database"):
            await loopwatch.drain_lifespan(app)({"type": "lifespan"}, server.messages.get, server.send)

    asyncio.run(main())


def test_requests_pass_through() -> None:
    calls: list[tuple[Any, Any, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append((scope, receive, send))

    scope, receive, send = {"type": "http"}, object(), object()
    asyncio.run(loopwatch.drain_lifespan(app)(scope, receive, send))  # type: ignore[arg-type]
    assert calls == [(scope, receive, send)]


@pytest.mark.parametrize("arguments", [{"timeout": -1}, {"timeout": "8"}, {"cancel": "none"}])
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(loopwatch.ConfigurationError):
        loopwatch.drain_lifespan(lambda scope, receive, send: None, **arguments)  # type: ignore[arg-type,return-value]


def test_with_starlettes_test_client(caplog: pytest.LogCaptureFixture) -> None:
    testclient = pytest.importorskip("starlette.testclient", reason="needs: starlette")
    from starlette.applications import Starlette

    caplog.set_level(logging.INFO, "loopwatch")
    with testclient.TestClient(loopwatch.drain_lifespan(Starlette(), timeout=600)) as client:
        assert client.get("/").status_code == 404
    assert "drained in" in caplog.text
