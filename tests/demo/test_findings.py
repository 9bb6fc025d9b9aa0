"""What the demo ends with: the verdict. Each fault alone is the first to be mended; together all are there.

A machine that is busy otherwise gives the service no CPU now and then, and the agent says so (``MACHINE``):
that is true, it is not the service's, and what follows from it is said below it. So is left out here.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from analysis_service.settings import Fault

from .programs import TIMEOUT, Program

MACHINE = {"LW107", "LW108", "LW109"}
"""Starved, suspended, and stalls that nothing explains most of: as when they compute and starve by halves."""

NAMED = {
    Fault.JSON: ("LW101", r"`json\.loads` in `parse` \(answers\.py:14\) blocked the event loop"),
    Fault.REPORT: ("LW101", r"`\S*ratio` in `merge` \(answers\.py:\d+\) blocked the event loop"),
    Fault.RETRY: ("LW102", r"`time\.sleep` in `LLM\.ask` \(llm\.py:39\) made the event loop wait"),
    Fault.POOL: ("LW30[12]", r"httpx pool `analysis_service\.workflow:38`"),
    Fault.FORGET: (
        "LW20[124]",
        r"of `Workflow\.(_run|_index_once_settled)`, created by `Jobs\.start` \(jobs\.py:26\)",
    ),
    Fault.CONTEXT: ("LW401", r"runs without request_id, which `(Workflow\._settle|Index\.add)`"),
}
"""By fault: the rule, and what its finding says."""
LEFT = r"the shutdown cut work short: .* `Workflow\._run`, created by `Jobs\.start`"
"""What the verdict says of a deploy."""

STARVED = {Fault.RETRY: r"main stalled \S+ \S+  (starved|unknown)  \S+\.LLM\.ask in time\.sleep$"}
"""By fault: the line on what is no finding of its own where waiting for a CPU took longer than the fault."""

FIVE_MINUTES = 300.0


@dataclass(frozen=True)
class Found:
    """One entry of the verdict."""

    rule: str
    severity: str
    summary: str
    follows: bool
    """Whether it is said to follow from the one above."""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start the demo in an empty directory; left to itself, it would run for long."""
    with ExitStack() as opened:

        def start(*options: str, seconds: float = 900, timeout: float = TIMEOUT) -> Program:
            words = ("loopwatch", "demo", f"--seconds={seconds}", *options)
            return Program(opened, tmp_path, *words, timeout=timeout)

        yield start


def live(fault: Fault) -> str:
    """The pattern of the line that tells of the finding as it begins."""
    rule, summary = NAMED[fault]
    return rf"  {rule} (warning|critical)  .*{summary}"


def verdict(text: str) -> list[Found]:
    """The entries at the end, in their order."""
    _, there, end = text.partition("What is wrong, and what to do:")
    assert there, text[-3000:]
    rows = re.findall(r"^ +(\d+\.|because of that:) (LW\d+) (\w+)  (.+)$", end, re.MULTILINE)
    found = [Found(rule, severity, summary, not mark[0].isdigit()) for mark, rule, severity, summary in rows]
    assert end.count("what to do: ") == len(found)
    assert end.count("(docs/rules/LW") == len(found)
    return found


def of_the_service(found: list[Found]) -> list[Found]:
    """Leave out what is of the machine, and what follows from that."""
    told = []
    by_machine = False
    for one in found:
        by_machine = one.rule in MACHINE or (one.follows and by_machine)
        if not by_machine:
            told.append(one)
    return told


@pytest.mark.parametrize("fault", NAMED)
def test_each_fault_alone_is_the_first_to_be_mended(demo: Callable[..., Program], fault: Fault) -> None:
    running = demo(f"--faults={fault.name.lower()}")
    text = running.line(live(fault))
    text += running.end(signal.SIGINT)
    found = verdict(text)
    rule, summary = NAMED[fault]
    told = of_the_service(found)
    # Maybe as what the machine has made worse: a loop without a CPU fills a pool, too.
    first = next(one for one in found if one in told or re.fullmatch(rule, one.rule))
    assert re.fullmatch(rule, first.rule), found
    assert re.search(summary, first.summary), found
    others = {rule for other, (rule, _) in NAMED.items() if other is not fault} - {rule}
    assert not [one for one in told for other in others if re.fullmatch(other, one.rule)]


def test_what_a_deploy_kills_is_the_first_to_be_mended(demo: Callable[..., Program]) -> None:
    """The LLM is so slow here that no document is done when the end comes."""
    running = demo("--faults=deploy", "--factor=3")
    text = running.line(r" [1-9]\d* accepted")
    text += running.end(signal.SIGINT)
    told = of_the_service(verdict(text))
    assert (told[0].rule, told[0].severity) == ("LW501", "critical")
    assert re.search(LEFT, told[0].summary)


def test_all_together_are_all_there(demo: Callable[..., Program]) -> None:
    running = demo()
    text = running.line(*(f"{live(fault)}|{STARVED.get(fault, live(fault))}" for fault in NAMED))
    text += running.end(signal.SIGINT)
    told = verdict(text)
    starved = any(one.rule in MACHINE for one in told)
    by_machine = [fault for fault, line in STARVED.items() if starved and re.search(line, text, re.MULTILINE)]
    for fault, (rule, summary) in (*NAMED.items(), (Fault.DEPLOY, ("LW501", LEFT))):
        found = [one for one in told if re.fullmatch(rule, one.rule) and re.search(summary, one.summary)]
        assert found or fault in by_machine, summary


@pytest.mark.long
def test_the_healthy_service_has_none_in_five_minutes(demo: Callable[..., Program]) -> None:
    running = demo("--faults=none", seconds=FIVE_MINUTES, timeout=FIVE_MINUTES + 120.0)
    text = running.end()
    assert running.status == 0
    assert of_the_service(verdict(text)) == []
    begun = set(re.findall(r"^ *[\d.]+ s  (LW\d+) \w+  ", text, re.MULTILINE))
    assert begun == set() or begun & MACHINE  # where that was not, nothing was found that is over by now


def test_the_healthy_service_has_none(demo: Callable[..., Program]) -> None:
    """In half a minute: two batches of 200 documents, and all rules have looked six times."""
    text = demo("--faults=none", seconds=30.0).end()
    assert of_the_service(verdict(text)) == []
    assert "nothing was found" in text or set(re.findall(r"  (LW\d+) ", text)) & MACHINE
