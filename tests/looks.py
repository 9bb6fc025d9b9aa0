"""One look of the rules at a program that runs, as the watchdog takes it: from another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import replace

from loopwatch import Agent
from loopwatch._records import Snapshot
from loopwatch._rules.context import CONTEXT
from loopwatch._rules.executors import EXECUTORS
from loopwatch._rules.pools import POOLS
from loopwatch._rules.rule import Rule, Symptom, View
from loopwatch._rules.tasks import TASKS

RULES = (*TASKS, *POOLS, *EXECUTORS, *CONTEXT)
PATIENCE = 30.0
"""Seconds after which a test gives up."""


def empty(at: float) -> Snapshot:
    """Return what is known at the start."""
    return Snapshot(at, "test", {}, (), (), ())


def symptoms(now: Snapshot, before: Snapshot | None = None, rules: Iterable[Rule] = RULES) -> list[Symptom]:
    """Return what all rules see, in the first minute if no earlier snapshot is given."""
    view = View(now, before or empty(now.taken_at - 30.0))
    return [symptom for rule in rules for symptom in rule.look(view)]


async def look(agent: Agent) -> list[Symptom]:
    """Take a snapshot in another thread, which is none of an executor's, and return what the rules see."""
    loop = asyncio.get_running_loop()
    taken: asyncio.Future[Snapshot] = loop.create_future()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(taken.set_result, agent.snapshot()))
    thread.start()
    found = await taken
    thread.join()
    return symptoms(replace(found, findings=()))


async def until_seen(agent: Agent, rule: str) -> list[Symptom]:
    """Look until a rule sees something; return all that is seen then."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await look(agent)
            if any(one.rule == rule for one in found):
                return found
            await asyncio.sleep(0.05)
