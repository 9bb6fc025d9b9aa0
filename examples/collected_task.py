"""A task that nobody holds is garbage-collected while it waits, and its order is never finished.

Run it: ``python examples/collected_task.py``. It ends with 0 if the task was named within 5 seconds of that.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from dataclasses import dataclass, field

import loopwatch

IN_TIME = 5.0
"""Seconds from the collection until the task is named."""


@dataclass
class Order:
    number: int
    paid: asyncio.Event = field(default_factory=asyncio.Event)


async def ship_once_paid(order: Order) -> None:
    await order.paid.wait()
    print(f"order {order.number} is on its way")


async def accept(number: int) -> None:
    # The mistake: task and order hold each other, and nobody holds them. loopwatch.spawn() holds its task.
    asyncio.create_task(ship_once_paid(Order(number)))  # noqa: RUF006


async def named(agent: loopwatch.Agent) -> loopwatch.Lost:
    """Return what the agent says about the collected task, as soon as it does."""
    while True:
        for lost in agent.lost():
            if lost.reason == "destroyed_pending":
                return lost
        await asyncio.sleep(0.05)


async def main(agent: loopwatch.Agent) -> None:
    await accept(1)
    await asyncio.sleep(3)  # time enough for the agent to report that nothing holds it
    collected = time.monotonic()
    gc.collect()
    async with asyncio.timeout(IN_TIME):
        lost = await named(agent)
    after = time.monotonic() - collected
    print(f"named after {after:.2f} s: 1 x {lost.reason}: {lost.coroutine}, by {lost.site}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    asyncio.run(main(loopwatch.install(prometheus_port=None)))
