"""A request id that is lost on the way to an executor and through a queue, and how to keep it.

Run it: ``python examples/lost_context.py``. It ends with 0 once loopwatch has named both losses.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass

import loopwatch
from loopwatch.integrations.logging import ContextFilter

IN_TIME = 5.0
"""Seconds within which a loss must be named."""

logger = logging.getLogger("shop")
request_id: ContextVar[str] = ContextVar("request_id")


@dataclass
class Order:
    number: int


def charge(order: Order) -> None:
    logger.info("charged order %d", order.number)


async def send_mail(order: Order) -> None:
    logger.info("mailed about order %d", order.number)


async def mailer(orders: asyncio.Queue[Order]) -> None:
    """Started once, before any request: its own context has no request id."""
    while True:
        order = await orders.get()
        with loopwatch.restore(order):  # changes nothing for an order that carries nothing
            await asyncio.create_task(send_mail(order))
        orders.task_done()


async def lose_it(order: Order, orders: asyncio.Queue[Order]) -> None:
    request_id.set("r-1-loses-it")
    await asyncio.get_running_loop().run_in_executor(None, charge, order)
    orders.put_nowait(order)


async def keep_it(order: Order, orders: asyncio.Queue[Order]) -> None:
    request_id.set("r-2-keeps-it")
    await asyncio.to_thread(charge, order)
    loopwatch.carry(order)
    orders.put_nowait(order)


async def named(agent: loopwatch.Agent) -> list[loopwatch.Lost]:
    """Return what the agent says about the lost contexts, as soon as it has named both."""
    while True:
        found = {lost.coroutine: lost for lost in agent.lost() if lost.reason == "context_lost"}
        if found.keys() >= {"charge", "send_mail"}:
            return [found["charge"], found["send_mail"]]
        await asyncio.sleep(0.05)


async def main(agent: loopwatch.Agent) -> None:
    orders: asyncio.Queue[Order] = asyncio.Queue()
    worker = asyncio.create_task(mailer(orders))
    await asyncio.create_task(keep_it(Order(2), orders))
    await orders.join()
    began = time.monotonic()
    await asyncio.create_task(lose_it(Order(1), orders))
    await orders.join()
    async with asyncio.timeout(IN_TIME):
        found = await named(agent)
    after = time.monotonic() - began
    worker.cancel()
    for lost in found:
        print(f"named after {after:.2f} s: 1 x {lost.reason}: {lost.coroutine}, by {lost.site}")


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(ContextFilter("request_id"))
    logging.basicConfig(level=logging.INFO, format="[%(request_id)s] %(message)s", handlers=[handler])
    loopwatch.watch_var(request_id)
    asyncio.run(main(loopwatch.install(prometheus_port=None)))
