"""CPU time per request and throughput of a uvicorn and FastAPI server under wrk, with the agent and without.

One server cycles through four subjects, a second each: bare, watched without task records, bare again,
watched. It is the same process, since the placement of its objects in memory is worth several per cent: the
agent is installed and uninstalled while it serves. This leaves out what the agent's modules alone add to
garbage collections, where they are a hundredth of all objects; the section on memory includes them. Whatever
else the machine does affects a whole round, so each round is compared within itself: each watched bout with
the mean of the two bare ones, and the bare ones with each other, which shows how large a difference must be
to mean anything. The median is taken over many rounds, of several processes. Server and load are pinned to a
CPU each. CPU time is that of all threads of the server.
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
from http import HTTPStatus
from http.client import HTTPConnection
from typing import IO
from urllib.parse import quote, urlsplit

from .environment import module, variables
from .report import CannotRunError, Verdict, table
from .subjects import CORE

STARTS = 15
"""How often the server is started."""
ROUNDS = 4
"""Rounds per start."""
SECONDS = 1
WARM_UP = 300
"""Requests after a change of subject that do not count, while caches and specialised bytecode settle."""
CONNECTIONS = 16
PATH = "/items/7?q=x"
CPU_BUDGET = 1.02
"""For the agent without task records, whose throughput must also lie within the spread of bare..."""
TASKS_CPU_BUDGET = 1.06
"""...and with them: as for the instructions of a request-like unit."""
WATCHED = (CORE, "loopwatch")
SUBJECTS = ("bare", CORE, "bare again", "loopwatch")


@dataclass(frozen=True, slots=True)
class Load:
    """The figures of one bout of load."""

    cpu: float
    """Microseconds of CPU per request."""
    throughput: float
    """Requests per second."""


Round = dict[str, Load]
"""One bout under each subject, by name."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    cpu_clock: int

    def load(self, subject: str) -> Load:
        """Load it for a while under a subject."""
        self._become(subject.removesuffix(" again"))
        before = time.clock_gettime(self.cpu_clock)
        answered, seconds = _wrk(self.url)
        spent = time.clock_gettime(self.cpu_clock) - before
        return Load(spent / answered * 1e6, answered / seconds)

    def _become(self, subject: str) -> None:
        """Switch it to another subject, and let it warm up."""
        address = urlsplit(self.url)
        with contextlib.closing(HTTPConnection(str(address.hostname), address.port)) as connection:
            for method, path in [("PUT", f"/subject/{quote(subject)}"), *[("GET", PATH)] * WARM_UP]:
                connection.request(method, path)
                answer = connection.getresponse()
                answer.read()
                if answer.status != HTTPStatus.OK:
                    raise CannotRunError(f"the measured server answered {answer.status} to {method} {path}")


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure, over all rounds."""

    medians: dict[str, float]
    """By subject."""
    watched: dict[str, list[float]]
    """Ratio of each watched bout to the mean of the bare ones, round by round."""
    spread: list[float]
    """Ratio of one bare bout to the other, round by round."""

    @classmethod
    def of(cls, rounds: list[Round], figure: Callable[[Load], float]) -> Compared:
        """Compare ``figure`` within each of ``rounds``."""
        figures = [{name: figure(load) for name, load in each.items()} for each in rounds]
        return cls(
            {name: statistics.median(each[name] for each in figures) for name in SUBJECTS},
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
        [(name, *_cells(cpu, name), *_cells(throughput, name)) for name in SUBJECTS],
    )
    slower, spread = 1 / statistics.median(throughput.watched[CORE]), _deciles(throughput.spread)[1]
    return [
        Verdict(f"CPU time per request, {CORE}", statistics.median(cpu.watched[CORE]), CPU_BUDGET),
        Verdict(f"bare throughput over {CORE}, within the spread of bare", slower, spread),
        Verdict(
            "CPU time per request, loopwatch", statistics.median(cpu.watched["loopwatch"]), TASKS_CPU_BUDGET
        ),
    ]


def _cells(compared: Compared, subject: str) -> tuple[str, str]:
    """Return a subject's figure and how it compares; the second bare one is compared with the first."""
    ratios = compared.spread if subject == "bare again" else compared.watched.get(subject, [])
    median = f"{compared.medians[subject]:,.1f}"
    if not ratios:
        return median, ""
    lowest, highest = _deciles(ratios)
    return median, f"{statistics.median(ratios):.3f}x {lowest:.3f}-{highest:.3f}x"


def _deciles(values: list[float]) -> tuple[float, float]:
    """Return the first and the last decile of ``values``."""
    cuts = statistics.quantiles(values, n=10)
    return cuts[0], cuts[-1]


def _rounds() -> Iterator[Round]:
    """Start the server, load it under each subject in turn, several times over, and stop it."""
    with _server() as server:
        for name in SUBJECTS:
            server.load(name)  # a warm-up
        for number in range(ROUNDS):
            first = number % len(SUBJECTS)
            yield {name: server.load(name) for name in (*SUBJECTS[first:], *SUBJECTS[:first])}


@contextlib.contextmanager
def _server() -> Iterator[Server]:
    command = _pinned(0, module("served"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables()) as process:
        try:
            # Linux: the CPU clock of a process follows from its pid, as computed by clock_getcpuclockid(3).
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
    """Load the server; return how many requests were answered, in how many seconds."""
    command = _pinned(1, ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", str(SECONDS), url + PATH])
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answered = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if answered is None or "Non-2xx" in said:
        raise CannotRunError(f"wrk said: {said}")
    return int(answered[1]), float(answered[2])
