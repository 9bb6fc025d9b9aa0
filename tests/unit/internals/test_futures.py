"""What is cancelled with a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from loopwatch._internals.futures import cancelled_with

Made = Callable[[], asyncio.Future[Any]]


async def waits(*inner: asyncio.Future[Any]) -> None:
    await (asyncio.gather(*inner) if len(inner) > 1 else inner[0])


def named(name: str, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(coro, name=name)


def told(*made: Made) -> list[tuple[int, set[str]]]:
    """Return for each in turn what is told: the number, and the tasks and classes of futures at the ends."""

    async def main() -> list[tuple[int, set[str]]]:
        futures, known = [make() for make in made], set[int]()
        await asyncio.sleep(0)
        found = [cancelled_with(future, known) for future in futures]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return [
            (number, {e.get_name() if isinstance(e, asyncio.Task) else type(e).__name__ for e in ends})
            for number, ends in found
        ]

    return asyncio.run(main())


def test_what_waits_for_nothing_is_its_own_end() -> None:
    assert told(lambda: named("ready", asyncio.sleep(0))) == [(1, {"ready"})]


def test_a_chain_ends_in_the_future_that_the_last_one_waits_for() -> None:
    def chain() -> asyncio.Task[None]:
        return named("outer", waits(named("middle", waits(named("inner", asyncio.sleep(60))))))

    assert told(chain) == [(4, {"Future"})]


def test_all_that_are_gathered_count_once_and_done_ones_not_at_all() -> None:
    def gathering() -> asyncio.Task[None]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        inner = named("inner", asyncio.sleep(60))
        return named("outer", waits(inner, done, named("long", waits(inner)), named("ready", waits(done))))

    # outer, its gathering, inner and its future, long
    assert told(gathering) == [(5, {"Future"})]


def test_a_shielded_task_is_spared() -> None:
    async def shields() -> None:
        await asyncio.shield(named("spared", asyncio.sleep(60)))

    assert told(lambda: named("outer", shields())) == [(2, {"Future"})]


def test_what_is_known_is_not_told_again() -> None:
    inner: list[asyncio.Task[None]] = []

    def make_inner() -> asyncio.Task[None]:
        inner.append(named("inner", asyncio.sleep(60)))
        return inner[0]

    assert told(make_inner, lambda: named("outer", waits(inner[0]))) == [(2, {"Future"}), (1, set())]


def test_a_cycle_has_no_end() -> None:
    async def main() -> tuple[int, list[Any]]:
        tasks: list[asyncio.Task[None]] = []

        async def first() -> None:
            await tasks[1]

        tasks.append(named("first", first()))
        tasks.append(named("second", waits(tasks[0])))
        await asyncio.sleep(0)
        return cancelled_with(tasks[0], set())

    loop = asyncio.new_event_loop()  # asyncio.run would cancel the cycle, which recurses without end
    loop.set_exception_handler(lambda *_: None)
    assert loop.run_until_complete(main()) == (2, [])
    loop.close()
