"""Each message of asyncio about a lost task is one entry of ours, whoever collects and whatever follows."""

from __future__ import annotations

import _thread
import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Lost
from loopwatch._store.tasks import FALLEN, FALLEN_OF_SITE

from .conftest import PATIENCE

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]

pytestmark = pytest.mark.usefixtures("without_collector")

EACH = 20
"""Tasks lost of each kind."""


async def die() -> None:
    raise ValueError


async def hang() -> None:
    await asyncio.get_running_loop().create_future()


async def nothing() -> None:
    pass


class Messages:
    """What asyncio said of lost tasks, counted as our reasons."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, str]] = []

    def hear(self, context: dict[str, Any]) -> None:
        message = context["message"]
        failed = message.endswith("exception was never retrieved")
        assert failed or message == "Task was destroyed but it is pending!", message
        reason, task = ("unretrieved_exception", "future") if failed else ("destroyed_pending", "task")
        self._heard.append((reason, context[task].get_name()))  # in any thread

    @property
    def said(self) -> Counter[str]:
        return Counter(reason for reason, _ in self._heard)

    def match(self, lost: tuple[Lost, ...]) -> None:
        """Assert that each name has one entry."""
        assert sorted((one.reason, one.task_name or "") for one in lost) == sorted(self._heard)


@pytest.fixture
def messages() -> Messages:
    return Messages()


def all_lost(agent: Agent) -> tuple[Lost, ...]:
    """Return all losses the agent knows of, once all are reported. Ends it."""
    loopwatch.uninstall()
    return agent.lost()


def start(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start a task that only the collector can free."""
    task = loop.create_task(coro)
    task.set_name(name)
    task.me = task  # type: ignore[attr-defined]
    return task


async def lose(handler: Handler, collect: Callable[[], Any]) -> None:
    """Lose tasks of both kinds in one collection."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handler)
    for number in range(EACH):
        start(loop, die(), f"die-{number}")
        start(loop, hang(), f"hang-{number}")
    for _ in range(3):
        await asyncio.sleep(0)
    collected = collect()
    if collected is not None and not isinstance(collected, int):
        await collected


def test_a_handler_that_starts_a_task(agent: Agent, run: Run, messages: Messages) -> None:
    """As one that reports to a tracker does. The new task may get the memory of a lost one."""
    held = set()

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        messages.hear(context)
        held.add(loop.create_task(nothing()))

    run(lose(handler, gc.collect))
    assert messages.said == {"destroyed_pending": EACH, "unretrieved_exception": EACH}
    messages.match(all_lost(agent))


def test_a_handler_that_takes_its_time_in_another_thread(agent: Agent, run: Run, messages: Messages) -> None:
    """Meanwhile the loop runs: it beats, and starts tasks."""

    async def beat() -> None:
        (state,) = agent._engine._states.all()
        tick = state.last_tick
        while state.last_tick == tick:
            await asyncio.sleep(0.001)

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        messages.hear(context)
        if messages.said.total() < 4:
            asyncio.run_coroutine_threadsafe(beat(), loop).result(PATIENCE)

    run(lose(handler, lambda: asyncio.to_thread(gc.collect)))
    assert messages.said == {"destroyed_pending": EACH, "unretrieved_exception": EACH}
    messages.match(all_lost(agent))


def test_a_handler_that_keeps_what_it_is_given(agent: Agent, run: Run, messages: Messages) -> None:
    """And with it the task, which lives again. When that dies for good, asyncio says nothing more."""
    kept: list[dict[str, Any]] = []

    async def main() -> None:
        await lose(lambda _, context: kept.append(context), gc.collect)
        for context in kept:
            messages.hear(context)
        await asyncio.sleep(0)
        kept.clear()
        gc.collect()

    run(main())
    assert messages.said == {"destroyed_pending": EACH, "unretrieved_exception": EACH}
    messages.match(all_lost(agent))


def test_what_dies_without_the_collector(agent: Agent, new_loop: LoopFactory, messages: Messages) -> None:
    """Of a failed task the last reference, of a pending one the loop that was to run it. Both are kept."""
    kept: list[dict[str, Any]] = []
    loop = new_loop()
    loop.set_exception_handler(lambda _, context: kept.append(context))
    task = loop.create_task(die())
    task.set_name("die")
    loop.run_until_complete(asyncio.wait([task]))
    del task
    pending = loop.create_task(asyncio.sleep(PATIENCE))
    pending.set_name("pending")
    timer = loop.call_later(PATIENCE, int)
    loop.run_until_complete(asyncio.sleep(0))
    del pending
    timer.cancel()
    loop.close()
    gc.collect()
    for context in kept:
        messages.hear(context)
    assert messages.said == {"destroyed_pending": 1, "unretrieved_exception": 1}
    messages.match(all_lost(agent))


def test_while_no_loop_runs(
    agent: Agent, run: Run, messages: Messages, eventually: Callable[[Callable[[], Any]], Any]
) -> None:
    """Then the watchdog sleeps until something happens."""
    run(lose(lambda _, context: messages.hear(context), nothing))
    eventually(lambda: agent._engine._watchdog._resting)
    gc.collect()
    assert messages.said["unretrieved_exception"] == EACH
    assert eventually(lambda: len(agent.lost()) == messages.said.total())
    messages.match(agent.lost())


def test_a_message_handed_on_to_another_loop_is_no_second_loss(
    agent: Agent, run: Run, new_loop: LoopFactory, messages: Messages
) -> None:
    async def main() -> None:
        ours = asyncio.get_running_loop()
        ours.set_exception_handler(lambda _, context: messages.hear(context))

        handed: list[dict[str, Any]] = []

        def worker() -> None:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(lose(lambda _, context: handed.append(context), gc.collect))

        await asyncio.to_thread(worker)
        for context in handed:
            ours.call_exception_handler(context)

    run(main())
    assert messages.said == {"destroyed_pending": EACH, "unretrieved_exception": EACH}
    messages.match(all_lost(agent))


class Own(asyncio.Task[Any]):
    """A task class of the program's, which asyncio's message names."""


def test_a_task_class_of_the_programs(agent: Agent, run: Run, messages: Messages) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: Own(coro, loop=loop, **options))
        await lose(lambda _, context: messages.hear(context), gc.collect)

    run(main())
    assert messages.said == {"destroyed_pending": EACH, "unretrieved_exception": EACH}
    messages.match(all_lost(agent))


def test_tasks_made_past_the_loop(
    agent: Agent, run: Run, messages: Messages, caplog: pytest.LogCaptureFixture
) -> None:
    """By ``asyncio.Task()``: who created them is not known, nor when."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: messages.hear(context))
        for number in range(3):
            asyncio.Task(die(), loop=loop, name=f"die-{number}")
            asyncio.Task(hang(), loop=loop, name=f"hang-{number}")
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()

    run(main())
    assert messages.said == {"destroyed_pending": 3, "unretrieved_exception": 3}
    lost = all_lost(agent)
    messages.match(lost)
    assert {one.coroutine for one in lost} == {"die", "hang"}
    for one in lost:
        function = globals()[one.coroutine]
        assert (one.site.function, one.site.line) == (one.coroutine, function.__code__.co_firstlineno)
        assert one.age == 0.0
    died = [one for one in lost if one.coroutine == "die"]
    assert [frame.function for one in died for frame in one.await_stack] == ["die"] * 3
    assert {(one.site.module, one.exception) for one in died} == {(__name__, "ValueError")}
    assert f"(die), which begins at {died[0].site}, died of ValueError" in caplog.text


def test_what_asyncio_is_silent_about(agent: Agent, run: Run, messages: Messages) -> None:
    """It does not complain about what it gathers. Each is reported all the same, once."""

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: messages.hear(context))
        asyncio.gather(hang(), hang())
        await asyncio.sleep(0)
        gc.collect()

    run(main())
    assert messages.said == {}
    assert [(one.reason, one.coroutine) for one in all_lost(agent)] == [("destroyed_pending", "hang")] * 2


def test_one_that_loses_many_hides_no_other(agent: Agent, run: Run, messages: Messages) -> None:
    async def noisy() -> None:
        raise KeyError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: messages.hear(context))
        for _ in range(2 * FALLEN):
            start(loop, noisy(), "noisy")
        loop.create_task(die()).set_name("rare")
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()

    run(main())
    lost = all_lost(agent)
    assert Counter(one.task_name for one in lost) == {"noisy": FALLEN_OF_SITE, "rare": 1}
    points = agent.snapshot().points
    counted = {point.labels: point.value for point in points["unretrieved_exceptions"]}
    assert counted == {("KeyError",): 2 * FALLEN, ("ValueError",): 1}
    reasons = {point.labels: point.value for point in points["task_lost"]}
    assert reasons["unretrieved_exception",] == messages.said["unretrieved_exception"] == 2 * FALLEN + 1


def test_collections_in_three_threads_at_once(
    agent: Agent, new_loop: LoopFactory, messages: Messages, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    """Automatic ones, in whichever thread allocates, while loops in all of them lose tasks."""

    async def churn() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: messages.hear(context))
        for number in range(2_000):
            start(loop, die(), f"{threading.get_ident()}-{number}")
            await asyncio.sleep(0)

    def work() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(churn())

    def all_said() -> bool:
        gc.collect()  # does nothing while a thread of the agent's is collecting
        return messages.said.total() >= 6_000

    gc.enable()
    threads = [threading.Thread(target=work, name=f"churn{number}") for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(all_said)
    loopwatch.uninstall()
    assert messages.said == {"unretrieved_exception": 6_000}
    counted = {point.labels: point.value for point in agent.snapshot().points["task_lost"]}
    assert counted["unretrieved_exception",] == 6_000
    assert counted["destroyed_pending",] == 0


def test_a_coroutine_dropped_where_no_python_code_runs(
    agent: Agent, run: Run, eventually: Callable[[Callable[[], Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Then it is known by where it begins."""

    async def main() -> None:
        dropped = [nothing()]
        _thread.start_new_thread(dropped.pop, ())
        await asyncio.to_thread(eventually, lambda: agent.lost() != ())

    with pytest.warns(RuntimeWarning, match="'nothing' was never awaited"):
        run(main())
    (lost,) = all_lost(agent)
    assert (lost.reason, lost.coroutine) == ("never_awaited", "nothing")
    assert (lost.site.function, lost.site.module) == ("nothing", __name__)
    assert lost.site.line == nothing.__code__.co_firstlineno
    assert f"coroutine nothing, which begins at {lost.site}, was never awaited" in caplog.text
    points = agent.snapshot().points["internal_errors"]
    assert sum(point.value for point in points) == 0
