"""Task factories are the program's: each stays where it was put, and its tasks are recorded all the same."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Task

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def child() -> int:
    await asyncio.sleep(0)
    return 7


class OwnTask(asyncio.Task[Any]):
    """What a program may derive from a task."""


class Factory:
    """A task factory of the program's, which notes what it was called with."""

    def __init__(self, make: Callable[..., Any] = OwnTask) -> None:
        self.make = make
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        self.calls.append((coro.__qualname__, kwargs))
        return self.make(coro, loop=loop, **kwargs)


def of(agent: Agent, coroutine: str) -> list[Task]:
    return [task for task in agent.tasks() if task.coroutine == coroutine]


class TestOwnFactory:
    """One that the program set, before us or after us."""

    def test_set_before_install(self, install: Callable[..., Agent], new_loop: LoopFactory) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            factory = Factory()
            runner.get_loop().set_task_factory(factory)
            agent = install()
            self.check(agent, runner, factory)

    def test_set_after_install(self, agent: Agent, new_loop: LoopFactory) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            factory = Factory()
            runner.get_loop().set_task_factory(factory)
            self.check(agent, runner, factory)

    def test_set_while_the_loop_runs(self, agent: Agent, run: Run) -> None:
        factory = Factory()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            before = loop.get_task_factory()
            loop.set_task_factory(factory)
            assert await asyncio.create_task(child()) == 7
            assert loop.get_task_factory() is factory
            loop.set_task_factory(before)
            assert await asyncio.create_task(child()) == 7
            assert loop.get_task_factory() is before

        run(main())
        assert [coroutine for coroutine, _ in factory.calls] == ["child"]
        assert [task.state for task in of(agent, "child")] == ["ok", "ok"]

    def check(self, agent: Agent, runner: asyncio.Runner, factory: Factory) -> None:
        async def main() -> OwnTask:
            assert asyncio.get_running_loop().get_task_factory() is factory
            task = asyncio.create_task(child())
            assert type(task) is OwnTask
            assert await task == 7
            return task

        runner.run(main())
        assert [coroutine for coroutine, _ in factory.calls] == [main.__qualname__, "child"]
        (seen,) = of(agent, "child")
        assert (seen.site.function, seen.state) == (main.__qualname__, "ok")
        loopwatch.uninstall()
        assert runner.get_loop().get_task_factory() is factory


def test_without_one_there_is_none(agent: Agent) -> None:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(child())
        assert runner.get_loop().get_task_factory() is None


def test_it_is_called_with_what_it_would_be_without_us(
    install: Callable[..., Agent], new_loop: LoopFactory
) -> None:
    context = contextvars.copy_context()
    calls: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.create_task(child())
        await asyncio.create_task(child(), name="named")
        await loop.create_task(child(), name="by the loop")
        await asyncio.create_task(child(), context=context)
        async with asyncio.TaskGroup() as group:
            group.create_task(child(), name="grouped")

    for watched in (False, True):
        if watched:
            install()
        factory = Factory()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.get_loop().set_task_factory(factory)
            runner.run(main())
        # The main task is run in a context of the runner's own.
        calls.append([call for call in factory.calls if call[0] == "child"])
    bare, under_watch = calls
    assert bare == under_watch
    assert len(bare) == 5


def test_one_that_raises_raises(agent: Agent, run: Run) -> None:
    def refuse(coro: Any, **_: Any) -> None:
        coro.close()
        raise KeyError("no more tasks")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        loop.set_task_factory(Factory(refuse))
        with pytest.raises(KeyError, match="no more tasks"):
            await asyncio.create_task(child())
        loop.set_task_factory(before)

    run(main())
    assert of(agent, "child") == []
    assert agent.snapshot().points["task_count"][0].value == 0
    assert all(point.value == 0 for point in agent.snapshot().points["internal_errors"])


class Odd:
    """What a factory may return though it is no task."""

    def __init__(self, coro: Coroutine[Any, Any, Any], **_: Any) -> None:
        coro.close()

    def set_name(self, name: object) -> None:
        """Be named, as loops of Python 3.13.0 do."""


def test_what_is_no_task_is_returned_and_not_counted(agent: Agent, run: Run) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        loop.set_task_factory(Factory(Odd))
        made: Any = loop.create_task(child())
        loop.set_task_factory(before)
        assert type(made) is Odd
        return int(agent.snapshot().points["task_count"][0].value)  # type: ignore[arg-type]

    assert run(main()) == 1
    assert of(agent, "child") == []
    failed = {point.labels[0]: point.value for point in agent.snapshot().points["internal_errors"]}
    assert failed["tasks"] == 1


@pytest.mark.usefixtures("eager_factories")
def test_an_eager_factory_of_own_tasks_stays(agent: Agent, new_loop: LoopFactory) -> None:
    factory = asyncio.create_eager_task_factory(OwnTask)

    async def main() -> None:
        quick = asyncio.create_task(asyncio.sleep(0, 7))
        assert type(quick) is OwnTask
        assert await asyncio.create_task(child()) == 7
        await quick

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.get_loop().set_task_factory(factory)
        runner.run(main())
        assert runner.get_loop().get_task_factory() is factory
    assert [task.state for task in of(agent, "child")] == ["ok"]


@pytest.mark.parametrize("name", [None, "mail"])
def test_names_are_the_programs(
    install: Callable[..., Agent], new_loop: LoopFactory, name: str | None
) -> None:
    def names() -> list[str]:
        async def main() -> list[str]:
            tasks = [asyncio.create_task(child(), name=name) for _ in range(3)]
            await asyncio.gather(*tasks)
            return [task.get_name().rstrip("0123456789") for task in tasks]

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main())

    bare = names()
    agent = install()
    assert names() == bare
    assert [task.name for task in of(agent, "child")] == [name] * 3
