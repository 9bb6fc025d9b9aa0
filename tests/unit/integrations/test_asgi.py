"""Each request has an id, and no client writes what it likes with it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import pytest

import loopwatch
from loopwatch.integrations.asgi import RequestIdMiddleware, request_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
MADE = re.compile(r"[0-9a-f]{32}")


def serve(
    headers: list[tuple[bytes, bytes]], own: list[tuple[bytes, bytes]] | None = None
) -> tuple[str, Any]:
    """Return the id the application saw, and the headers it answered with."""
    seen: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await asyncio.create_task(later()))
        await send({"type": "http.response.start", "status": 200, "headers": own or []})
        await send({"type": "http.response.body", "body": b""})

    async def later() -> str:
        return request_id.get()

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await RequestIdMiddleware(app)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]
        assert request_id.get(None) is None

    asyncio.run(main())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return seen[0], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"traceparent": PARENT}, TRACE),
        ({"traceparent": PARENT, "x-request-id": "r-1"}, TRACE),
        ({"traceparent": PARENT.replace("00-", "01-", 1) + "-more"}, TRACE),
        ({"X-Request-ID": "r-1"}, "r-1"),
        ({"x-request-id": "Ab9._~:/+=@-"}, "Ab9._~:/+=@-"),
        ({"x-request-id": "x" * 300}, "x" * 128),
    ],
)
def test_an_id_that_came_with_the_request(headers: dict[str, str], expected: str) -> None:
    identity, answered = serve([(name.encode(), value.encode()) for name, value in headers.items()])
    assert identity == expected
    assert answered == {b"x-request-id": expected.encode()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"traceparent", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01"),
        (b"traceparent", PARENT.encode() + b"-more"),
        (b"traceparent", b"ff" + PARENT.encode()[2:]),
        (b"traceparent", PARENT.upper().encode()),
        (b"x-request-id", b""),
        (b"x-request-id", b"r-1\r\nset-cookie: a=b"),
        (b"x-request-id", b"r-1\n"[:-1] + b"\x00"),
        (b"x-request-id", "r-\u00e9".encode()),
        (b"x-request-id", b'r-1" onclick="'),
        (b"x-request-id", b"x" * 300 + b"\n\n!"),
    ],
)
def test_an_id_that_is_not_valid_is_replaced(name: bytes, value: bytes) -> None:
    identity, answered = serve([(name, value)])
    assert MADE.fullmatch(identity)
    assert answered == {b"x-request-id": identity.encode()}


def test_each_request_without_one_gets_its_own() -> None:
    assert serve([])[0] != serve([])[0]


def test_of_a_repeated_header_the_first_counts() -> None:
    assert serve([(b"x-request-id", b"first"), (b"x-request-id", b"second")])[0] == "first"


def test_the_applications_own_header_stays() -> None:
    assert serve([], own=[(b"X-Request-ID", b"own")])[1] == {b"X-Request-ID": b"own"}


def test_who_tells_of_an_exception_outside_of_it_knows_the_request() -> None:
    """As Starlette does for what ``add_middleware`` adds, and then the server."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    async def fail(given: str) -> str | None:
        scope = {"type": "http", "headers": [(b"x-request-id", given.encode())]}
        with pytest.raises(ZeroDivisionError):
            await RequestIdMiddleware(app)(scope, None, None)  # type: ignore[arg-type]
        return request_id.get(None)

    async def main() -> None:
        assert await asyncio.create_task(fail("r-1")) == "r-1"
        assert request_id.get(None) is None
        request_id.set("r-2")  # a request that is served within another one
        assert await fail("r-3") == "r-2"

    asyncio.run(main())


def test_who_tells_of_a_second_exception_knows_the_second_request() -> None:
    """In one context, as of a client that calls the application itself."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if request_id.get() != "r-2":
            raise ZeroDivisionError

    async def main() -> list[str]:
        told, serve = [], RequestIdMiddleware(app)
        for given in (b"r-1", b"r-2", b"r-3"):
            with contextlib.suppress(ZeroDivisionError):
                await serve({"type": "http", "headers": [(b"x-request-id", given)]}, None, None)  # type: ignore[arg-type]
            told.append(request_id.get())
        return told

    assert asyncio.run(main()) == ["r-1", "r-1", "r-3"]


def test_of_one_that_was_cancelled_nobody_is_told() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await RequestIdMiddleware(app)({"type": "http", "headers": []}, None, None)  # type: ignore[arg-type]
        assert request_id.get(None) is None

    asyncio.run(main())


def test_the_lifespan_passes_through_untouched() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (scope, receive, send) == ({"type": "lifespan"}, 1, 2)

    asyncio.run(RequestIdMiddleware(app)({"type": "lifespan"}, 1, 2))  # type: ignore[arg-type]


def test_the_variable_is_watched() -> None:
    RequestIdMiddleware(None)  # type: ignore[arg-type]
    token = request_id.set("r-1")
    assert loopwatch.current_work().values == {"request_id": "r-1"}
    request_id.reset(token)


def test_fastapi_answers_with_the_id_and_runs_background_tasks_under_it() -> None:
    fastapi = pytest.importorskip("fastapi", reason="needs: fastapi")
    httpx = pytest.importorskip("httpx", reason="needs: httpx")
    background = pytest.importorskip("starlette.background", reason="needs: fastapi")
    seen: list[str] = []
    app = fastapi.FastAPI()
    app.add_middleware(RequestIdMiddleware)

    @app.get("/sync")
    def sync() -> str:
        return request_id.get()

    @app.get("/later")
    async def later() -> Any:
        after = background.BackgroundTask(lambda: seen.append(request_id.get()))
        return fastapi.responses.JSONResponse(request_id.get(), background=after)

    async def main() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            for path in ("/sync", "/later"):
                answer = await client.get(path, headers={"x-request-id": "r-1"})
                assert (answer.json(), answer.headers["x-request-id"]) == ("r-1", "r-1")

    asyncio.run(main())
    assert seen == ["r-1"]
