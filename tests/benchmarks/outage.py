"""What a program feels of a Collector that is away or does not answer: the delay of its loop, and its memory.

The same program (``felt``) runs six times at once, on the same machine in the same minutes: twice without an
export, which shows how large a difference must be to mean anything, and with an export to Collectors of which
one works. Exports are due thirty times as often as by default; if they were due more often, one beat in a
hundred would coincide with an export, and the p99 would show it. ``outage_by_default`` takes as long as it
needs with exports due as often as by default.

Memory is measured after the first export has arrived or failed, since that takes some memory once. The
Collector that is stopped has been stopped once by then, since a first failure takes some of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .allocated import COUNTED
from .environment import module, variables
from .felt import DELAY, FIRST, KEPT, LAST, OUTAGES, RESIDENT, Felt
from .report import Verdict, table
from .sink import serve, variables_for


@dataclass(frozen=True, slots=True)
class Course:
    """The timing of a run."""

    interval: int
    """Milliseconds between two exports of metrics."""
    timeout: int
    """Seconds for which an export waits for an answer."""
    first: float
    last: float
    """Seconds of the programs' lives between which they are measured."""
    outages: Sequence[tuple[float, float]]
    """Seconds for which the Collector that is stopped works, then is away."""


OFTEN = Course(2_000, 2, FIRST, LAST, OUTAGES)
BY_DEFAULT = Course(60_000, 10, 360, 600, ((100, 60), (260, 60)))
WITHOUT = ("no export", "no export again")
WITH = ("a Collector that answers", "none there", "stopped for 60 s", "one that never answers")


def run(missing: dict[str, str], course: Course = OFTEN) -> list[Verdict]:
    """Measure, print the table, judge."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(_collector(name)) for name in WITH}
        commands = {name: variables(**COUNTED) for name in WITHOUT}
        commands |= {
            name: variables(
                **COUNTED,
                OTEL_EXPORTER_OTLP_TIMEOUT=str(course.timeout),
                **variables_for(port, interval=course.interval),
            )
            for name, port in ports.items()
        }
        running = {
            name: subprocess.Popen(
                module("felt", "0", f"{course.first:.0f}", f"{course.last:.0f}"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environ,
            )
            for name, environ in commands.items()
        }
        _come_and_go(ports["stopped for 60 s"], course.outages, stack)
        felt = {name: Felt(**json.loads(process.communicate()[0])) for name, process in running.items()}
    rows = [
        (
            name,
            f"{found.p50 * 1e3:.2f}",
            f"{found.p99 * 1e3:.2f}",
            f"{found.resident:.2f}",
            f"{found.kept:.2f}",
        )
        for name, found in felt.items()
    ]
    head = (
        f"{course.last - course.first:.0f} s",
        "p50 delay, ms",
        "p99 delay, ms",
        "resident, MiB more",
        "allocated, MiB more",
    )
    table(head, rows)
    usual = [felt[name] for name in WITHOUT]
    p99, resident, kept = (max(getattr(each, name) for each in usual) for name in ("p99", "resident", "kept"))
    return [
        *(Verdict(f"p99 delay, {name}", felt[name].p99 / p99, DELAY) for name in WITH),
        *(Verdict(f"resident, {name}", felt[name].resident - resident, RESIDENT, " MiB") for name in WITH),
        *(Verdict(f"allocated, {name}", felt[name].kept - kept, KEPT, " MiB") for name in WITH),
    ]


def run_by_default(missing: dict[str, str]) -> list[Verdict]:
    """Do the same for ten minutes, with exports as often as by default."""
    return run(missing, BY_DEFAULT)


@contextlib.contextmanager
def _collector(name: str) -> Iterator[int]:
    """Yield the port of the Collector called ``name``."""
    if name == WITH[0]:
        with serve() as port:
            yield port
    elif name == "one that never answers":
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
            yield listener.getsockname()[1]  # the kernel accepts connections, but nobody reads
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        yield port


def _come_and_go(port: int, outages: Sequence[tuple[float, float]], stack: contextlib.ExitStack) -> None:
    for works, away in outages:
        with serve(port):
            time.sleep(works)
        time.sleep(away)
    stack.enter_context(serve(port))
