"""What a program feels of a Collector that is away or does not answer: the delay of its loop, and its memory.

The same program (``felt``) six times at once, on the same machine in the same minutes: twice without an
export, which says how much of a difference means anything, and with one to Collectors of which one is as it
should be. Exports are due thirty times as often as by default; more often, and each beat of a hundred would
have one beside it, which is what the p99 shows.

Memory is looked at from when the first export has arrived or failed: what that takes is taken once. The
Collector that is stopped has stopped by then, since a first failure takes something of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator

from .environment import module, variables
from .felt import DELAY, FIRST, KEPT, LAST, OUTAGES, RESIDENT, Felt
from .report import Verdict, table
from .sink import serve, variables_for

INTERVAL = 2000
"""Milliseconds between two exports of metrics, instead of 60,000."""
TIMEOUT = "2"
"""Seconds that an export waits for an answer, instead of 10: so it comes to as many."""
WITHOUT = ("no export", "no export again")
WITH = ("a Collector that answers", "none there", "stopped for 60 s", "one that never answers")


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print the table, judge."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(_collector(name)) for name in WITH}
        commands = {name: variables() for name in WITHOUT}
        commands |= {
            name: variables(OTEL_EXPORTER_OTLP_TIMEOUT=TIMEOUT, **variables_for(port, interval=INTERVAL))
            for name, port in ports.items()
        }
        running = {
            name: subprocess.Popen(
                module("felt"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environ,
            )
            for name, environ in commands.items()
        }
        _come_and_go(ports["stopped for 60 s"], stack)
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
        f"{LAST - FIRST:.0f} s",
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


@contextlib.contextmanager
def _collector(name: str) -> Iterator[int]:
    """Yield the port of the Collector called ``name``."""
    if name == WITH[0]:
        with serve() as port:
            yield port
    elif name == "one that never answers":
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
            yield listener.getsockname()[1]  # the kernel accepts, and nobody reads
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        yield port


def _come_and_go(port: int, stack: contextlib.ExitStack) -> None:
    for works, away in OUTAGES:
        with serve(port):
            time.sleep(works)
        time.sleep(away)
    stack.enter_context(serve(port))
