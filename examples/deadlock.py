"""Two tasks take the same two locks in opposite order, and wait for each other for ever.

Run it: ``python examples/deadlock.py``. It ends with 0 if both tasks were named within 5 seconds.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from dataclasses import dataclass, field

import loopwatch

IN_TIME = 5.0
"""Seconds from the deadlock until both tasks are named."""


@dataclass
class Account:
    owner: str
    balance: int = 100
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


async def transfer(amount: int, source: Account, target: Account) -> None:
    async with source.lock:
        await asyncio.sleep(0.1)  # checks that the source has the money
        # The mistake: a transfer the other way holds this lock and waits for ours. Take locks in one order.
        async with target.lock:
            source.balance -= amount
            target.balance += amount


async def named(agent: loopwatch.Agent) -> list[loopwatch.Lost]:
    """Return what the agent says about the deadlock, as soon as it does."""
    while True:
        found = [lost for lost in agent.lost() if lost.reason == "deadlock"]
        if found:
            return found
        await asyncio.sleep(0.05)


async def main(agent: loopwatch.Agent) -> None:
    ann, bob = Account("ann"), Account("bob")
    began = time.monotonic()
    transfers = [
        asyncio.create_task(transfer(10, ann, bob), name="ann-to-bob"),
        asyncio.create_task(transfer(20, bob, ann), name="bob-to-ann"),
    ]
    async with asyncio.timeout(IN_TIME):
        found = await named(agent)
    after = time.monotonic() - began
    for lost in found:
        print(f"{lost.task_name} waits for {lost.waiting_on} in {lost.await_stack[0]}")
    lost = found[0]
    print(f"named after {after:.2f} s: {len(found)} x {lost.reason}: {lost.coroutine}, by {lost.site}")
    for task in transfers:
        task.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    asyncio.run(main(loopwatch.install(prometheus_port=None)))
