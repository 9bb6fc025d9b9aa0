"""Whatever belongs to a task dies as it would without us: at the same moment, and without the collector."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

pytestmark = pytest.mark.usefixtures("without_collector")


class Thing:
    """Any object of the program's: weak references to it tell when it dies."""


class OddError(Exception):
    """Raised by the program."""


thing: contextvars.ContextVar[Thing] = contextvars.ContextVar("thing")


class Life:
    """One task, and weak references to what belongs to it."""

    def __init__(self) -> None:
        self.refs: dict[str, Callable[[], object]] = {}

    def note(self, **things: Any) -> None:
        for name, each in things.items():
            self.refs[name] = weakref.ref(each)

    async def work(self, way: str, gate: asyncio.Event) -> Thing:
        """End in the way asked for. A local variable lives as long as the frame and any traceback of it."""
        local = Thing()
        self.note(local=local)
        await gate.wait()
        if way == "error":
            error = OddError()
            self.note(exception=error)
            try:
                raise error
            finally:
                del error
        if way == "cancelled":
            raise asyncio.CancelledError
        result = Thing()
        self.note(result=result)
        return result

    def start(self, way: str, gate: asyncio.Event) -> asyncio.Task[Thing]:
        """Start a task with a context of its own, in which a variable holds a thing."""

        def enter() -> None:
            held = Thing()
            thing.set(held)
            self.note(variable=held)

        context = contextvars.copy_context()
        context.run(enter)
        coro = self.work(way, gate)
        task = asyncio.create_task(coro, context=context)
        self.note(task=task, coroutine=coro, context=context)
        return task

    def alive(self) -> set[str]:
        """Name what still exists."""
        return {name for name, ref in self.refs.items() if ref() is not None}


async def live(way: str, asked: bool, look: Callable[[], Any]) -> tuple[set[str], set[str], set[str]]:
    """Return what exists while the task waits, once it has ended, and when nobody holds it any more."""
    life, gate = Life(), asyncio.Event()
    task = life.start(way, gate)
    await asyncio.sleep(0)
    look()
    waiting = life.alive()
    gate.set()
    while not task.done():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    if asked and not task.cancelled():
        task.exception()
    look()
    ended = life.alive()
    del task
    return waiting, ended, life.alive()


async def lose(look: Callable[[], Any]) -> tuple[set[str], set[str]]:
    """Return what exists of a task held only by its own cycle, before and after a collection."""
    life = Life()
    life.start("ok", asyncio.Event())
    await asyncio.sleep(0)
    look()
    held = life.alive()
    gc.collect()
    return held, life.alive()


@pytest.fixture
def compare(install: Callable[..., Agent], new_loop: LoopFactory) -> Callable[[Callable[..., Any]], Any]:
    """Run ``main(look)`` without an agent, and with one that is read in full whenever ``main`` looks."""

    def run(main: Callable[..., Any], look: Callable[[], Any]) -> Any:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.get_loop().set_exception_handler(lambda *_: None)
            return runner.run(main(look))

    def compare(main: Callable[..., Any]) -> Any:
        bare = run(main, lambda: None)
        agent = install()
        loopwatch.watch_var(thing)

        def look() -> None:
            assert agent.tasks()
            agent.snapshot()

        watched = run(main, look)
        assert watched == bare
        return watched

    return compare


@pytest.mark.parametrize("asked", [True, False], ids=["asked for its end", "not asked"])
@pytest.mark.parametrize("way", ["ok", "error", "cancelled"])
def test_a_task_that_ended_takes_everything_with_it(
    compare: Callable[[Callable[..., Any]], Any], way: str, asked: bool
) -> None:
    waiting, _, gone = compare(lambda look: live(way, asked, look))
    assert waiting == {"task", "coroutine", "context", "variable", "local"}
    assert gone == set()


def test_a_lost_task_takes_everything_with_it(compare: Callable[[Callable[..., Any]], Any]) -> None:
    held, gone = compare(lose)
    assert "task" in held
    assert gone == set()
