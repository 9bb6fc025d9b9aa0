"""CPU time per request and throughput of a uvicorn and FastAPI server under wrk, with the agent and without.

Two bare servers and two watched ones, of which one has no task records, run side by side and are loaded in
turn, a second each. What the machine does meanwhile falls on a whole round, so rounds are compared within
themselves: each watched server with the mean of the two bare ones, and these with each other, which says how
much of a difference means anything. The median is taken over many rounds and, since where its objects come to
lie is worth a per cent to a process, over many processes. Servers and load are kept on a CPU each. CPU time
is that of all threads of the server.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from .environment import module, variables
from .report import CannotRunError, Verdict, table
from .subjects import CORE

STARTS = 15
"""How often the servers are started anew."""
ROUNDS = 4
"""Between two starts."""
SECONDS = 1
CONNECTIONS = 16
CPU_BUDGET = 1.02
"""Of the agent without task records, whose throughput is to lie within the spread of bare, too..."""
TASKS_CPU_BUDGET = 1.06
"""...and with them: as for the instructions of a request-like unit."""
WATCHED = (CORE, "loopwatch")
SERVERS = ("bare", *WATCHED, "bare again")


@dataclass(frozen=True, slots=True)
class Load:
    """What one bout of load gave."""

    cpu: float
    """Microseconds of CPU per request."""
    throughput: float
    """Requests per second."""


Round = dict[str, Load]
"""One bout for each server, by name."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is running."""

    url: str
    cpu_clock: int

    def load(self) -> Load:
        """Load it for a while."""
        before = time.clock_gettime(self.cpu_clock)
        answered, seconds = _wrk(self.url)
        spent = time.clock_gettime(self.cpu_clock) - before
        return Load(spent / answered * 1e6, answered / seconds)


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure in all rounds."""

    medians: dict[str, float]
    """By server."""
    watched: dict[str, list[float]]
    """Each watched server's over the mean of the bare ones', round by round."""
    spread: list[float]
    """One bare server's over the other's."""

    @classmethod
    def of(cls, rounds: list[Round], figure: Callable[[Load], float]) -> Compared:
        """Compare ``figure`` within each of ``rounds``."""
        figures = [{name: figure(load) for name, load in each.items()} for each in rounds]
        return cls(
            {name: statistics.median(each[name] for each in figures) for name in SERVERS},
            {
                name: [2 * each[name] / (each["bare"] + each["bare again"]) for each in figures]
                for name in WATCHED
            },
            [each["bare again"] / each["bare"] for each in figures],
        )


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print the table, judge loopwatch."""
    if shutil.which("wrk") is None:
        raise CannotRunError("wrk is not installed (Debian package wrk)")
    rounds = [each for _ in range(STARTS) for each in _rounds()]
    cpu = Compared.of(rounds, lambda load: load.cpu)
    throughput = Compared.of(rounds, lambda load: load.throughput)
    over = "over bare, 8 in 10"
    table(
        (f"medians of {len(rounds)} rounds", "CPU us/request", over, "requests/s", over),
        [(name, *_cells(cpu, name), *_cells(throughput, name)) for name in SERVERS],
    )
    slower, spread = 1 / statistics.median(throughput.watched[CORE]), _deciles(throughput.spread)[1]
    return [
        Verdict(f"CPU time per request, {CORE}", statistics.median(cpu.watched[CORE]), CPU_BUDGET),
        Verdict(f"bare throughput over {CORE}, within the spread of bare", slower, spread),
        Verdict(
            "CPU time per request, loopwatch", statistics.median(cpu.watched["loopwatch"]), TASKS_CPU_BUDGET
        ),
    ]


def _cells(compared: Compared, server: str) -> tuple[str, str]:
    """Return what one server's figure was and how it compares, the second bare one's with the first's."""
    ratios = compared.spread if server == "bare again" else compared.watched.get(server, [])
    median = f"{compared.medians[server]:,.1f}"
    if not ratios:
        return median, ""
    lowest, highest = _deciles(ratios)
    return median, f"{statistics.median(ratios):.3f}x {lowest:.3f}-{highest:.3f}x"


def _deciles(values: list[float]) -> tuple[float, float]:
    """Return what lies between the lowest and the highest tenth of ``values``."""
    cuts = statistics.quantiles(values, n=10)
    return cuts[0], cuts[-1]


def _rounds() -> Iterator[Round]:
    """Start the servers, load each in turn, several times over, and stop them."""
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(_server(name.removesuffix(" again"))) for name in SERVERS}
        for server in servers.values():
            server.load()  # a warm-up
        for number in range(ROUNDS):
            first = number % len(SERVERS)  # nobody always comes after the same
            yield {name: servers[name].load() for name in (*SERVERS[first:], *SERVERS[:first])}


@contextlib.contextmanager
def _server(name: str) -> Iterator[Server]:
    command = _pinned(0, module("served", name))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables()) as process:
        try:
            # Linux: the clock of a process follows from its id, as clock_getcpuclockid(3) computes it.
            yield Server(_first_line(process.stdout), cpu_clock=(~process.pid << 3) | 2)
        finally:
            process.terminate()


def _pinned(cpu: int, command: list[str]) -> list[str]:
    cpus = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cpus[cpu % len(cpus)]), *command]


def _first_line(out: IO[str] | None) -> str:
    line = out.readline().strip() if out is not None else ""
    if not line:
        raise CannotRunError("the measured server did not start")
    return line


def _wrk(url: str) -> tuple[int, float]:
    """Load ``url``; return how many requests were answered, in how many seconds."""
    command = _pinned(1, ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", str(SECONDS), url])
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answered = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if answered is None or "Non-2xx" in said:
        raise CannotRunError(f"wrk said: {said}")
    return int(answered[1]), float(answered[2])
