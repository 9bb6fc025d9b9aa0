"""Nobody takes what is exported, or not for a while: one line in the log, and no harm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from .collector import Certificate, Collector
from .endpoints import absent, forbidding, silent
from .received import Received
from .services import Service

Endpoint = Callable[[], AbstractContextManager[int]]

AWAY, BACK = "does not arrive", "arrives again"
"""What the lines say."""
FLUSH = 2.3
"""Seconds that the export may take at the end, whoever does not answer."""
SLACK = 20.0
"""Seconds that a slow machine may take longer. The timeout of the export itself is longer by far."""
LOSSES = 300
"""As many at once as any buffer holds, about."""
GROWTH = 2_000
"""Objects by which a process may differ between two times: a request under way has hundreds. A loss kept
has ten: of three times as many losses that would be 9,000."""

nobody = pytest.mark.parametrize("endpoint", [absent, forbidding, silent], ids=lambda made: made.__name__)


def environ(port: int, protocol: str, **more: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        **more,
    }


def is_in_order(lines: list[str], *words: str) -> bool:
    """Whether the log says these things of the export, one line each, and nothing else."""
    return len(lines) == len(words) and all(word in line for line, word in zip(lines, words, strict=True))


@nobody
def test_where_nobody_takes_it_one_line_says_so(endpoint: Endpoint, protocol: str) -> None:
    """Memory is bounded, however much there would be to send; what is lost is counted."""
    with ExitStack() as opened:
        service = Service(opened, **environ(opened.enter_context(endpoint()), protocol))
        service.until(AWAY)
        for _ in range(3):
            service.ask("lose", "fail", LOSSES)
            service.ask("stall", 0.15)
        before = service.ask("size")
        for _ in range(3):
            service.ask("lose", "fail", LOSSES)
            service.ask("stall", 0.15)
        assert service.ask("size")["objects"] - before["objects"] < GROWTH
        assert service.leave() < FLUSH + SLACK
        assert is_in_order(service.of_export, AWAY), service.said


@nobody
def test_the_end_is_not_held_up(endpoint: Endpoint, protocol: str) -> None:
    """Though a request of its own would be given up only after minutes."""
    with ExitStack() as opened:
        port = opened.enter_context(endpoint())
        service = Service(opened, **environ(port, protocol, OTEL_EXPORTER_OTLP_TIMEOUT="200"))
        service.ask("stall", 0.15)
        assert service.leave() < FLUSH + SLACK


@pytest.mark.parametrize("how", ["stopped", "suspended"])
def test_it_goes_on_when_the_collector_is_back(collector: Collector, protocol: str, how: str) -> None:
    """With all that was counted meanwhile; what was found meanwhile arrives late."""
    with ExitStack() as opened:
        service = Service(opened, **collector.environ(protocol))
        collector.wait_for(lambda got: got.points)
        leave, come_back = {
            "stopped": (collector.stop, collector.start),
            "suspended": (collector.suspend, collector.resume),
        }[how]
        leave()
        service.until(AWAY)
        service.ask("lose", "fail", 3)
        held = service.ask("stall", 0.15)
        come_back()
        service.until(BACK)
        collector.wait_for(lambda got: 3 in lost(got))
        collector.wait_for(
            lambda got: [log for log in got.logs if log.event_name == "asyncio.task.exception"]
        )
        collector.wait_for(lambda got: got.stall(held))
        service.leave()
        collector.received.read()
        assert max(lost(collector.received)) == 3
        assert is_in_order(service.of_export, AWAY, BACK), service.said


def test_it_begins_when_the_collector_comes_late(tmp_path: Path, protocol: str) -> None:
    late = Collector(tmp_path)
    with ExitStack() as opened:
        service = Service(opened, **late.environ(protocol))
        service.until(AWAY)
        opened.enter_context(late)
        service.until(BACK)
        late.wait_for(lambda got: got.points)
        service.leave()
        assert is_in_order(service.of_export, AWAY, BACK), service.said


def certificate(directory: Path, name: str) -> Certificate:
    """Make one for 127.0.0.1 that is trusted by those alone who are told to."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs: openssl")
    made = Certificate(directory / f"{name}.pem", directory / f"{name}-key.pem")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return made


def test_a_wrong_certificate_is_not_trusted(tmp_path: Path, protocol: str) -> None:
    """Nothing arrives until the right one is shown."""
    wrong, right = certificate(tmp_path, "wrong"), certificate(tmp_path, "right")
    with ExitStack() as opened:
        collector = opened.enter_context(Collector(tmp_path, wrong))
        trusted = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(right.certificate)}
        # Those of the machine, if there are any, would count for more: with requests, which HTTP is sent by.
        others = {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
        service = Service(opened, **collector.environ(protocol), **trusted, **others)
        service.until(AWAY)
        collector.stop()
        collector.received.read()
        assert not collector.received.points
        collector.certificate = right
        collector.start()
        service.until(BACK)
        collector.wait_for(arrived)
        service.leave()
        assert is_in_order(service.of_export, AWAY, BACK), service.said


def arrived(received: Received) -> bool:
    return bool(received.points)


def lost(received: Received) -> list[float]:
    """Return how many tasks had died unheard, of each export that tells of any."""
    return [
        point.value
        for point in received.points
        if point.name == "asyncio.task.lost"
        and point.attributes["asyncio.task.lost.reason"] == "unretrieved_exception"
        and isinstance(point.value, float)
        and point.value
    ]
