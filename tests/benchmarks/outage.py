"""What a program feels of a Collector that is away or does not answer: the delay of its loop, and its memory.

The same program six times at once, on the same machine in the same minutes: twice without an export, which
says how much of a difference means anything, and with one to Collectors of which one is as it should be.
Exports are due each second, sixty times as often as they are by default.

Memory is what is resident. It is looked at from when the first export has arrived or failed, since what that
takes is taken once, and in two halves of the time, since what comes once does not come in both. What it grows
by without an export are the stalls, of which the agent keeps 256: one of each second here. The one that is
stopped midway has all its failures in the time that is measured, the others had their first before.

So what an export does to memory is the difference to none, and what an outage does that to a Collector that
answers. The number of objects grows alike in all of them, by those stalls. The rest is what comes and goes
with each export, between what stays: memory that is free again, but not given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .environment import module, variables
from .report import Verdict, table
from .sink import serve, variables_for
from .subjects import SUBJECTS

HEALTHY, AWAY = 15.0, 60.0
"""Seconds before and after the outage, and of that."""
SECONDS = HEALTHY + AWAY + HEALTHY
WARM_UP = 15.0
"""Seconds after which the first export is over: they have 10 for it."""
BEAT = 0.01
"""Seconds the program's timer is set to."""
STALL = 0.15
"""Seconds it blocks its loop, each second: there is something to tell."""
HALVES = ("grown in the first half", "in the second")
WITHOUT = ("no export", "no export again")
WITH = ("a Collector that answers", "none there", "stopped for 60 s", "one that never answers")
DELAY_BUDGET = 1.5
"""The p99 delay with an export, over the worse one without: on a machine that does other things as well."""
MEMORY_BUDGET = 0.75
"""MiB that memory may grow by after the warm-up, beyond what it does without an export."""


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print the table, judge."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(_collector(name)) for name in WITH}
        commands = {name: variables() for name in WITHOUT}
        commands |= {name: variables(**variables_for(port, interval=1000)) for name, port in ports.items()}
        running = {
            name: subprocess.Popen(
                module("outage"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
            )
            for name, environ in commands.items()
        }
        _stop_for_a_while(ports["stopped for 60 s"], stack)
        felt = {name: json.loads(process.communicate()[0]) for name, process in running.items()}
    rows = [
        (
            name,
            f"{found['p50'] * 1e3:.2f}",
            f"{found['p99'] * 1e3:.2f}",
            *(f"{found[half]:.2f}" for half in HALVES),
        )
        for name, found in felt.items()
    ]
    table((f"{SECONDS:.0f} s", "p50 delay, ms", "p99 delay, ms", *(f"{half}, MiB" for half in HALVES)), rows)
    least = max(felt[name]["p99"] for name in WITHOUT)
    grown = {name: sum(found[half] for half in HALVES) for name, found in felt.items()}
    usual = [grown[name] for name in WITHOUT]
    print(f"without an export: two runs {abs(usual[0] - usual[1]):.2f} MiB apart")
    return [
        *(Verdict(f"p99 delay, {name}", felt[name]["p99"] / least, DELAY_BUDGET) for name in WITH),
        *(Verdict(f"memory, {name}", grown[name] - max(usual), MEMORY_BUDGET, " MiB") for name in WITH),
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


def _stop_for_a_while(port: int, stack: contextlib.ExitStack) -> None:
    with serve(port):
        time.sleep(HEALTHY)
    time.sleep(AWAY)
    stack.enter_context(serve(port))


def _memory() -> float:
    """Return the MiB this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def _feel() -> dict[str, float]:
    """Return quantiles of how late a timer is, stalls aside, and by how much memory grew, in MiB."""
    late: list[float] = []
    start = time.perf_counter()
    stall_at, looks = start + 1.0, [WARM_UP, (WARM_UP + SECONDS) / 2, SECONDS]
    memory: list[float] = []
    while (now := time.perf_counter()) < start + SECONDS:
        if now >= stall_at:
            time.sleep(STALL)
            stall_at += 1.0
        if now > start + looks[len(memory)]:
            memory.append(_memory())
        due = time.perf_counter() + BEAT
        await asyncio.sleep(BEAT)
        late.append(time.perf_counter() - due)
    late.sort()
    first, middle, last = *memory, _memory()
    grown = dict(zip(HALVES, (middle - first, last - middle), strict=True))
    return {"p50": late[len(late) // 2], "p99": late[len(late) * 99 // 100], **grown}


if __name__ == "__main__":
    SUBJECTS["loopwatch"].prepare()
    json.dump(asyncio.run(_feel()), sys.stdout)
