"""A background task dies, and nobody asks what became of it.

Run it: ``python examples/unseen_failure.py``. It ends with 0 if the task was named within 5 seconds.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import loopwatch

IN_TIME = 5.0
"""Seconds from the failure until the task is named."""

PRICES = {"tea": 3.20, "coffee": 4.50}


async def send_invoice(item: str) -> None:
    await asyncio.sleep(0.1)
    print(f"invoice: {PRICES[item]:.2f}")


async def order(item: str) -> str:
    # The mistake: nobody will know whether this succeeds. loopwatch.spawn() would log a failure at once.
    asyncio.create_task(send_invoice(item))  # noqa: RUF006
    return "thank you"


async def named(agent: loopwatch.Agent) -> loopwatch.Lost:
    """Return what the agent says about the task that died, as soon as it does."""
    while True:
        for lost in agent.lost():
            if lost.reason == "unretrieved_exception":
                return lost
        await asyncio.sleep(0.05)


async def main(agent: loopwatch.Agent) -> None:
    await order("tea")
    await order("water")
    ordered = time.monotonic()
    async with asyncio.timeout(IN_TIME):
        lost = await named(agent)
    after = time.monotonic() - ordered
    print(f"named after {after:.2f} s: 1 x {lost.reason}: {lost.coroutine}, by {lost.site}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    asyncio.run(main(loopwatch.install(prometheus_port=None)))
