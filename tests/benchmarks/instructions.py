"""Instructions per unit of work, bare and under each agent.

Wall time on a shared machine says little about a cost of a few per cent; instruction counts are reproducible
to a few in a thousand. Each agent runs every unit N times and then 3N times in one process under callgrind,
each between two marks; the difference over 2N is the cost of one unit. Start-up, warm-up and the marks
themselves cancel out. All threads count, and the clock is slowed down along with the code (``callgrind``), so
that the agents' timers fire as often per unit as they do natively. User-space instructions only: what an
agent makes the kernel do shows in ``server`` and ``idle``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .callgrind import SLOWDOWN, Callgrind
from .environment import module, variables
from .report import CannotRunError, Verdict, table
from .subjects import SUBJECTS
from .units import TIMES, UNITS

BUDGETS = {"iteration": 1.10, "task": 1.75, "echo": 1.08, "request": 1.06}
"""The aim is 1.5 for the task, 1.03 for the request."""
AFTER_STALLS = 1.10
MEASURED = ("iteration", "callback", "task", "echo", "lone echo", "request")
WITH_STALLS = (*MEASURED, "stalls", "iteration")
"""What loopwatch runs: the units of all subjects, then stalls, then the first unit again."""

LEFT_OUT = {"livekit monitor"}
"""Comes with its whole framework, whose import takes minutes under callgrind; ``idle`` includes it."""

SEEDS = ("0", "1", "2")
"""Python hash seeds. The placement of objects in memory, and its effect on CPython's caches, is worth a per
cent or two: subjects that a budget compares are counted with each seed, and the median is taken."""
JUDGED = ("bare", "loopwatch")

WORK = 1_700_000
"""Instructions in 100 us of work, on an idle core of the machine that the budgets were set on."""

NATIVE_SCALE = 5.0
NATIVE_RUNS = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What one unit costs."""

    instructions: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Subject:
    """The measured cost of one agent."""

    counted: dict[str, Cost]
    """By unit, under callgrind; seconds by the clock of the process."""
    after_stalls: Cost | None
    native: dict[str, float]
    """Seconds by unit, without callgrind."""


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure all subjects, print the tables, judge loopwatch."""
    names = [name for name in SUBJECTS if name not in missing and name not in LEFT_OUT]
    with Callgrind() as callgrind, ThreadPoolExecutor(os.cpu_count()) as pool:
        turns = _calibrate(callgrind)
        native = [_natively(name, turns) for name in names]
        counted = pool.map(lambda name: _counted(callgrind, name, turns), names)
        subjects = {
            name: Subject(costs, after, seconds)
            for name, (costs, after), seconds in zip(names, counted, native, strict=True)
        }
    _print(subjects, missing)
    ours, bare = subjects["loopwatch"].counted, subjects["bare"].counted
    verdicts = [
        Verdict(f"instructions per {unit}", ours[unit].instructions / bare[unit].instructions, budget)
        for unit, budget in BUDGETS.items()
    ]
    return [*verdicts, _after_stalls(subjects["loopwatch"])]


def _calibrate(callgrind: Callgrind) -> int:
    """Return how many turns of ``units.work`` are 100 us of work: by instructions, like all compared with it.

    By the clock there were fewer the busier the machine was, even in the fastest of many runs, and so the
    agent's share of a request was larger.
    """
    steps = "work(1000); mark(); work(1000); mark(); work(3000); mark()"
    program = f"from {__package__}.units import mark, work; {steps}"
    _, once, thrice = callgrind.count([module("units")[0], "-c", program], variables()).parts
    return round(WORK / ((thrice - once) / 2000))


def _command(name: str, scale: float, turns: int, plan: tuple[str, ...]) -> list[str]:
    return module("units", name, str(scale), str(turns), *plan)


def _units(unit: str, scale: float = 1.0) -> int:
    return int(UNITS[unit][1] * scale) * (TIMES[1] - TIMES[0])


def _natively(name: str, turns: int) -> dict[str, float]:
    """Return seconds per unit, from the fastest of a few runs."""
    best: dict[str, float] = {}
    for _ in range(NATIVE_RUNS):
        command = _command(name, NATIVE_SCALE, turns, MEASURED)
        done = subprocess.run(command, env=variables(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotRunError(f"{name}: {done.stderr.strip()[-2000:]}")
        seconds = json.loads(done.stdout.splitlines()[-1])
        for i, unit in enumerate(MEASURED):
            each = (seconds[2 * i + 1] - seconds[2 * i]) / _units(unit, NATIVE_SCALE)
            best[unit] = min(each, best.get(unit, each))
    return best


def _counted(callgrind: Callgrind, name: str, turns: int) -> tuple[dict[str, Cost], Cost | None]:
    """Return the cost of each unit, and of an iteration after the stalls if there were any."""
    plan = WITH_STALLS if name == "loopwatch" else MEASURED
    seeds = SEEDS if name in JUDGED else SEEDS[:1]
    runs = [_count(callgrind, _command(name, 1.0, turns, plan), plan, seed) for seed in seeds]
    costs = [
        Cost(
            statistics.median(run[i].instructions for run in runs),
            statistics.median(run[i].seconds for run in runs),
        )
        for i in range(len(plan))
    ]
    return dict(zip(MEASURED, costs, strict=False)), costs[-1] if plan is WITH_STALLS else None


def _count(callgrind: Callgrind, command: list[str], plan: tuple[str, ...], seed: str) -> list[Cost]:
    counts = callgrind.count(command, variables(PYTHONHASHSEED=seed))
    seconds = json.loads(counts.stdout.splitlines()[-1])
    between_marks = counts.parts[1::2]
    return [
        Cost(
            instructions=(between_marks[2 * i + 1] - between_marks[2 * i]) / _units(unit),
            seconds=(seconds[2 * i + 1] - seconds[2 * i]) / _units(unit),
        )
        for i, unit in enumerate(plan)
    ]


def _print(subjects: dict[str, Subject], missing: dict[str, str]) -> None:
    def show(title: str, value: Callable[[Subject, str], float], digits: int) -> None:
        bare = subjects["bare"]
        rows = [
            [
                name,
                *(
                    f"{value(it, unit):,.{digits}f} {value(it, unit) / value(bare, unit):6.3f}x"
                    for unit in MEASURED
                ),
            ]
            for name, it in subjects.items()
        ]
        rows += [[name, *["not installable"] * len(MEASURED)] for name in missing if name not in LEFT_OUT]
        print(f"\n{title}")
        table(["", *MEASURED], rows)

    show("instructions per unit", lambda it, unit: it.counted[unit].instructions, 0)
    show(
        "microseconds per unit natively, fastest run; indicative only",
        lambda it, unit: it.native[unit] * 1e6,
        2,
    )
    speed = ", ".join(
        f"{unit} {subjects['bare'].counted[unit].seconds / subjects['bare'].native[unit]:.1f}"
        for unit in MEASURED
    )
    print(f"\nthe clock, slowed down {SLOWDOWN}-fold, ran faster than the code by a factor of: {speed}")


def _after_stalls(ours: Subject) -> Verdict:
    assert ours.after_stalls is not None
    before, after = ours.counted["iteration"].instructions, ours.after_stalls.instructions
    print(f"instructions per iteration before stalls {before:,.0f}, after them {after:,.0f}")
    return Verdict("instructions per iteration after stalls, against before", after / before, AFTER_STALLS)
