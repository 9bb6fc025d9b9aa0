"""Who is meant by what stands on the command line, and what is said when there is no answer."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus

import pytest

from loopwatch._cli import target as module
from loopwatch._cli.target import Address, NoAnswerError, Process, target_of
from loopwatch._document import PATH, write
from loopwatch._journal import Journal
from loopwatch.exporters.answer import Answer, Answering, Request
from loopwatch.exporters.endpoint import Endpoint, converse
from tests.pools.servers import free_port
from tests.unit.cli.top import made


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("http://127.0.0.1:9464", "127.0.0.1", 9464, PATH),
        ("http://127.0.0.1:9464/metrics", "127.0.0.1", 9464, PATH),
        ("http://127.0.0.1:9464/loopwatch.json", "127.0.0.1", 9464, PATH),
        ("http://127.0.0.1:9464/", "127.0.0.1", 9464, PATH),
        ("shop:9464", "shop", 9464, PATH),
        ("localhost", "localhost", 80, PATH),
        ("[::1]:9464", "::1", 9464, PATH),
        ("https://shop.example/agent/metrics", "shop.example", 443, f"/agent{PATH}"),
    ],
)
def test_urls_and_addresses(text: str, host: str, port: int, path: str) -> None:
    found = target_of(text)
    assert isinstance(found, Address)
    assert (found.host, found.port, found.path) == (host, port, path)
    assert found.secure == text.startswith("https")


def test_a_number_is_a_pid() -> None:
    assert target_of("1234") == Process(1234)


@pytest.mark.parametrize(
    "text",
    ["ftp://shop", "http://", "http://shop:port", "http://shop:99999", "", ":9464", "http://[::1:port"],
)
def test_what_is_no_target_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither http|names no host|ort"):
        target_of(text)


@pytest.mark.parametrize(
    "text", ["http://user:hunter2@shop:9464", "user:hunter2@shop", "ftp://u:hunter2@shop"]
)
def test_no_password_is_taken_or_said_again(text: str) -> None:
    with pytest.raises(ValueError, match="a user's name is not understood") as refused:
        target_of(text)
    assert "hunter2" not in str(refused.value)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Address]]:
    """Serve one answer to everything; what was asked is in ``asked``."""
    monkeypatch.setattr(module, "WITHIN", 60.0)  # a busy machine takes its time
    with contextlib.ExitStack() as stack:

        def serve(answer: Answer, asked: list[Request] | None = None) -> Address:
            def respond(request: Request) -> Answering:
                yield from ()
                if asked is not None:
                    asked.append(request)
                return answer

            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            endpoint = Endpoint(Journal())
            endpoint.talk(listener, partial(converse, respond=respond))
            endpoint.start()
            stack.callback(endpoint.stop)
            found = target_of(f"localhost:{listener.getsockname()[1]}")
            assert isinstance(found, Address)
            return found

        yield serve


def test_it_asks_by_the_address_since_names_may_be_refused(serve: Callable[..., Address]) -> None:
    asked: list[Request] = []
    target = serve(Answer(HTTPStatus.OK, write(made.document())), asked)
    assert target.fetch() == made.document()
    assert target.fetch(77, brief=True) == made.document()
    hosts = [request.headers["host"].rstrip(",").strip() for request in asked]
    assert set(hosts) <= {f"127.0.0.1:{target.port}", f"[::1]:{target.port}"}
    assert [request.query for request in asked] == ["", "pid=77&brief=1"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(HTTPStatus.OK, b"<html>"), "no document of loopwatch's"),
        (Answer(HTTPStatus.OK, b'{"version": 99, "frames": []}'), "version 99"),
        (Answer(HTTPStatus.NOT_FOUND, b"No process 5.\nmore"), "it says 404: No process 5."),
        (Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"\xff" * 900), "it says 500"),
    ],
)
def test_other_answers_are_none(serve: Callable[..., Address], answer: Answer, why: str) -> None:
    with pytest.raises(NoAnswerError) as raised:
        serve(answer).fetch()
    assert why in str(raised.value)
    assert len(str(raised.value)) < 300


def test_nobody_there_is_said() -> None:
    with pytest.raises(NoAnswerError, match="connection refused"):
        target_of(f"127.0.0.1:{free_port()}").fetch()


def test_one_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WITHIN", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = target_of(f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(NoAnswerError, match="no answer within"):
            target.fetch()


def test_an_answer_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1000)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def gush() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000)
                connection.recv(1)

        gushing = threading.Thread(target=gush)
        gushing.start()
        with pytest.raises(NoAnswerError, match="too long"):
            target_of(f"127.0.0.1:{server.getsockname()[1]}").fetch()
        gushing.join()


def test_a_process_without_a_console_is_said_to_have_none() -> None:
    with pytest.raises(NoAnswerError, match=f"no process {os.getpid()} of this user"):
        Process(os.getpid()).fetch()
