"""``/metrics`` while the loop cannot run: it answers, and says for how long the loop has been blocked."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from tests.machine import CpuWaits

from .conftest import PATIENCE

SCRAPES = 4
BLOCKED = re.compile(
    rb'^asyncio_eventloop_blocked_seconds\{asyncio_eventloop_name="main"\} (\S+)', re.MULTILINE
)


def _waits(over: threading.Event) -> None:
    """Block in a call that releases the GIL, as ``time.sleep`` does."""
    over.wait(PATIENCE)


def _computes(over: threading.Event) -> None:
    """Block in pure Python."""
    until = time.monotonic() + PATIENCE
    while not over.is_set() and time.monotonic() < until:
        pass


@pytest.mark.parametrize("block", [_waits, _computes])
def test_a_blocked_loop_is_on_metrics_before_it_runs_again(
    install: Callable[..., Agent],
    run: Callable[..., Any],
    cpu_waits: CpuWaits,
    block: Callable[[threading.Event], None],
) -> None:
    agent = install(prometheus_port=0)
    over = threading.Event()
    seen: list[tuple[float, float]] = []
    in_progress: list[str | None] = []

    def scrape() -> None:
        ends = time.monotonic() + PATIENCE
        try:
            while len(seen) < SCRAPES:
                began = time.monotonic()
                with urllib.request.urlopen(str(agent.prometheus_url), timeout=PATIENCE) as answer:
                    found = BLOCKED.search(answer.read())
                if found and float(found[1]) > 0.2:  # twice the threshold: it is the block, and known as one
                    seen.append((float(found[1]), time.monotonic() - began))
            while not (stalls := [s for s in agent.stalls() if s.in_progress and s.samples]):
                assert time.monotonic() < ends, "it was never sampled"
            in_progress.extend(s.culprit and s.culprit.function for s in stalls)
            cpu_waits.seconds()  # of this thread, too, which is about to end
        finally:
            over.set()

    async def main() -> None:
        await asyncio.to_thread(lambda: urllib.request.urlopen(str(agent.prometheus_url)).close())
        scraper = threading.Thread(target=scrape)
        scraper.start()
        block(over)
        scraper.join(PATIENCE)

    run(main())
    ages = [age for age, _ in seen]
    assert len(ages) == SCRAPES
    assert ages == sorted(ages)
    assert max(took for _, took in seen) < 1.0 + cpu_waits.seconds()
    assert in_progress == [block.__name__]
    loopwatch.uninstall()
    assert max(stall.duration for stall in agent.stalls() if not stall.in_progress) >= max(ages)


def test_the_first_scrape_finds_its_library_imported(
    script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """By the endpoint's thread, once the loop goes round: a scrape is not to wait for it."""
    done = script(
        """
import asyncio, sys, loopwatch

async def main():
    assert "prometheus_client" not in sys.modules
    while "loopwatch.exporters.exposition" not in sys.modules:
        await asyncio.sleep(0.01)

agent = loopwatch.install(prometheus_port=0)
assert "prometheus_client" not in sys.modules
asyncio.run(asyncio.wait_for(main(), 25))
print("imported")
"""
    )
    assert done.stdout == "imported\n"
