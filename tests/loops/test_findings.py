"""What is wrong with a real program is found within seconds: in the agent's views, the log and the metrics.

A machine busy with other work holds up the loop, too: that is found as well, but not asked for here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Finding
from tests.machine import CpuWaits

from .child import Child

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Eventually = Callable[[Callable[[], Any]], Any]

IN_TIME = 15.0
"""Seconds until what goes wrong all the time is in the log: three looks, on a machine that is busy."""


def waits(seconds: float) -> None:
    time.sleep(seconds)


def of(rule: str, agent: Agent) -> list[Finding]:
    return [finding for finding in agent.findings() if finding.rule == rule]


async def wait_often() -> None:
    """Block the loop as often as it takes for a finding; on a busy machine it may wait longer for a CPU."""
    for _ in range(4):
        waits(0.15)
        await asyncio.sleep(0.05)


async def found_by(agent: Agent) -> tuple[list[Finding], int]:
    """Block the loop until that is found; return how often it was, too."""
    found: list[Finding] = []
    rounds = 0
    while not found and rounds < 100:
        await wait_often()
        rounds += 1
        found = await asyncio.to_thread(of, "LW102", agent)
    return found, 4 * rounds


def test_a_blocking_call_is_found_with_what_to_do(run: Run, agent: Agent) -> None:
    [found], times = run(found_by(agent))
    assert found.key == (f"{__name__}.waits", "time.sleep")
    assert 3 <= found.count <= times  # of one, a busy machine may have been the larger part
    assert 0.13 * found.count <= found.evidence["total_s"]  # on uvloop, 20 ms less may be seen
    assert "await asyncio.sleep" in found.fix
    assert re.fullmatch(
        r"`time\.sleep` in `waits` \(test_findings\.py:\d+\) made the event loop wait \d times in the last "
        r"\S+ m?s, worst \S+ m?s",
        found.summary,
    )


def test_a_computation_that_holds_the_gil_is_not_sent_to_a_thread(run: Run, agent: Agent) -> None:
    text = json.dumps([{"key": number, "text": "x" * 20} for number in range(500_000)])

    def parses() -> None:
        json.loads(text)

    async def main() -> list[Finding]:
        for _ in range(60):
            parses()
            await asyncio.sleep(0.01)
            if found := await asyncio.to_thread(of, "LW101", agent):
                return found
        return []

    found = run(main())
    if not found:  # on a machine so busy that the loop waited longer for a CPU than it computed
        assert {stall.cause for stall in agent.stalls()} & {"starved", "unknown", "gc"}
        return
    assert found[0].key[1] == "json.loads"
    assert "process pool" in found[0].fix
    if "while holding the GIL" in found[0].summary:
        assert found[0].fix == "move it to a process pool: a thread does not help, the GIL is held"


def test_it_is_found_while_it_lasts(
    run: Run, agent: Agent, eventually: Eventually, cpu_waits: CpuWaits
) -> None:
    """From another thread: the loop has not served since."""

    async def main() -> Finding:
        await asyncio.sleep(0.2)
        found = asyncio.get_running_loop().run_in_executor(None, ask)
        began = time.monotonic()
        while not over.is_set():
            waits(1.0)
        blocked.append(time.monotonic() - began)
        return (await found)[0]  # type: ignore[no-any-return]

    def ask() -> list[Finding]:
        try:
            return eventually(  # type: ignore[no-any-return]
                lambda: [one for one in of("LW102", agent) if "in_progress_s" in one.evidence]
            )
        finally:
            cpu_waits.seconds()  # of this thread, too, which is about to end
            over.set()

    over, blocked = threading.Event(), list[float]()
    found = run(main())
    assert found.severity == "critical"
    assert 1.0 <= found.evidence["in_progress_s"] < min(blocked[0] + 0.5, 3.5) + cpu_waits.seconds()
    assert "since" in found.summary
    assert found.key == (f"{__name__}.waits", "time.sleep")


def test_the_log_says_it_by_itself_within_seconds(
    run: Run, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [text for text in caplog.messages if text.startswith("loopwatch: LW102 ")]

    async def main() -> float:
        began = time.monotonic()
        while not told():
            waits(0.12)
            await asyncio.sleep(0.02)
            assert time.monotonic() - began < 4 * IN_TIME
        return time.monotonic() - began

    took = run(main())
    assert took < IN_TIME
    assert re.search(
        r"`time\.sleep` in `waits` .*\. What to do: .*\. See docs/rules/LW102\.md$", told()[0], re.MULTILINE
    )


def test_the_metrics_count_it(run: Run, agent: Agent) -> None:
    def counts() -> dict[tuple[str, ...], Any]:
        return {point.labels: point.value for point in agent.snapshot().points["finding_count"]}

    async def main() -> tuple[dict[tuple[str, ...], Any], dict[tuple[str, ...], Any]]:
        before = await asyncio.to_thread(counts)
        await found_by(agent)
        return before, await asyncio.to_thread(counts)

    before, after = run(main())
    assert {labels[0] for labels in before} > {"LW101", "LW201", "LW301", "LW401", "LW501"}
    assert sum(count for labels, count in before.items() if labels[0] != "LW107") == 0
    assert sum(count for labels, count in after.items() if labels[0] == "LW102") == 1


@pytest.mark.parametrize(
    "settings", [{"ignore": ("LW102",)}, {"ignore": ("LW102:*.waits",)}, {"allow": ("*.waits",)}]
)
def test_what_is_meant_to_block_is_not_told(
    run: Run, install: Callable[..., Agent], settings: dict[str, Any]
) -> None:
    agent = install(**settings)

    async def main() -> list[Finding]:
        await wait_often()
        return await asyncio.to_thread(of, "LW102", agent)

    assert run(main()) == []
    assert agent.stalls()  # these are reported all the same


def test_a_wrong_rule_is_an_error_at_install() -> None:
    with pytest.raises(loopwatch.ConfigurationError, match="there is no rule 'LW999'"):
        loopwatch.install(prometheus_port=None, ignore=("LW999",))


def test_an_agent_that_is_switched_off_finds_nothing(
    install: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPWATCH_DISABLED", "1")
    assert install().findings() == ()


CUT_SHORT = """
agent = loopwatch.install(prometheus_port=None)

async def main():
    job = loopwatch.spawn(forever(), name="endless")
    await loopwatch.drain(timeout=0.1)
    say("drained")

run(main())
say(*[finding.rule for finding in agent.findings()])
"""


def test_a_shutdown_that_cuts_work_short_is_told_before_the_end(
    start_child: Callable[[str], Child],
) -> None:
    """There is no later look at this: the process is about to end."""
    child = start_child(CUT_SHORT)
    assert child.end() == 0
    [told] = [line for line in child.said if line.startswith("loopwatch: LW501 critical: ")]
    assert "1 cancelled, 0 finished: 1 of `forever`" in told
    assert child.said.index(told) < child.said.index("drained")
    assert "LW501" in child.said[-1].split()


FORK = """
import os, time

agent = loopwatch.install(prometheus_port=None)

async def block():
    rounds = 0
    while not await asyncio.to_thread(found) and rounds < 100:
        for _ in range(4):
            time.sleep(0.15)
            await asyncio.sleep(0.05)
        rounds += 1

def found():
    return sorted({finding.rule for finding in agent.findings()} & {"LW102"})

asyncio.run(block())
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
say("parent" if pid else "child", found())
"""


def test_a_forked_child_begins_anew(start_child: Callable[[str], Child]) -> None:
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("no fork")
    child = start_child(FORK)
    assert child.end() == 0
    said = [line for line in child.said if line.startswith(("parent", "child"))]
    assert said == ["child []", "parent ['LW102']"]


def test_nobody_logs_in_the_loops_thread(run: Run, agent: Agent) -> None:
    """A handler that blocks would hold up the loop for as long."""
    threads: set[str] = set()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "LW102" in record.getMessage():
                threads.add(record.threadName or "")

    handler = Handler()
    logging.getLogger("loopwatch").addHandler(handler)

    async def main() -> None:
        for _ in range(100):
            await wait_often()
            if of("LW102", agent):  # in the loop, against all advice
                break

    try:
        run(main())
        loopwatch.uninstall()
    finally:
        logging.getLogger("loopwatch").removeHandler(handler)
    assert threads == {"loopwatch-journal"}
