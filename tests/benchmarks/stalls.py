"""Does the agent see every kind of stall, once, and report correctly how long, whose and why?

Each kind stalls a loop in a process of its own, for a known time in a known function for a known reason; the
truth comes from the script's own clocks and from how the stall was made, never from the agent. Usage::

    python tests/benchmarks/stalls.py [--runs 5] [--loop stock|uvloop|both] [--only KIND]

Prints every figure of every run, then the table, then each requirement. Exits with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import nan

from stall_kinds import KINDS, Kind, Truth
from stall_kinds._observe import Observation, Report, observe

LOOPS = ("stock", "uvloop")
TIMEOUT = 60.0
"""Seconds after which the process of one run counts as hung; the longest takes about 5."""
ATTEMPTS = 3
"""Attempts to make a stall that, by our own clocks, is as meant: other programs use CPU, too."""
MOST_ERROR = 0.10
MOST_ERROR_SECONDS = 0.020
LEAST_CAUSES_RIGHT = 0.9


@dataclass(frozen=True, slots=True)
class Result:
    """One stall that was made, and what was reported about it."""

    run: int
    loop: str
    kind: type[Kind]
    truth: Truth
    reports: list[Report]

    @property
    def said(self) -> Report | None:
        """The report to judge: the longest, if there are several."""
        return max(self.reports, key=lambda report: report.duration, default=None)

    @property
    def error(self) -> float | None:
        """Reported minus true duration, in seconds."""
        return self.said.duration - self.truth.duration if self.said else None

    @property
    def detected(self) -> bool:
        return bool(self.reports)

    @property
    def once(self) -> bool:
        return len(self.reports) == 1

    @property
    def culprit_right(self) -> bool:
        return self.said is not None and self.said.culprit == self.truth.culprit

    @property
    def duration_right(self) -> bool:
        return self.error is not None and abs(self.error) <= max(
            MOST_ERROR * self.truth.duration, MOST_ERROR_SECONDS
        )

    @property
    def cause_right(self) -> bool:
        return self.said is not None and self.said.cause in self.truth.causes

    @property
    def cause_not_wrong(self) -> bool:
        return self.said is None or self.said.cause in (*self.truth.causes, "unknown")

    @property
    def call_right(self) -> bool:
        return self.truth.call is None or (self.said is not None and self.said.call == self.truth.call)

    @property
    def sized(self) -> bool:
        low, high = self.kind.fits
        return low <= self.truth.duration <= high

    @property
    def as_meant(self) -> bool:
        """Whether the stall that was made is the one the kind describes."""
        return self.sized and (self.kind.cause == "starved" or "starved" not in self.truth.causes)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must hold for all results, or for a share of them."""

    name: str
    holds: Callable[[Result], bool]
    share: float = 1.0


REQUIREMENTS = (
    Requirement("true duration as meant, 0.2 to 0.8 s (short rows: just over 0.02 s)", lambda it: it.sized),
    Requirement("detected", lambda it: it.detected),
    Requirement("reported once", lambda it: it.once),
    Requirement("duration within 10 % or 20 ms", lambda it: it.duration_right),
    Requirement("culprit right", lambda it: it.culprit_right),
    Requirement("call right, where there is one", lambda it: it.call_right),
    Requirement("cause right, 9 in 10", lambda it: it.cause_right, LEAST_CAUSES_RIGHT),
    Requirement("cause never wrong (unknown is not)", lambda it: it.cause_not_wrong),
)


@dataclass(frozen=True, slots=True)
class Stray:
    """A report of a stall that nobody made and nobody felt."""

    run: int
    loop: str
    kind: type[Kind]
    report: Report


def watched(kind: type[Kind], loop: str) -> Observation:
    """Run one kind in a fresh process."""
    command = [sys.executable, __file__, "--observe", kind.__name__, "--loop", loop]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{kind.__name__} on {loop} failed with status {done.returncode}:\n{done.stderr}")
    return Observation.load(json.loads(done.stdout))


def judge(run: int, loop: str, kind: type[Kind], seen: Observation) -> tuple[list[Result], list[Stray]]:
    """Match what was made with what was reported, by loop and time."""
    results = []
    rest = seen.reports
    for truth in seen.truths:
        span = truth.started_at, truth.duration
        mine = [it for it in rest if it.loop_name == truth.loop_name and it.overlaps(*span)]
        rest = [it for it in rest if it not in mine]
        results.append(Result(run, loop, kind, truth, mine))
    # A busy machine can delay the loop as well: that is no false alarm if the service felt it, too.
    strays = [it for it in rest if not any(it.overlaps(*gap) for gap in seen.gaps)]
    return results, [Stray(run, loop, kind, it) for it in strays]


def short(name: str | None) -> str:
    """Drop the package from a culprit's name, for printing."""
    return "none" if name is None else name.removeprefix("stall_kinds.")


def origin(it: Result | Stray) -> str:
    """Return where something was seen."""
    return f"run {it.run}  {it.loop:6}  {it.kind.title:36}"


def told(result: Result) -> str:
    """Return all figures of one result in one line, with what is wrong about it at the end."""
    truth, said = result.truth, result.said
    line = f"{origin(result)} {truth.duration:.3f} s, {truth.cpu_share:4.0%} CPU"
    if said is None or result.error is None:
        return f"{line} | NOT DETECTED"
    line += (
        f" | said {said.duration:.3f} s ({1000 * result.error:+.0f} ms, {result.error / truth.duration:+.1%})"
        f", {said.cause}, {short(said.culprit)}, call {said.call}, {said.samples} samples"
    )
    missed = [requirement.name for requirement in REQUIREMENTS if not requirement.holds(result)]
    if missed:
        evidence = " ".join(f"{name}={value:.4g}" for name, value in said.evidence.items())
        line += (
            f"\n    MISSED: {'; '.join(missed)}"
            f"\n    truth: {' or '.join(truth.causes)}, {short(truth.culprit)}, call {truth.call}"
            f"\n    {len(result.reports)} reports; evidence: {evidence}"
            f"\n    stack: {' > '.join(map(short, said.stack)) or 'none'}"
        )
    return line


def told_stray(stray: Stray) -> str:
    """Return in words what was reported for no reason."""
    said = stray.report
    return (
        f"{origin(stray)} FALSE ALARM: {said.duration:.3f} s on {said.loop_name}, "
        f"{said.cause}, {short(said.culprit)}, {said.evidence}"
    )


def run_tables(kinds: list[type[Kind]], loops: list[str], runs: int) -> tuple[list[Result], list[Stray]]:
    """Run everything, run by run, printing each figure as it comes."""
    results: list[Result] = []
    strays: list[Stray] = []
    for run in range(1, runs + 1):
        for loop in loops:
            for kind in kinds:
                for attempt in range(1, ATTEMPTS + 1):
                    made, unasked = judge(run, loop, kind, watched(kind, loop))
                    for line in [*map(told, made), *map(told_stray, unasked)]:
                        print(line, flush=True)
                    strays += unasked
                    if all(it.as_meant for it in made):
                        break
                    print(f"    not the stall that was meant: attempt {attempt} of {ATTEMPTS}", flush=True)
                results += made
    return results, strays


def table(results: list[Result]) -> Iterator[str]:
    """Yield a summary by kind and loop."""
    form = "{:36} {:6} {:>8} {:>5} {:>9} {:>5} {:>19}   {}"
    yield form.format("kind", "loop", "detected", "once", "culprit", "call", "largest error", "cause")
    for kind, loop in dict.fromkeys((it.kind, it.loop) for it in results):
        row = [it for it in results if it.kind is kind and it.loop == loop]
        errors = [(it.error, it.truth.duration) for it in row if it.error is not None]
        error, true = max(errors, key=lambda pair: abs(pair[0]), default=(nan, nan))
        share = [f"{sum(flags)}/{len(row)}" for flags in zip(*map(_flags, row), strict=True)]
        causes = Counter(it.said.cause for it in row if it.said)
        yield form.format(
            kind.title,
            loop,
            *share,
            f"{1000 * error:+.0f} ms of {true:.3f} s",
            ", ".join(f"{cause} {count}" for cause, count in causes.most_common()) or "-",
        )


def _flags(result: Result) -> tuple[bool, ...]:
    return result.detected, result.once, result.culprit_right, result.call_right


def verdicts(results: list[Result], strays: list[Stray]) -> Iterator[tuple[bool, str]]:
    """Yield for each requirement whether it is met, and which rows miss it."""
    for requirement in REQUIREMENTS:
        missed = [it for it in results if not requirement.holds(it)]
        met = len(results) - len(missed) >= requirement.share * len(results)
        rows = Counter(f"{it.kind.title} on {it.loop}" for it in missed)
        where = "".join(f"; missed by {row} x{count}" for row, count in rows.items())
        yield met, f"{requirement.name}: {len(results) - len(missed)} of {len(results)}{where}"
    yield not strays, f"no false alarm beside: {len(strays)} seen"


def chosen(only: str | None) -> list[type[Kind]]:
    """Return the kinds whose name or title contains the text."""
    wanted = (only or "").lower()
    kinds = [kind for kind in KINDS if wanted in kind.__name__.lower() or wanted in kind.title.lower()]
    if not kinds:
        raise SystemExit(f"--only {only}: no such kind. Known: {', '.join(kind.__name__ for kind in KINDS)}.")
    return kinds


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory for loops of this kind."""
    if loop == "stock":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loop", choices=[*LOOPS, "both"], default="both")
    parser.add_argument("--only", metavar="KIND", help="part of a kind's class name or title")
    parser.add_argument("--observe", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.observe:
        (kind,) = (kind for kind in KINDS if kind.__name__ == options.observe)
        print(json.dumps(observe(kind, loop_factory(options.loop)).dump()))
        return 0
    loops = [loop for loop in LOOPS if options.loop in (loop, "both")]
    print(f"Python {platform.python_version()} on {platform.platform()}", flush=True)
    results, strays = run_tables(chosen(options.only), loops, options.runs)
    print("", *table(results), "", sep="\n")
    judged = list(verdicts(results, strays))
    for met, text in judged:
        print(f"{'met   ' if met else 'MISSED'}  {text}")
    return 0 if all(met for met, _ in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
