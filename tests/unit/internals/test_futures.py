"""What a cancellation is passed on to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from loopwatch._internals.futures import cancelled_with


async def waits(*inner: asyncio.Future[Any]) -> None:
    await (asyncio.gather(*inner) if len(inner) > 1 else inner[0])


def levels(make: Callable[[], asyncio.Future[Any]]) -> list[list[str]]:
    """Return the names of the tasks on each level, and the classes of other futures."""

    async def main() -> list[list[str]]:
        future = make()
        await asyncio.sleep(0)
        found = cancelled_with(future)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return [
            [each.get_name() if isinstance(each, asyncio.Task) else type(each).__name__ for each in level]
            for level in found
        ]

    return asyncio.run(main())


def named(name: str, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(coro, name=name)


def test_what_waits_for_nothing_is_alone() -> None:
    assert levels(lambda: named("ready", asyncio.sleep(0))) == [["ready"]]


def test_a_chain_down_to_the_future_at_its_end() -> None:
    def chain() -> asyncio.Task[None]:
        return named("outer", waits(named("middle", waits(named("inner", asyncio.sleep(60))))))

    assert levels(chain) == [["outer"], ["middle"], ["inner"], ["Future"]]


def test_each_of_those_that_are_gathered() -> None:
    def gathering() -> asyncio.Task[None]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        long = named("long", waits(named("inner", asyncio.sleep(60))))
        return named("outer", waits(named("short", asyncio.sleep(60)), done, long))

    assert levels(gathering) == [
        ["outer"],
        ["_GatheringFuture"],
        ["short", "long"],
        ["Future", "inner"],
        ["Future"],
    ]


def test_a_shielded_task_is_spared() -> None:
    async def shields() -> None:
        await asyncio.shield(named("spared", asyncio.sleep(60)))

    assert levels(lambda: named("outer", shields())) == [["outer"], ["Future"]]


def test_a_cycle_ends_where_it_began() -> None:
    def cycle() -> asyncio.Task[None]:
        tasks: list[asyncio.Task[None]] = []

        async def first() -> None:
            await tasks[1]

        tasks.append(named("first", first()))
        tasks.append(named("second", waits(tasks[0])))
        return tasks[0]

    async def main() -> list[int]:
        future = cycle()
        await asyncio.sleep(0)
        return [len(level) for level in cancelled_with(future)]

    loop = asyncio.new_event_loop()  # asyncio.run would cancel the cycle, which recurses without end
    loop.set_exception_handler(lambda *_: None)
    assert loop.run_until_complete(main()) == [1, 1]
    loop.close()
