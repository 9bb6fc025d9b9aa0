"""The endpoint and the kept renderings, made when they are needed."""

from __future__ import annotations

import contextlib
import logging
import socket
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from loopwatch._clock import SYSTEM
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch._records import Snapshot
from loopwatch._settings import RUN, Settings
from loopwatch.exporters.service import MetricsService

Serve = Callable[..., MetricsService]


def snapshot() -> Snapshot:
    points = {"blocked": (Point(("main",), 0.25),)}
    return Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def serve(port: int | None = 0) -> MetricsService:
            service = MetricsService(Settings(prometheus_port=port), snapshot, Journal(), SYSTEM)
            service.start()
            stack.callback(service.stop)
            return service

        yield serve


def test_the_endpoint_serves_snapshots_until_it_is_stopped(serve: Serve) -> None:
    service = serve()
    assert service.url is not None
    with contextlib.closing(urllib.request.urlopen(service.url, timeout=30)) as answer:
        assert b'asyncio_eventloop_blocked_seconds{asyncio_eventloop_name="main"} 0.25' in answer.read()
    service.stop()
    assert service.url is None
    service.stop()


def test_without_a_port_there_is_none(serve: Serve) -> None:
    assert serve(None).url is None


@pytest.mark.parametrize(("run", "level"), [(False, logging.WARNING), (True, logging.DEBUG)])
def test_a_port_that_is_taken_is_told_of_and_done_without(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    run: bool,
    level: int,
) -> None:
    """Of the processes of ``loopwatch run`` one has it, and the others say nothing."""
    if run:
        monkeypatch.setenv(RUN, "1")
    caplog.set_level(logging.DEBUG, "loopwatch")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        assert serve(port).url is None
    [record] = caplog.records
    assert record.levelno == level
    assert f"no /metrics endpoint, since 127.0.0.1:{port} cannot be had" in record.getMessage()


def test_renderings_are_kept_from_when_they_are_first_asked_for(serve: Serve) -> None:
    service = serve(None)
    service.refresh()
    kept = service.kept()
    assert service.kept() is kept
    assert {family.name for family in kept.collect()} == {"asyncio_eventloop_blocked_seconds"}
    service.refresh()
