"""CPU time per request and throughput of a uvicorn and FastAPI server under wrk, agent on and off in turn.

Two bare servers and a watched one take turns, many times over, so that what the machine does meanwhile
falls on all three alike; the spread between the two bare ones says how much of a difference means
anything. Server and load are kept on a CPU each. CPU time is the server process's own, all its threads,
from before the load to after it.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from typing import IO

from .environment import module, variables
from .report import CannotRunError, Verdict, table

ROUNDS = 10
SECONDS = 3
CONNECTIONS = 16
WARM_UP = "1"
CPU_BUDGET = 1.02
TURNS = ("bare", "loopwatch", "bare again")


@dataclass(frozen=True, slots=True)
class Load:
    """What one bout of load gave."""

    cpu: float
    """Microseconds of CPU per request."""
    throughput: float
    """Requests per second."""


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print the table, judge loopwatch."""
    if shutil.which("wrk") is None:
        raise CannotRunError("wrk is not installed (Debian package wrk)")
    loads: dict[str, list[Load]] = {name: [] for name in TURNS}
    for number in range(ROUNDS):
        for name in (*TURNS[number % 3 :], *TURNS[: number % 3]):  # nobody always comes after the same
            loads[name].append(_load(name.removesuffix(" again")))
    cpu = {name: [load.cpu for load in runs] for name, runs in loads.items()}
    throughput = {name: [load.throughput for load in runs] for name, runs in loads.items()}
    table(
        ("", "CPU us/request", "lowest", "highest", "requests/s", "lowest", "highest"),
        [(name, *_spread(cpu[name]), *_spread(throughput[name])) for name in TURNS],
    )
    bare = cpu["bare"] + cpu["bare again"]
    between = statistics.median(cpu["bare again"]) / statistics.median(cpu["bare"])
    print(f"{ROUNDS} rounds; CPU per request of one bare server over the other: {between:.3f}x")
    slowest = min(throughput["bare"] + throughput["bare again"])
    return [
        Verdict(
            "CPU time per request", statistics.median(cpu["loopwatch"]) / statistics.median(bare), CPU_BUDGET
        ),
        Verdict(
            "slowest bare run over throughput", slowest / statistics.median(throughput["loopwatch"]), 1.0
        ),
    ]


def _spread(values: list[float]) -> tuple[str, str, str]:
    return f"{statistics.median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}"


def _load(name: str) -> Load:
    """Start a server, load it, and stop it."""
    command = _pinned(0, module("served", name))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables()) as server:
        try:
            url = _first_line(server.stdout)
            _wrk(url, WARM_UP)
            before = _cpu_time(server.pid)
            answered, seconds = _wrk(url, str(SECONDS))
            spent = _cpu_time(server.pid) - before
        finally:
            server.terminate()
    return Load(spent / answered * 1e6, answered / seconds)


def _pinned(cpu: int, command: list[str]) -> list[str]:
    cpus = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cpus[cpu % len(cpus)]), *command]


def _first_line(out: IO[str] | None) -> str:
    line = out.readline().strip() if out is not None else ""
    if not line:
        raise CannotRunError("the measured server did not start")
    return line


def _wrk(url: str, seconds: str) -> tuple[int, float]:
    """Load ``url``; return how many requests were answered, in how many seconds."""
    command = _pinned(1, ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", seconds, url])
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answered = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if answered is None or "Non-2xx" in said:
        raise CannotRunError(f"wrk said: {said}")
    return int(answered[1]), float(answered[2])


def _cpu_time(pid: int) -> float:
    """Return the seconds of CPU all threads of a process have used."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
