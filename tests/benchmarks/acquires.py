"""What the agent adds to the cost of acquiring a free connection, with the libraries' own code (``pools``).

Microseconds are those of the fastest of several short turns, and the median over many such rounds.
Instructions tell the same on a machine where no turn is undisturbed; they exclude those of the kernel.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.pools import servers

from . import environment
from .callgrind import Callgrind
from .pools import POOLS, SIZE, WHOLE
from .report import CannotRunError, Verdict, table

BUDGET = 1.0
LIBRARIES = ["asyncpg", "SQLAlchemy[asyncio]", "redis", "aiohttp", "httpx", "sniffio"]
ROUNDS, TURNS = 40, 10
SEEDS = ("0", "1", "2", "3", "4")
"""Python hash seeds, each in its own process: the placement of objects and of functions' code in memory is
worth half a microsecond, for as long as a process lives. The median of the processes counts."""
COUNTED = 7
"""Turns whose instructions are counted in one round. The one with fewest counts."""


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """Start the servers; yield their URLs by the kind of reader."""
    with ExitStack() as stack:
        try:
            yield {
                "asyncpg": stack.enter_context(servers.postgres()),
                "redis": stack.enter_context(servers.redis()),
                "aiohttp": stack.enter_context(servers.http(100)),
            }
        except pytest.skip.Exception as missing:
            raise CannotRunError(str(missing)) from None


def timed(name: str, url: str) -> dict[str, float]:
    """Return microseconds per acquire, bare and added by the agent."""
    command = environment.module("pools", name, str(ROUNDS), str(TURNS), url)
    found: list[dict[str, float]] = []
    for seed in SEEDS:
        env = environment.variables(PYTHONHASHSEED=seed)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
        found.append(json.loads(done.stdout))
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def counted(callgrind: Callgrind, name: str, url: str) -> tuple[float, float]:
    """Return instructions per acquire, bare and added by the agent."""
    command = environment.module("pools", name, "1", str(COUNTED), url)
    turns = callgrind.count(command, environment.variables()).parts[1::2]
    bare, ours = min(turns[:COUNTED]), min(turns[COUNTED : 2 * COUNTED])
    return bare / SIZE, ours / SIZE


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print, judge."""
    reason = environment.install(LIBRARIES)
    if reason is not None:
        raise CannotRunError(f"the libraries cannot be installed: {reason}")
    rows, verdicts = [], []
    with running() as urls, Callgrind() as callgrind:
        for name, (kind, _) in (POOLS | WHOLE).items():
            url = urls.get(kind, "")
            times, (bare, ours) = timed(name, url), counted(callgrind, name, url)
            added = times["added"]
            rows.append(
                (
                    name,
                    f"{times['bare']:.2f}",
                    f"{added:.2f}",
                    f"{bare:,.0f}",
                    f"{ours - bare:,.0f}",
                )
            )
            if name in POOLS:
                verdicts.append(Verdict(f"added to {name}", added, BUDGET, " us"))
    table(("acquires", "bare, us", "added, us", "bare, instr.", "added, instr."), rows)
    return verdicts
