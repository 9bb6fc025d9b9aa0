"""A Collector that is absent, stopped for a minute or silent: the program feels nothing of it."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path

from tests.benchmarks.allocated import COUNTED
from tests.benchmarks.felt import DELAY, KEPT, LAST, OUTAGES, RESIDENT, Felt
from tests.demo.programs import TIMEOUT, Program

from .collector import Collector
from .conftest import PROTOCOLS
from .endpoints import absent, silent

ROOT = Path(__file__).parents[2]

LEAK = round(0.5 * 2**20 / 60)
"""Bytes that one program leaks each second: half a MiB in a minute. Beside other tests, programs without one
have differed by 0.4 MiB in two: by how many of the stalls that are kept were there before."""
OFTEN = {"OTEL_METRIC_EXPORT_INTERVAL": "5000", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
"""Export twelve times as often as by default. At thirty times more than one beat of a hundred has an export
that fails beside it, and the p99 is that beat: some 3 ms later, while the exporting thread has the GIL."""
BUSY = 0.02
"""Seconds more that the p99 may be, as other tests run beside; the benchmark ``outage`` does without. A loop
that waited for an export, for 2 s of every 5 where nobody answers, would be later by far more."""


def felt_by(program: Program) -> Felt:
    """Wait for its end."""
    found = Felt(**json.loads(program.line("^{").splitlines()[-1]))
    program.end()
    assert program.status == 0
    return found


def test_delay_and_memory_are_as_without_an_export(collector: Collector) -> None:
    """All at the same time: over either protocol, without any export, and with a leak that has to show."""
    with ExitStack() as opened:

        def begin(port: str | int = "", protocol: str = "", leak: int = 0) -> Program:
            export = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"} | OFTEN
            export["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
            words = ("tests.benchmarks.felt", str(leak))
            environ = COUNTED | (export if protocol else {})
            return Program(opened, ROOT, *words, timeout=LAST + TIMEOUT, **environ)

        without = [begin(), begin()]
        leaking = begin(leak=LEAK)
        exporting = {
            (endpoint.__name__, protocol): begin(opened.enter_context(endpoint()), protocol)
            for endpoint in (absent, silent)
            for protocol in PROTOCOLS
        }
        for protocol in PROTOCOLS:
            port = collector.environ(protocol)["OTEL_EXPORTER_OTLP_ENDPOINT"].rpartition(":")[2]
            exporting["stopped", protocol] = begin(port, protocol)
        seconds = threading.Event()
        arrived = [0]  # bytes, as it may be stopped in the middle of a line
        for works, away in OUTAGES:
            seconds.wait(works)
            collector.stop()
            arrived.append(collector.received.path.stat().st_size)
            seconds.wait(away)
            collector.start()
        usual = [felt_by(program) for program in without]
        shows = felt_by(leaking)
        felt = {name: felt_by(program) for name, program in exporting.items()}
    arrived.append(collector.received.path.stat().st_size)
    assert arrived == sorted(set(arrived))  # more each time
    most = Felt(*(max(each) for each in zip(*map(astuple, usual), strict=True)))
    limits = {"p99": most.p99 * DELAY + BUSY, "resident": most.resident + RESIDENT, "kept": most.kept + KEPT}
    beyond = {
        (*name, what): (getattr(each, what), limit)
        for name, each in felt.items()
        for what, limit in limits.items()
        if getattr(each, what) > limit
    }
    assert beyond == {}, usual
    assert shows.kept > limits["kept"], usual
