"""Shows what the agent says while it says it. Every line about a fault comes from the agent."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loopwatch._agent_records import Finding, Loop, Lost, Pool, Snapshot, Stall
from loopwatch._clock import SYSTEM, Clock
from loopwatch._records import DrainReport

from . import demo_findings, demo_lost, demo_pools, demo_text

REFRESH = 0.2
"""Seconds between two looks at the agent: often enough to show a stall while it goes on."""
SNAPSHOT_EVERY = 1.0
"""Seconds between two looks at all tasks, which cost some 20 us per live task."""
STATUS_EVERY = 5.0
"""Seconds between two lines on the loops' health if no live table can be drawn."""


class Agent(Protocol):
    """The part of the agent that is shown."""

    @property
    def prometheus_url(self) -> str | None:
        """URL of the metrics."""

    def loops(self) -> Sequence[Loop]:
        """Return the loops' health."""

    def stalls(self) -> Sequence[Stall]:
        """Return the last stalls, those in progress at the end."""

    def lost(self) -> Sequence[Lost]:
        """Return the last losses."""

    def pools(self) -> Sequence[Pool]:
        """Return all pools and executors."""

    def drains(self) -> Sequence[DrainReport]:
        """Return the reports of the last drains."""

    def snapshot(self) -> Snapshot:
        """Return everything, including counts of tasks."""


class View:
    """Prints each stall once, the first loss of each kind, a pool when it falls short; below, live tables.

    The first of each kind comes with its stack. At the end comes what was found wrong, and what to do.

    All that is printed about the service comes from the agent, and about the clients from themselves.
    """

    def __init__(self, agent: Agent, console: Console, clock: Clock = SYSTEM) -> None:
        self._agent = agent
        self._console = console
        self._clock = clock
        self._start = clock.monotonic()
        self._status_at = self._start
        self._told: set[tuple[str, float]] = set()
        self._culprits: dict[tuple[str, str | None, str], demo_text.Culprit] = {}
        self._announced: set[str] = set()
        self._last_lost: Sequence[Lost] = ()
        self._lost: dict[tuple[object, ...], demo_lost.Kind] = {}
        self._short: set[tuple[str, str]] = set()
        self._found: set[tuple[str, tuple[str, ...]]] = set()
        self._points: demo_lost.Points = {}
        self._findings: Sequence[Finding] = ()
        self._snapshot_at = -math.inf
        self._clients = ""
        self._metrics: str | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock.monotonic() - self._start

    def hear(self, clients: str) -> None:
        """Note what the clients say about themselves, to be shown with the rest. Any thread."""
        self._clients = clients

    def introduce(self, service: str) -> None:
        """Print what is about to run."""
        self._print(service)
        self._print("All it says to loopwatch is loopwatch.install(); what follows is the answer.")
        self._print("The demo itself has its request_id watched, and drains when it has shut down.\n")

    def run(self, ended: threading.Event) -> None:
        """Look and show until ``ended``."""
        if not self._console.is_terminal:
            while not ended.wait(REFRESH):
                self.step()
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not ended.wait(REFRESH):
                self._tell_new()
                live.update(self._picture(), refresh=True)

    def step(self) -> None:
        """Print what is new, and from time to time the loops' health, as a live table would show."""
        self._tell_new()
        for stall in self._going_on():
            if demo_text.function(stall) not in self._announced:
                self._announced.add(demo_text.function(stall))
                self._print(self._stamp(demo_text.headline(stall)))
        if self._clock.monotonic() - self._status_at >= STATUS_EVERY:
            self._status_at = self._clock.monotonic()
            said = [demo_text.status(loop) for loop in self._agent.loops()]
            if lost := demo_lost.lost_so_far(self._facts()):
                said.append(f"lost so far: {lost}")
            self._print(self._stamp(f"{'; '.join(said)} {self._of_clients()}".strip()))

    def summary(self) -> None:
        """Print the summary: totals, drains and findings."""
        self._tell_new()
        self._snapshot_at = -math.inf
        self._print(Text(f"\nAfter {self.elapsed:.0f} s the agent says:", "bold"))
        for table in self._tables():
            self._console.print(Padding(table, (1, 0, 0, 2), expand=False))
        if lost := demo_lost.lost_so_far(self._facts()):
            self._print(f"\n  lost in all: {lost}")
        for report in self._agent.drains():
            self._print("")
            for line in demo_lost.drain_lines(report):
                self._print(Text("  ") + line)
        if not self._agent.loops():
            self._print("  nothing: it watches no event loop")
            return
        if not self._culprits and not self._lost:
            self._print("\n  no stall, and nothing was lost")
        self._tell_what_is_wrong()

    def _tell_what_is_wrong(self) -> None:
        """Print the verdict: what to fix, in order."""
        self._print(Text("\nWhat is wrong, and what to do:", "bold"))
        for line in demo_findings.lines(self._findings):
            self._print(line)
        if not self._findings:
            self._print("  nothing was found")

    def _tell_new(self) -> None:
        if self._metrics is None and (url := self._agent.prometheus_url):
            self._metrics = url
            self._print(self._stamp(f"metrics at {url}"))
        for stall in self._agent.stalls():
            key = (stall.loop_name, stall.started_at)
            if not stall.in_progress and key not in self._told:
                self._told.add(key)
                self._tell(stall)
        lost = self._agent.lost()
        before = set(map(id, self._last_lost))
        self._last_lost = lost  # held, so that their ids are not reused
        for one in lost:
            if id(one) not in before:
                self._tell_lost(one)
        for pool in self._agent.pools():
            if demo_pools.short(pool) and (pool.kind, pool.label) not in self._short:
                self._short.add((pool.kind, pool.label))
                self._print(self._stamp(demo_pools.headline(pool)))
                self._console.print(Padding(demo_pools.details(pool), (0, 0, 0, 12), expand=False))
        self._look()
        for finding in self._findings:
            if (finding.rule, finding.key) not in self._found:
                self._found.add((finding.rule, finding.key))
                self._print(self._stamp(demo_findings.headline(finding)))

    def _tell(self, stall: Stall) -> None:
        """Print one stall, with its stack if it is the first of its kind."""
        key = (demo_text.function(stall), stall.call, stall.cause)
        first = key not in self._culprits
        self._culprits.setdefault(key, demo_text.Culprit(stall)).add(stall)
        self._print(self._stamp(demo_text.headline(stall)))
        if first:
            self._console.print(Padding(demo_text.details(stall), (0, 0, 0, 12), expand=False))

    def _tell_lost(self, lost: Lost) -> None:
        """Print the first loss of its kind, with its stack; count the others."""
        key = demo_lost.Kind.key(lost)
        first = key not in self._lost
        kind = self._lost.setdefault(key, demo_lost.Kind(lost))
        kind.count += 1
        if first:
            self._print(self._stamp(demo_lost.headline(lost)))
            self._console.print(Padding(demo_lost.details(lost), (0, 0, 0, 12), expand=False))

    def _picture(self) -> Group:
        """Draw the live table: the summary as of now, and the stalls in progress."""
        tables = [Padding(table, (1, 0, 0, 0)) for table in self._tables()]
        now = [demo_text.headline(stall) for stall in self._going_on()]
        foot = Text(f"{self.elapsed:.0f} s {self._of_clients()}", "dim")
        return Group(*tables, Text(), *now or [Text("no stall right now", "dim")], foot)

    def _tables(self) -> list[Table]:
        """Draw everything the agent knows that fits a table; empty ones are left out."""
        tables = (
            demo_text.loops_table(self._agent.loops()),
            demo_text.culprits_table(self._culprits.values()),
            demo_lost.lost_table(self._lost.values(), self._facts()),
            demo_lost.sites_table(self._facts()),
            demo_pools.pools_table(self._agent.pools()),
        )
        return [table for table in tables if table.row_count]

    def _facts(self) -> demo_lost.Points:
        """Return the agent's facts, at most a second old."""
        self._look()
        return self._points

    def _look(self) -> None:
        """Take a snapshot, if the last one is a second old."""
        now = self._clock.monotonic()
        if now - self._snapshot_at >= SNAPSHOT_EVERY:
            snapshot = self._agent.snapshot()
            self._points, self._findings, self._snapshot_at = snapshot.points, snapshot.findings, now

    def _going_on(self) -> list[Stall]:
        return [stall for stall in self._agent.stalls() if stall.in_progress]

    def _stamp(self, said: str | Text) -> Text:
        return Text.assemble(f"{self.elapsed:6.1f} s  ", said)

    def _of_clients(self) -> str:
        return f"(clients: {self._clients})" if self._clients else ""

    def _print(self, line: str | Text) -> None:
        self._console.print(line, soft_wrap=True)
