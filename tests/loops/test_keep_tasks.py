"""With ``keep_tasks=True`` no task is garbage-collected before it is done, and none is held any longer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Install = Callable[..., Agent]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

pytestmark = pytest.mark.usefixtures("without_collector")


async def held_by_its_own_cycle(ready: weakref.WeakSet[asyncio.Future[None]]) -> str:
    """Wait for a future that only this coroutine holds."""
    future = asyncio.get_running_loop().create_future()
    ready.add(future)
    await future
    return "done"


async def start(ready: weakref.WeakSet[asyncio.Future[None]]) -> weakref.ref[asyncio.Task[str]]:
    """Start such a task, keep no reference to it, and run the garbage collector."""
    task = weakref.ref(asyncio.create_task(held_by_its_own_cycle(ready)))
    await asyncio.sleep(0)
    gc.collect()
    return task


@pytest.mark.parametrize("keep", [True, False])
def test_a_pending_task_that_nobody_holds(
    install: Install, run: Run, keep: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        ready: weakref.WeakSet[asyncio.Future[None]] = weakref.WeakSet()
        task = await start(ready)
        assert (task() is not None) is keep
        if not keep:
            return
        [future] = ready
        future.set_result(None)
        del future
        kept = task()
        assert kept is not None
        assert await kept == "done"
        del kept
        await asyncio.sleep(0)  # the task that awaited it lets go of it
        assert task() is None  # without the garbage collector

    install(keep_tasks=keep)
    run(main())
    assert ("Task was destroyed" in caplog.text) is not keep


def test_one_that_was_there_before_is_held_too(install: Install, run: Run) -> None:
    async def main() -> None:
        ready: weakref.WeakSet[asyncio.Future[None]] = weakref.WeakSet()
        before = asyncio.create_task(held_by_its_own_cycle(ready))
        install(keep_tasks=True)
        task = weakref.ref(before)
        del before
        await asyncio.sleep(0)
        gc.collect()
        assert task() is not None

    run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_uninstalling_lets_go(install: Install, run: Run) -> None:
    async def main() -> None:
        task = await start(weakref.WeakSet())
        loopwatch.uninstall()
        gc.collect()
        assert task() is None

    install(keep_tasks=True)
    run(main())


def test_what_never_ends_goes_with_its_loop(install: Install, new_loop: LoopFactory) -> None:
    install(keep_tasks=True)
    loop = new_loop()
    with contextlib.closing(loop):
        task = loop.run_until_complete(start(weakref.WeakSet()))
        gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert (task(), gone()) == (None, None)
