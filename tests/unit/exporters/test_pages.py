"""Who gets an answer: all but scripts of other sites, and requests to names that others could point here."""

from __future__ import annotations

from collections import defaultdict
from http import HTTPStatus

import pytest

from loopwatch.exporters.answer import Answer, Answering, Request
from loopwatch.exporters.pages import METRICS, Page, Pages, is_loopback

SECRET = b"for those who may have it"
JSON = "/loopwatch.json"


def respond(request: Request) -> Answering:
    yield from ()
    return Answer(HTTPStatus.OK, SECRET)


def ask(
    path: str = JSON, method: str = "GET", *, at: str = "127.0.0.1", by_any_name: bool = False, **headers: str
) -> Answer:
    """Return the answer to a request at an endpoint that was given the host ``at``."""
    pages = {METRICS: Page(respond, "the metrics", by_any_name=by_any_name), JSON: Page(respond, "the rest")}
    sent = defaultdict(str, {name: f"{value}," for name, value in headers.items()})
    answering = Pages(pages, at).respond(Request(method, path, "", sent))
    with pytest.raises(StopIteration) as ended:
        next(answering)
    answer: Answer = ended.value.value
    return answer


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9464",
        "localhost",
        "LOCALHOST:9464",
        "localhost.",
        "shop.localhost:80",
        "[::1]:9464",
        "10.1.2.3:9464",
        "shop.internal:9464",
        "",
    ],
)
def test_an_address_and_names_that_lead_here_are_answered(host: str) -> None:
    assert ask(at="shop.internal", host=host).body == SECRET


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9464",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "127.0.0.1, evil.example",
        "127.0.0.1@evil.example",
        "[::1",
        "[evil]",
        "\x00",
    ],
)
@pytest.mark.parametrize("path", [JSON, METRICS, "/", "/other"])
def test_a_name_that_may_be_made_to_lead_here_is_refused(host: str, path: str) -> None:
    answer = ask(path, host=host)
    assert answer.status is HTTPStatus.FORBIDDEN
    assert SECRET not in answer.body
    assert answer.body.count(b"\n") == 1
    assert len(answer.body) < 200


def test_what_is_scraped_by_any_name_is_answered_to_any_name_alone() -> None:
    assert ask(METRICS, by_any_name=True, host="shop.example:9464").body == SECRET
    assert ask(JSON, by_any_name=True, host="shop.example:9464").status is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "https://127.0.0.1",
        "file://",
        "http://",
        "http://[::1",
        "http://evil.example/127.0.0.1:9464",
        "http://127.0.0.1:9464@evil.example",
        "http://127.0.0.1:9464.evil.example",
    ],
)
@pytest.mark.parametrize("path", [JSON, METRICS])
def test_scripts_of_other_sites_are_refused(origin: str, path: str) -> None:
    answer = ask(path, by_any_name=True, host="127.0.0.1:9464", origin=origin)
    assert (answer.status, answer.body.count(b"\n")) == (HTTPStatus.FORBIDDEN, 1)


def test_a_script_of_this_very_address_is_answered() -> None:
    assert ask(host="127.0.0.1:9464", origin="http://127.0.0.1:9464").body == SECRET


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", ""])
@pytest.mark.parametrize("path", [JSON, METRICS, "/"])
def test_nothing_can_be_changed(method: str, path: str) -> None:
    answer = ask(path, method)
    assert answer.status is HTTPStatus.METHOD_NOT_ALLOWED
    assert answer.headers == (("Allow", "GET, HEAD"),)


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/loopwatch.json/..", "/%2e%2e/metrics", "//metrics", "metrics", "/metrics\\", "*"],
)
def test_no_path_leads_anywhere_else(path: str) -> None:
    answer = ask(path)
    assert answer.status is HTTPStatus.NOT_FOUND
    assert answer.body == b"Nothing here; the metrics at /metrics; the rest at /loopwatch.json\n"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("Localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("shop.internal", False),
    ],
)
def test_where_only_this_machine_can_ask(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
