"""Rows of ended tasks: plain, so that no collection looks through them, and right for as long as kept."""

from __future__ import annotations

import asyncio
import gc
import sys

from loopwatch._clock import SYSTEM
from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal
from loopwatch._probes.tasks import TaskProbe
from loopwatch._store.pauses import Pauses
from loopwatch._store.sites import SITES
from loopwatch._store.tasks import LoopTasks

EACH = 50


async def work(fail: bool) -> None:
    """End well or not."""
    if fail:
        raise ValueError


def recorded(outcomes: list[bool]) -> LoopTasks:
    """Record a task for each outcome, on a loop of its own."""
    tasks, journal = LoopTasks(Pauses()), Journal(SYSTEM)
    probe = TaskProbe(tasks, ContextReader(journal), SYSTEM, journal)

    async def main() -> None:
        loop, frame = asyncio.get_running_loop(), sys._getframe()
        made = []
        for fail in outcomes:
            coro = work(fail)
            made.append(loop.create_task(coro))
            probe.begin(loop, made[-1], coro, None, frame, SYSTEM.monotonic())
        await asyncio.gather(*made, return_exceptions=True)

    asyncio.run(main())
    return tasks


def test_rows_of_ended_tasks_are_no_business_of_the_garbage_collector() -> None:
    tasks = recorded([number % 2 == 0 for number in range(2 * EACH)])
    gc.collect()
    assert (len(tasks.ended), len(tasks.failures)) == (2 * EACH, EACH)
    assert not [row for row in tasks.ended if gc.is_tracked(row)]


def test_of_a_loop_that_is_forgotten_the_rows_keep_their_site() -> None:
    kept, gone = LoopTasks(Pauses()), recorded([False, True])
    (site,) = gone.sites.all()
    kept.absorb(gone)
    assert [kept.sites.known(row[0]).place for row in kept.ended] == [site.place] * 2
    assert kept.failures[0] is kept.ended[1]


def test_rows_whose_site_finds_no_room_go_to_that_which_stands_for_others() -> None:
    kept, gone = LoopTasks(Pauses()), recorded([False, True])
    (site,) = gone.sites.all()
    for offset in range(SITES):
        kept.sites.at(work.__code__, offset, "")
    kept.absorb(gone)
    # Even if a site of that address should come to be: the code it stood for may have gone.
    kept.sites.by_address[site.address] = site
    assert [kept.sites.known(row[0]) for row in kept.ended] == [kept.sites.further] * 2
    assert kept.failures[0] is kept.ended[1]
