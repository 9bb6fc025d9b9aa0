"""Only a task that cannot be read is left out: all others are shown, and it is counted and logged once."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from loopwatch._engine import Engine
from loopwatch._reader import TASKS_SHOWN

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
OTHERS = 99
SECRET = "hunter2"


class RefusedError(Exception):
    """Raised by the objects of these tests wherever they are questioned."""


class Mood:
    """Shared by all of them."""

    refuses = False


class NoHash(asyncio.Task[Any]):
    """Hashed when asyncio registers it, and never again once it ``refuses``."""

    def __hash__(self) -> int:
        if Mood.refuses:
            raise RefusedError
        return id(self)

    __eq__ = object.__eq__

    def __repr__(self) -> str:
        if Mood.refuses:
            raise RefusedError(SECRET)
        return super().__repr__()


class Closed(asyncio.Task[Any]):
    """A task whose methods are its own business."""

    def _refuse(self, *args: Any) -> Any:
        raise RefusedError

    def done(self) -> bool:
        return self._refuse() if Mood.refuses else super().done()

    get_coro = get_context = get_name = _refuse


class PurePython(asyncio.tasks._PyTask):  # type: ignore[name-defined,misc]
    """Written in Python, and to be asked only in its own thread."""

    def __getattribute__(self, name: str) -> Any:
        if Mood.refuses and threading.current_thread() is not threading.main_thread():
            raise RefusedError
        return super().__getattribute__(name)


class Nobody(PurePython):
    """A task that tells others nothing, and refuses to be hashed by anybody."""

    __hash__ = NoHash.__hash__
    __eq__ = object.__eq__


class StandIn:
    """Made by a factory in place of a task, with less than even what others need."""

    def __init__(self, coro: Any, loop: asyncio.AbstractEventLoop, **more: Any) -> None:
        coro.close()
        self._future = loop.create_future()
        self.cancel = self._future.cancel
        self.add_done_callback = self._future.add_done_callback
        self.set_name = lambda name: None  # which the loop calls, on Python 3.13.0

    def done(self) -> bool:
        if Mood.refuses:
            raise RefusedError
        return self._future.done()


class Bare(Coroutine[Any, Any, None]):
    """Stands in for a coroutine, with no more than it needs."""

    def __init__(self) -> None:
        self._inner = asyncio.Event().wait()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        return self._inner.throw(*error)


class Evasive(Bare):
    """A coroutine whose frame is nobody's business either."""

    @property
    def cr_frame(self) -> Any:
        raise RefusedError


async def parked() -> None:
    await asyncio.Event().wait()


def by_class(kind: Any) -> Callable[[], Any]:
    def make() -> Any:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        loop.set_task_factory(lambda loop, coro, **more: kind(coro, loop=loop, **more))
        task = loop.create_task(parked())
        loop.set_task_factory(before)
        return task

    return make


UNREADABLE = {
    "no hash": (by_class(NoHash), "NoHash"),
    "evasive coroutine": (lambda: asyncio.Task(Evasive()), "Task"),
    "no hash, nor class": (by_class(Nobody), "Nobody"),
}
READABLE = {
    "own methods": by_class(Closed),
    "another's thread": by_class(PurePython),
    "no task": by_class(StandIn),
    "bare coroutine": lambda: asyncio.Task(Bare()),
    "bare coroutine, created through the loop": lambda: asyncio.get_running_loop().create_task(Bare()),
}


def engine(agent: Agent) -> Engine:
    return agent._engine


def failures(agent: Agent) -> dict[str, float]:
    points = agent.snapshot().points["internal_errors"]
    return {point.labels[0]: point.value for point in points if point.value}  # type: ignore[misc]


def looks(agent: Agent) -> tuple[list[int], set[str]]:
    """Make everybody look twice; return how many tasks each shows, and which facts there are."""
    parts = engine(agent)
    for _ in range(2):
        document = parts.reader.document()
        parts._gc._last_look.take()
        parts._leaks.look()
        waiting = max(one.count for one in agent.waits() if one.primitive == "Event.wait")
    live = sum(task.state == "pending" for task in agent.tasks())
    assert len(document.tasks) < TASKS_SHOWN
    return [live, waiting], set(document.snapshot.points)


def seen_of(agent: Agent, new_loop: LoopFactory, make: Callable[[], Any]) -> Any:
    """Run a program with a strange task among others; return what is seen of it, and the failures."""

    async def main() -> Any:
        tasks = [asyncio.create_task(parked()) for _ in range(OTHERS - 1)]  # and the one that this runs in
        strange = make()
        tasks.append(strange)
        await asyncio.sleep(0)
        Mood.refuses = True
        try:
            return await asyncio.to_thread(lambda: (*looks(agent), failures(agent)))
        finally:
            Mood.refuses = False
            for task in tasks:
                task.cancel()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


@pytest.mark.parametrize("name", UNREADABLE)
def test_the_others_are_shown(
    agent: Agent, new_loop: LoopFactory, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, kind = UNREADABLE[name]
    (live, waiting), facts, failed = seen_of(agent, new_loop, make)
    assert live == OTHERS
    assert waiting in (OTHERS - 1, OTHERS)  # what it waits for may be read for all that
    assert {"task_count", "task_site_count", "task_age_max"} <= facts
    assert failed == {"task_reading": 1.0}
    loopwatch.uninstall()
    [told] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert f"task_reading of a {kind}, which is left out, failed" in told
    assert "RefusedError" in told
    assert SECRET not in told


@pytest.mark.parametrize("name", READABLE)
def test_no_code_of_the_task_is_needed(agent: Agent, new_loop: LoopFactory, name: str) -> None:
    (live, _), _, failed = seen_of(agent, new_loop, READABLE[name])
    assert live == OTHERS + 1
    assert failed == {}


def test_who_waits_for_one_that_cannot_be_read_is_shown(agent: Agent, new_loop: LoopFactory) -> None:
    def make() -> Any:
        async def waiter() -> None:
            await asyncio.shield(strange)

        strange = NoHash(parked(), loop=asyncio.get_running_loop())  # not created through the loop
        return asyncio.create_task(waiter())

    (live, _), _, failed = seen_of(agent, new_loop, make)
    assert live == OTHERS + 1
    assert failed == {"task_reading": 1.0}


@pytest.mark.parametrize("kind", [NoHash, Closed])
def test_a_loop_with_such_a_task_is_watched_all_the_same(
    install: Callable[..., Agent], new_loop: LoopFactory, kind: Any
) -> None:
    async def main() -> Any:
        tasks = [asyncio.create_task(parked()) for _ in range(OTHERS - 1)]
        tasks.append(by_class(kind)())
        await asyncio.sleep(0)
        Mood.refuses = True
        try:
            agent = install()
            live = len(engine(agent)._states.all()[0].tasks.live)
            running = [loop.name for loop in agent.loops()]
            return live, running, failures(agent)
        finally:
            Mood.refuses = False
            for task in tasks:
                task.cancel()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        live, running, failed = runner.run(main())
    if sys.version_info < (3, 14):  # later they are known to C code alone, which needs the hash
        assert live >= OTHERS
    assert running == ["main"]
    assert "attach" not in failed
