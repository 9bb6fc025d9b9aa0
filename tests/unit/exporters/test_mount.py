"""The apps for the program's own service speak ASGI and WSGI as servers and frameworks expect."""

import asyncio
import threading
import urllib.request
from collections.abc import Iterable
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch.exporters.exposition import Form
from loopwatch.exporters.kept import Kept, KeptCollector
from loopwatch.exporters.mount import ASGIApplication, Message, asgi_app, wsgi_app

TIMEOUT = 30.0
LINE = b'asyncio_eventloop_iterations_total{asyncio_eventloop_name="main"} 42.0\n'


class Source:
    """Gives snapshots with one series, and counts them."""

    def __init__(self) -> None:
        self.snapshots = 0

    def __call__(self) -> Snapshot:
        self.snapshots += 1
        points = {"iterations": (Point(("main",), 42.0),)}
        return Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())


def kept() -> KeptCollector:
    return KeptCollector(Source(), Journal())


def failing(monkeypatch: pytest.MonkeyPatch, journal: Journal) -> KeptCollector:
    def fail(form: Form) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Kept, "read", fail)
    return KeptCollector(Source(), journal)


def run_asgi(app: ASGIApplication, scope: dict[str, object], events: Iterable[str] = ()) -> list[Message]:
    """Return what the app sends when it is called with ``scope`` and receives ``events``."""
    coming = iter(events)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": next(coming)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def http(method: str = "GET", accept: bytes = b"*/*") -> dict[str, object]:
    return {"type": "http", "method": method, "path": "/metrics", "headers": [(b"accept", accept)]}


def run_wsgi(app: WSGIApplication, method: str = "GET", **environ: str) -> tuple[str, dict[str, str], bytes]:
    """Return status, headers and body, with the standard library's checker between server and app."""
    got: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> object:
        got.append((status, dict(headers)))
        return lambda data: None

    setup_testing_defaults(environ)
    environ |= {"REQUEST_METHOD": method, "QUERY_STRING": ""}
    body = validator(app)(environ, start_response)  # type: ignore[arg-type]
    try:
        return *got[0], b"".join(body)
    finally:
        body.close()  # type: ignore[attr-defined]


def test_asgi_answers_get_with_the_text() -> None:
    start, body = run_asgi(asgi_app(kept()), http())
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert start["headers"] == [
        (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
        (b"content-length", b"%d" % len(body["body"])),
    ]
    assert body["type"] == "http.response.body"
    assert LINE in body["body"]


def test_asgi_answers_openmetrics_to_those_who_accept_it() -> None:
    start, body = run_asgi(asgi_app(kept()), http(accept=b"application/openmetrics-text;version=1.0.0"))
    assert start["headers"][0][1].startswith(b"application/openmetrics-text; version=1.0.0")
    assert body["body"].endswith(b"# EOF\n")


def test_asgi_answers_those_who_leave_out_the_headers() -> None:
    scope = http()
    del scope["headers"]
    start, _ = run_asgi(asgi_app(kept()), scope)
    assert start["status"] == 200


def test_asgi_answers_head_without_a_body_and_refuses_the_rest() -> None:
    app = asgi_app(kept())
    start, _ = run_asgi(app, http("GET"))
    assert run_asgi(app, http("HEAD")) == [start, {"type": "http.response.body", "body": b""}]
    start, _ = run_asgi(app, http("POST"))
    assert start["status"] == 405
    assert (b"allow", b"GET, HEAD") in start["headers"]


def test_asgi_served_alone_takes_part_in_the_lifespan() -> None:
    sent = run_asgi(asgi_app(kept()), {"type": "lifespan"}, ["lifespan.startup", "lifespan.shutdown"])
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_asgi_closes_websockets() -> None:
    assert run_asgi(asgi_app(kept()), {"type": "websocket"}) == [{"type": "websocket.close"}]


def test_serving_renders_nothing_anew() -> None:
    source = Source()
    collector = KeptCollector(source, Journal())
    asgi_metrics, wsgi_metrics = asgi_app(collector), wsgi_app(collector)
    for _ in range(3):
        run_asgi(asgi_metrics, http())
        run_wsgi(wsgi_metrics)
    assert source.snapshots == 1


def test_a_failure_is_a_500_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()
    collector = failing(monkeypatch, journal)
    start, body = run_asgi(asgi_app(collector), http())
    assert (start["status"], body["body"].count(b"\n")) == (500, 1)
    status, _, _ = run_wsgi(wsgi_app(collector))
    assert status == "500 Internal Server Error"
    assert journal.failures() == {"prometheus": 2}


def test_wsgi_answers_get_and_head() -> None:
    app = wsgi_app(kept())
    status, headers, body = run_wsgi(app)
    assert status == "200 OK"
    assert LINE in body
    assert headers["Content-Length"] == str(len(body))
    assert run_wsgi(app, "HEAD") == (status, headers, b"")
    status, headers, _ = run_wsgi(app, "PUT")
    assert (status, headers["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")


def test_wsgi_answers_openmetrics_to_those_who_accept_it() -> None:
    _, headers, body = run_wsgi(wsgi_app(kept()), HTTP_ACCEPT="application/openmetrics-text")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_wsgi_behind_a_real_server() -> None:
    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: object) -> None:
            pass

    with make_server("127.0.0.1", 0, wsgi_app(kept()), handler_class=Quiet) as server:
        one_request = threading.Thread(target=server.handle_request)
        one_request.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=TIMEOUT) as response:
            assert LINE in response.read()
        one_request.join()


def scrape_under_uvicorn(app: object, path: str) -> tuple[bytes, str]:
    """Serve ``app`` with uvicorn, lifespan included, and return what a scrape of ``path`` gets."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs: uvicorn")

    class Server(uvicorn.Server):  # type: ignore[misc, name-defined]
        async def startup(self, sockets: object = None) -> None:
            await super().startup(sockets)
            self.port = self.servers[0].sockets[0].getsockname()[1]
            up.set()

    async def serve() -> tuple[bytes, str]:
        server = Server(uvicorn.Config(app, port=0, lifespan="on", log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve())
        await asyncio.wait_for(up.wait(), TIMEOUT)
        try:
            return await asyncio.to_thread(fetch, f"http://127.0.0.1:{server.port}{path}")
        finally:
            server.should_exit = True
            await serving

    def fetch(url: str) -> tuple[bytes, str]:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            return response.read(), response.headers["Content-Type"]

    up = asyncio.Event()
    return asyncio.run(serve())


def test_asgi_mounted_in_fastapi_behind_uvicorn() -> None:
    fastapi = pytest.importorskip("fastapi", reason="needs: fastapi")
    service = fastapi.FastAPI()
    service.mount("/metrics", asgi_app(kept()))
    body, content_type = scrape_under_uvicorn(service, "/metrics")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert LINE in body


def test_asgi_alone_behind_uvicorn() -> None:
    body, content_type = scrape_under_uvicorn(asgi_app(kept()), "/")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert LINE in body
