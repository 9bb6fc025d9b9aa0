"""A service asks others over a message bus. One question a second is never answered, and its task never ends.

Run it: ``python examples/leak.py``. Questions that went astray are dropped without telling the asker, so
nothing can wake those tasks. With ``--could-wake`` they are kept: an answer might still come, and only the
durations of other tasks show that none does. It takes a minute, and ends with 0 if the 50 leaked tasks were
named in time and none of the 25,000 others was.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import statistics
import sys
import time
from dataclasses import dataclass

import loopwatch

HEALTHY = 500
"""Tasks a second that do not leak."""
IN_TIME = 5.0
"""Seconds from the creation of the last leaked task until all are named."""
TIMES = 3.0
"""Multiple of the other tasks' 99th percentile after which a leak that something could wake is named."""


@dataclass
class Options:
    leaks: int
    every: float
    """Seconds between two leaks."""
    could_wake: bool

    @property
    def leak(self) -> str:
        """How the leak must be found: by proof, or by its age."""
        return "overage" if self.could_wake else "never_wakes"


asked: dict[int, asyncio.Future[str]] = {}
"""The questions not yet answered, by number."""
durations: list[float] = []


async def ask(number: int, astray: bool, kept: bool) -> str:
    """Send a question over the bus, and wait for the answer."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    asked[number] = answer
    if not astray:
        loop.call_later(random.uniform(0.05, 0.2), receive, number)
    elif not kept:
        loop.call_later(0.1, asked.pop, number)  # the mistake: nobody tells the task that awaits `answer`
    return await answer  # another mistake: however long it takes, without asyncio.timeout()


def receive(number: int) -> None:
    answer = asked.pop(number)
    if not answer.done():
        answer.set_result("yes")


async def handle(number: int, astray: bool, kept: bool) -> None:
    began = time.monotonic()
    await ask(number, astray, kept)
    durations.append(time.monotonic() - began)


def accept(number: int, astray: bool = False, kept: bool = False) -> None:
    name = "astray" if astray else "answered"
    loopwatch.spawn(handle(number, astray, kept), name=name)


async def serve(options: Options, leaked: list[float]) -> None:
    """Accept requests without end; from time to time one that leaks, noting in ``leaked`` when."""
    began, accepted = time.monotonic(), 0
    while True:
        elapsed = time.monotonic() - began
        while accepted < elapsed * HEALTHY:
            accepted += 1
            accept(accepted)
        if len(leaked) < options.leaks and elapsed >= len(leaked) * options.every:
            leaked.append(time.monotonic())
            accept(-len(leaked), astray=True, kept=options.could_wake)
        await asyncio.sleep(0.02)


async def named(agent: loopwatch.Agent, count: int) -> float:
    """Return when the agent has named ``count`` leaked tasks."""
    while sum(lost.reason == "leaked" for lost in agent.lost()) < count:
        await asyncio.sleep(0.05)
    return time.monotonic()


async def main(agent: loopwatch.Agent, options: Options) -> int:
    leaked: list[float] = []
    began = time.monotonic()
    serving = asyncio.create_task(serve(options, leaked))
    async with asyncio.timeout(options.leaks * options.every + 60):
        first_named = await named(agent, 1)
        all_named = await named(agent, options.leaks)
    serving.cancel()

    p99, last, found = statistics.quantiles(durations, n=100)[-1], leaked[-1], agent.lost()
    print(
        f"{len(leaked)} tasks leaked, the last at {last - began:.2f} s; {len(durations)} others took up to "
        f"{p99:.3f} s (p99); the leak was named at {first_named - began:.2f} s"
    )
    lost = found[0]
    after = all_named - last
    print(f"named after {after:.2f} s: {len(found)} x {lost.reason}: {lost.coroutine}, by {lost.site}")
    usual = TIMES * p99 if options.could_wake else 0.0
    in_time = first_named - last <= (usual or IN_TIME) and all_named - last <= usual + IN_TIME
    right = {(lost.leak, lost.task_name) for lost in found} == {(options.leak, "astray")}
    return 0 if in_time and right and len(found) == options.leaks else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaks", type=int, default=50, help="tasks that leak")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two of them")
    parser.add_argument("--could-wake", action="store_true", help="keep the questions that went astray")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    watching = loopwatch.install(prometheus_port=None)
    sys.exit(asyncio.run(main(watching, Options(**vars(parser.parse_args())))))
