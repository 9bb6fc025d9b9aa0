"""What ``loopwatch doctor`` concludes from documents: findings, nothing wrong, or too little known to say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loopwatch._agent_records import Finding
from loopwatch._console.parts import evidence
from loopwatch._console.tables import paragraph
from loopwatch._document import Document, Writer
from loopwatch._measures import Distribution
from loopwatch._words import clean, number, percent, span

Outcome = Literal["findings", "nothing wrong", "not enough data"]

STATUS: dict[Outcome, int] = {"nothing wrong": 0, "findings": 1, "not enough data": 2}
"""Exit status of the command."""
ENOUGH = 15.0
"""Seconds for which a loop must have run before no findings means that nothing is wrong: rules look every few
seconds, and mostly report what they have seen twice."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one process."""

    document: Document
    outcome: Outcome
    findings: tuple[Finding, ...]
    """Causes before their consequences, as in a snapshot."""
    looked_at: tuple[str, ...]
    missing: tuple[str, ...]
    """What could not be observed, or not for long enough."""


def verdict(document: Document) -> Verdict:
    """Return the verdict from the last document of a process."""
    findings = document.snapshot.findings
    short = tuple(_too_little(document))
    outcome: Outcome = "nothing wrong"
    if any(one.severity != "info" for one in findings):
        outcome = "findings"
    elif short:
        outcome = "not enough data"
    return Verdict(document, outcome, findings, tuple(_looked_at(document)), (*short, *_blind(document)))


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome for several processes: findings in one of them are findings."""
    for outcome in ("findings", "not enough data", "nothing wrong"):
        if outcome in outcomes:
            return outcome
    return "not enough data"


def _too_little(document: Document) -> Iterator[str]:
    """Yield the reasons why no findings does not mean that nothing is wrong."""
    loops = document.snapshot.loops
    if not loops:
        yield "no event loop has run under the agent yet"
    elif not any(loop.running for loop in loops):
        yield "no event loop runs at the moment"
    elif (ran := _ran(document)) < ENOUGH:
        yield f"the event loop has run for {span(ran)}; {ENOUGH:.0f} s are needed: --for {ENOUGH - ran:.0f}"


def _ran(document: Document) -> float:
    """Return for how long the longest-running loop has run, as far as that was counted."""
    seconds: dict[str, float] = {}
    for point in document.snapshot.points.get("loop_time", ()):
        if not isinstance(point.value, Distribution):
            seconds[point.labels[0]] = seconds.get(point.labels[0], 0.0) + point.value
    return max(seconds.values(), default=0.0)


def _blind(document: Document) -> Iterator[str]:
    """Yield what the agent itself could not do."""
    points = document.snapshot.points
    for point in points.get("reader_up", ()):
        if point.value == 0:
            yield f"{' '.join(point.labels)} cannot be read in the version of the library that is installed"
    for point in points.get("internal_errors", ()):
        if not isinstance(point.value, Distribution) and point.value:
            yield f"loopwatch's {point.labels[0]} failed {number(point.value)} times: its log says why"


def _looked_at(document: Document) -> Iterator[str]:
    snapshot, threshold = document.snapshot, document.process.stall_threshold
    for loop in snapshot.loops:
        late = f"delay p99 {span(loop.delay_p99)}, max {span(loop.delay_max)} in the last minute"
        yield f"loop {loop.name} ({loop.kind}): {percent(loop.utilization)} busy, {late}"
    longest = max((stall.duration for stall in snapshot.stalls), default=None)
    worst_stall = f", the longest {span(longest)}" if longest is not None else ""
    yield f"stalls of more than {span(threshold)}: {number(len(snapshot.stalls))}{worst_stall}"
    live = sum(site.live for site in document.sites)
    created = sum(site.created for site in document.sites)
    yield f"live tasks: {number(live)}; created: {number(created)}, by places: {number(len(document.sites))}"
    yield f"lost tasks and contexts: {number(len(snapshot.lost))}"
    pending = sum(pool.pending or 0 for pool in snapshot.pools)
    yield f"pools and executors: {number(len(snapshot.pools))}; callers that wait for one: {number(pending)}"
    waiting = sum(wait.count for wait in document.waits)
    yield f"tasks that wait for a lock, a semaphore, an event or a queue: {number(waiting)}"


def lines(of: Verdict, width: int) -> Iterator[str]:
    """Yield the verdict in words."""
    process = of.document.process
    yield from paragraph(f"{of.document.snapshot.service_name}, pid {process.pid}: {_sentence(of)}", width)
    place = 0
    for one in of.findings:
        yield ""
        place += one.because is None
        yield from _finding(one, f"{place}. " if one.because is None else "   because of that: ", width)
    if of.outcome != "findings":
        yield ""
        yield "Looked at:"
        for each in of.looked_at:
            yield from paragraph(each, width, "  ", "    ")
    if of.missing:
        yield ""
        yield "Not seen:"
        for each in of.missing:
            yield from paragraph(each, width, "  ", "    ")


def _sentence(of: Verdict) -> str:
    if of.outcome == "not enough data":
        return "not enough data"
    if of.outcome == "nothing wrong":
        return "nothing wrong" + ("; to know:" if of.findings else "")
    roots = sum(one.because is None for one in of.findings)
    things = "1 thing is" if roots == 1 else f"{roots} things are"
    following = len(of.findings) - roots
    return f"{things} wrong" + (f", and {following} more because of that" if following else "")


def _finding(one: Finding, first: str, width: int) -> Iterator[str]:
    more = f" (and {number(one.more)} more like it)" if one.more else ""
    yield from paragraph(f"{one.rule} {one.severity}: {one.summary}{more}", width, first, "   ")
    if said := evidence(one.evidence):
        yield from paragraph(said, width, "   evidence: ", "     ")
    yield from paragraph(one.fix, width, "   what to do: ", "     ")
    yield f"   more: loopwatch explain {clean(one.rule)}"


def plain(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the verdicts in the form used for JSON."""
    return {
        "verdict": worst([each.outcome for each in verdicts]),
        "processes": [
            {
                "pid": each.document.process.pid,
                "service": each.document.snapshot.service_name,
                "verdict": each.outcome,
                "findings": [Writer().plain(one) for one in each.findings],
                "looked_at": list(each.looked_at),
                "not_seen": list(each.missing),
            }
            for each in verdicts
        ],
    }
