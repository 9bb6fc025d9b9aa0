"""What a record says about a task: who created it and when, what it ran, how it ended."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import functools
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, ConfigurationError, Stall, Task
from tests.machine import CpuWaits

from .provoked import Block

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

BRIEF = 0.05
AT_LEAST = 0.9
"""Of a time waited for: timers of uvloop are a millisecond early."""


async def child(seconds: float = BRIEF) -> None:
    await asyncio.sleep(seconds)


async def fail() -> None:
    raise ValueError


async def cancelled() -> None:
    raise asyncio.CancelledError


def of(agent: Agent, coroutine: str) -> list[Task]:
    """Return the records of the tasks that ran this coroutine function."""
    return [task for task in agent.tasks() if task.coroutine == coroutine]


def line_of(marker: str) -> int:
    """Return the number of the line of this file that ends with a comment of these words."""
    with open(__file__, encoding="utf-8") as source:
        return next(n for n, line in enumerate(source, 1) if line.endswith(f"  # {marker}\n"))


class TestRecord:
    """One task, from its creation to its end."""

    def test_while_it_lives(self, agent: Agent, run: Run) -> None:
        async def main() -> tuple[Task, float]:
            began = time.time()
            task = asyncio.create_task(child(60.0), name="mail")  # created here
            await asyncio.sleep(BRIEF)
            (seen,) = of(agent, "child")
            task.cancel()
            await asyncio.wait([task])
            return seen, began

        seen, began = run(main())
        assert (seen.name, seen.coroutine, seen.state) == ("mail", "child", "pending")
        assert seen.site.function == "TestRecord.test_while_it_lives.<locals>.main"
        assert (seen.site.file, seen.site.line) == (__file__, line_of("created here"))
        assert seen.parent == "TestRecord.test_while_it_lives.<locals>.main"
        assert began - 0.01 <= seen.started_at <= time.time()
        assert AT_LEAST * BRIEF <= seen.age < 30.0
        assert (seen.duration, seen.exception) == (None, None)
        assert [frame.function for frame in seen.await_stack] == ["child", "sleep"]
        assert seen.waiting_on == "sleep"
        assert seen.loop_name == "main"

    def test_when_it_has_ended(self, agent: Agent, run: Run) -> None:
        async def main() -> None:
            await asyncio.create_task(child(), name="mail")

        began = time.monotonic()
        run(main())
        took = time.monotonic() - began
        (seen,) = of(agent, "child")
        assert seen.state == "ok"
        assert seen.duration is not None
        assert AT_LEAST * BRIEF <= seen.duration <= took
        assert seen.duration <= seen.age
        assert (seen.await_stack, seen.waiting_on) == ((), None)

    @pytest.mark.parametrize(
        ("coroutine", "state", "exception"), [(fail, "error", "ValueError"), (cancelled, "cancelled", None)]
    )
    def test_how_it_ended(
        self, agent: Agent, run: Run, coroutine: Callable[[], Any], state: str, exception: str | None
    ) -> None:
        async def main() -> None:
            await asyncio.gather(asyncio.create_task(coroutine()), return_exceptions=True)

        run(main())
        (seen,) = of(agent, coroutine.__qualname__)
        assert (seen.state, seen.exception) == (state, exception)
        assert not seen.unretrieved

    def test_a_failure_nobody_asks_for_shows_after_a_second(
        self, agent: Agent, run: Run, eventually: Callable[[Callable[[], Any]], Any], cpu_waits: CpuWaits
    ) -> None:
        async def main() -> tuple[float, Task]:
            began = time.monotonic()
            task = asyncio.create_task(fail())
            await asyncio.sleep(0.01)
            early = of(agent, "fail")[0].unretrieved
            assert not early or time.monotonic() - began > 0.9  # on a busy machine it may be late already
            await asyncio.to_thread(eventually, lambda: of(agent, "fail")[0].unretrieved)
            waited = time.monotonic() - began
            assert task.exception()
            return waited, of(agent, "fail")[0]

        waited, retrieved = run(main())
        assert 0.9 < waited < 5.0 + cpu_waits.seconds()
        assert not retrieved.unretrieved
        assert agent.lost() == ()


class TestCreator:
    """The nearest function of the program's on the stack, whatever it called to have a task made."""

    async def by_create_task(self) -> None:
        await asyncio.create_task(child())

    async def by_the_loop(self) -> None:
        await asyncio.get_running_loop().create_task(child())

    async def by_ensure_future(self) -> None:
        await asyncio.ensure_future(child())

    async def by_gather(self) -> None:
        await asyncio.gather(child())

    async def by_task_group(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    async def by_shield(self) -> None:
        await asyncio.shield(child())

    async def by_as_completed(self) -> None:
        for done in asyncio.as_completed([child()]):
            await done

    async def by_spawn(self) -> None:
        await loopwatch.spawn(child())

    async def by_spawn_with_a_timeout(self) -> None:
        await loopwatch.spawn(child(), timeout=30)

    @pytest.mark.parametrize(
        "way",
        [
            *("by_create_task", "by_the_loop", "by_ensure_future", "by_gather", "by_task_group", "by_shield"),
            *("by_as_completed", "by_spawn", "by_spawn_with_a_timeout"),
        ],
    )
    def test_is_the_function_that_asked_for_it(self, agent: Agent, run: Run, way: str) -> None:
        run(getattr(self, way)())
        (seen,) = of(agent, "child")
        assert seen.site.function == f"TestCreator.{way}"
        assert seen.parent == f"TestCreator.{way}"

    def test_of_a_callback_is_that_callback(self, agent: Agent, run: Run) -> None:
        async def main() -> None:
            def callback() -> None:
                tasks.append(asyncio.ensure_future(child()))

            tasks: list[asyncio.Task[None]] = []
            asyncio.get_running_loop().call_soon(callback)
            await asyncio.sleep(BRIEF)
            await tasks[0]

        run(main())
        (seen,) = of(agent, "child")
        assert seen.site.function.endswith("main.<locals>.callback")
        assert seen.parent is None

    @pytest.mark.parametrize("way", ["call_soon", "run_coroutine_threadsafe", "start_server"])
    def test_is_not_seen_where_the_loop_itself_creates_it(self, agent: Agent, run: Run, way: str) -> None:
        """Then the site is where its coroutine function begins."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            if way == "call_soon":
                loop.call_soon(functools.partial(loop.create_task, handle()))
            elif way == "run_coroutine_threadsafe":
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(handle(), loop))
            else:
                server = await asyncio.start_server(handle, "127.0.0.1", 0)
                _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                await handled.wait()
                writer.close()
                server.close()
            await handled.wait()

        handled = asyncio.Event()

        async def handle(*streams: Any) -> None:  # handled here
            for stream in streams[1:]:
                stream.close()
            handled.set()

        run(main())
        (seen,) = of(agent, handle.__qualname__)
        assert (seen.site.function, seen.site.line) == (handle.__qualname__, line_of("handled here"))
        assert seen.parent is None

    @pytest.mark.parametrize("way", ["create_task", "ensure_future"])
    def test_is_not_seen_where_nothing_else_is_on_the_stack(
        self, agent: Agent, new_loop: LoopFactory, eventually: Callable[..., Any], way: str
    ) -> None:
        async def stray() -> None:  # strayed here
            pass

        loop = new_loop()
        create: Callable[..., Any] = loop.create_task
        if way == "ensure_future":
            create = functools.partial(asyncio.ensure_future, loop=loop)
        call = functools.partial(create, stray())
        returned = weakref.ref(call)
        _thread.start_new_thread(call, ())
        del call
        eventually(lambda: returned() is None)
        with contextlib.closing(loop):
            loop.run_until_complete(asyncio.sleep(BRIEF))
        (seen,) = of(agent, stray.__qualname__)
        assert (seen.state, seen.site.line) == ("ok", line_of("strayed here"))

    def test_in_its_eager_first_step_is_known_as_a_parent(self, agent: Agent, run: Run) -> None:
        async def middle() -> None:
            await asyncio.create_task(child())

        async def main() -> None:
            await asyncio.create_task(middle())

        run(main())
        assert of(agent, "child")[0].parent == middle.__qualname__
        assert of(agent, middle.__qualname__)[0].parent == main.__qualname__


class TestRings:
    """The last 1,000 tasks that ended, and apart from them the last 200 that failed."""

    def test_successes_push_out_no_failures(self, agent: Agent, run: Run) -> None:
        async def end(number: int) -> None:
            await asyncio.sleep(0)  # on an eager loop, too, it is named before it ends
            if number % 10 == 0 and number < 3_000:
                raise ValueError

        async def main() -> None:
            for number in range(5_000):
                await asyncio.gather(
                    asyncio.create_task(end(number), name=str(number)), return_exceptions=True
                )

        run(main())
        seen = of(agent, end.__qualname__)
        failed = [int(task.name or -1) for task in seen if task.state == "error"]
        assert failed == list(range(1_000, 3_000, 10))
        # Some of the 1,000 are others: main, and asyncio's own at the end.
        succeeded = [int(task.name or -1) for task in seen if task.state == "ok"]
        assert succeeded == list(range(5_000 - len(succeeded), 5_000))
        assert 990 <= len(succeeded) <= 1_000

    def test_a_failure_among_the_last_thousand_shows_once(self, agent: Agent, run: Run) -> None:
        async def main() -> None:
            await asyncio.gather(*(fail() for _ in range(150)), return_exceptions=True)

        run(main())
        assert len(of(agent, "fail")) == 150


class TestBefore:
    """Tasks that were there before the agent."""

    def test_in_a_running_loop(self, install: Callable[..., Agent], run: Run) -> None:
        async def main() -> Agent:
            tasks = [asyncio.create_task(child(), name=f"early-{number}") for number in range(3)]
            await asyncio.sleep(0)
            agent = install()
            await asyncio.sleep(0)
            seen = of(agent, "child")
            assert [task.state for task in seen] == ["pending"] * 3
            assert {task.site.function for task in seen} == {"child"}
            assert {task.site.line for task in seen} == {child.__code__.co_firstlineno}
            await asyncio.gather(*tasks)
            return agent

        agent = run(main())
        seen = of(agent, "child")
        assert {task.name for task in seen} == {"early-0", "early-1", "early-2"}
        assert {task.state for task in seen} == {"ok"}
        assert {task.parent for task in seen} == {None}

    def test_in_a_loop_that_ran_before(self, install: Callable[..., Agent], new_loop: LoopFactory) -> None:
        loop = new_loop()
        task = loop.create_task(child(), name="early")
        agent = install()
        loop.run_until_complete(task)
        loop.close()
        (seen,) = of(agent, "child")
        assert (seen.name, seen.state) == ("early", "ok")

    def test_in_a_loop_of_another_thread(
        self, install: Callable[..., Agent], new_loop: LoopFactory, eventually: Callable[..., Any]
    ) -> None:
        loop = new_loop()
        thread = threading.Thread(target=loop.run_forever, name="aside", daemon=True)
        thread.start()
        gate = asyncio.Event()
        waiting = asyncio.run_coroutine_threadsafe(gate.wait(), loop)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
        agent = install()
        loopwatch.watch(loop)
        (seen,) = eventually(lambda: of(agent, "Event.wait"))
        assert (seen.loop_name, seen.state) == ("aside", "pending")
        loop.call_soon_threadsafe(gate.set)
        waiting.result()
        eventually(lambda: of(agent, "Event.wait")[0].state == "ok")
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class TestStray:
    """Tasks that were made by ``asyncio.Task()`` itself, past the loop: known while they live."""

    def test_it_is_found_by_the_census(self, agent: Agent, run: Run) -> None:
        async def main() -> list[Task]:
            task = asyncio.Task(child(60.0), loop=asyncio.get_running_loop(), name="stray")
            await asyncio.sleep(0)
            (first,) = of(agent, "child")
            await asyncio.sleep(BRIEF / 2)
            (second,) = of(agent, "child")
            task.cancel()
            await asyncio.wait([task])
            return [first, second]

        first, second = run(main())
        assert (first.name, first.state, first.site.function) == ("stray", "pending", "child")
        assert [frame.function for frame in first.await_stack] == ["child", "sleep"]
        assert AT_LEAST * BRIEF / 2 <= second.age - first.age < 30.0
        assert of(agent, "child") == []

    def test_its_children_know_it(self, agent: Agent, run: Run) -> None:
        async def stray() -> None:
            await asyncio.create_task(child())

        async def main() -> None:
            await asyncio.Task(stray(), loop=asyncio.get_running_loop())

        run(main())
        assert of(agent, "child")[0].parent == stray.__qualname__


@pytest.mark.usefixtures("eager_factories")
def test_an_eager_task_that_never_waits_is_booked_at_once(
    agent: Agent, new_loop: LoopFactory, blind: bool
) -> None:
    if blind and sys.version_info >= (3, 14):
        pytest.skip("uvloop 0.23 starts no task eagerly from Python 3.14 on")

    async def quick() -> int:
        time.sleep(BRIEF / 2)
        return 7

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(quick(), name="quick")
        assert task.done()
        (seen,) = of(agent, quick.__qualname__)
        assert (seen.state, seen.site.function) == ("ok", main.__qualname__)
        assert seen.duration is not None
        assert BRIEF / 2 <= seen.duration < 30.0

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@pytest.mark.usefixtures("eager_factories")
def test_a_stall_in_an_eager_first_step_names_that_task(
    told: Callable[..., list[Stall]], new_loop: LoopFactory
) -> None:
    held: list[Block] = []

    async def blocks() -> None:
        wall, began = time.time(), time.monotonic()
        time.sleep(0.3)
        held.append(Block(wall, time.monotonic() - began))

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await asyncio.sleep(BRIEF)
        await asyncio.create_task(blocks(), name="eager")
        await asyncio.sleep(BRIEF)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    for stall in told(held, within=0.05):
        assert stall.coroutine == blocks.__qualname__  # its name is given to it after this step, on 3.12
        assert stall.culprit is not None
        assert stall.culprit.function == blocks.__qualname__


@pytest.mark.parametrize("limit", [-1, 1.5, True, "10"])
def test_a_limit_that_is_no_number_of_tasks_is_refused(agent: Agent, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"not a number of tasks\. Give 0"):
        agent.tasks(limit)
