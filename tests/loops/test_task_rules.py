"""Programs that lose tasks in every way, on real loops: the rules see that, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from loopwatch._rules.rule import Symptom
from tests.looks import look, until_seen

Run = Callable[[Any], Any]
HERE = "test_task_rules.py"
EACH = 3

pytestmark = pytest.mark.usefixtures("without_collector")


@pytest.fixture(autouse=True)
def quiet(run: Run) -> None:
    """Silence asyncio's own messages, which these programs provoke."""
    warnings.simplefilter("ignore", RuntimeWarning)


async def hear_nothing() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)


def one(found: list[Symptom], rule: str) -> Symptom:
    """Return the only symptom, which must be of that rule."""
    assert [symptom.rule for symptom in found] == [rule], [symptom.summary for symptom in found]
    return found[0]


async def wait_for(future: asyncio.Future[None]) -> None:
    await future


def forget() -> None:
    asyncio.create_task(wait_for(asyncio.get_running_loop().create_future()))  # noqa: RUF006


async def fail() -> None:
    await asyncio.sleep(0)
    raise KeyError("a secret")


async def nothing() -> None:
    pass


def test_tasks_that_nothing_holds_and_their_end(agent: Agent, run: Run) -> None:
    async def main() -> None:
        await hear_nothing()
        for _ in range(EACH):
            forget()
        async with asyncio.timeout(30):
            while (found := await until_seen(agent, "LW204"))[0].count < EACH:
                pass
        held = one(found, "LW204")
        assert f"{EACH} tasks of `wait_for`, created by `forget` ({HERE}:" in held.summary
        assert "waiting for future" in held.summary
        assert held.evidence["tasks"] == EACH
        assert 0 < held.evidence["oldest_s"] < 60
        assert "loopwatch.spawn()" in held.fix
        gc.collect()
        lost = one(await until_seen(agent, "LW201"), "LW201")
        assert lost.summary.startswith(f"{EACH} tasks of `wait_for`, created by `forget` ({HERE}:")
        assert "stood at `wait_for`" in lost.summary
        assert (lost.count, lost.evidence["destroyed"], lost.because) == (EACH, EACH, None)

    run(main())


def test_an_exception_that_nobody_asks_for(agent: Agent, run: Run) -> None:
    async def main() -> None:
        await hear_nothing()
        for _ in range(EACH):
            asyncio.create_task(fail())  # noqa: RUF006
        async with asyncio.timeout(30):
            while (found := await until_seen(agent, "LW202"))[0].count < EACH:
                pass
        symptom = one(found, "LW202")
        assert "died of KeyError, raised at `fail`" in symptom.summary
        assert symptom.evidence["exceptions"] == EACH
        assert "secret" not in f"{symptom}"

    run(main())


def test_a_coroutine_never_awaited(agent: Agent, run: Run) -> None:
    async def main() -> None:
        nothing()
        symptom = one(await until_seen(agent, "LW203"), "LW203")
        assert "coroutine `nothing`, dropped by `test_a_coroutine_never_awaited" in symptom.summary
        assert "`await nothing(...)`" in symptom.fix
        assert symptom.count == 1

    run(main())


def test_a_deadlock_names_both_ends(agent: Agent, run: Run) -> None:
    async def take(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with first:
            await asyncio.sleep(0.01)
            async with second:
                pass

    async def main() -> None:
        left, right = asyncio.Lock(), asyncio.Lock()
        tasks = [
            asyncio.create_task(take(left, right), name="leftist"),
            asyncio.create_task(take(right, left), name="rightist"),
        ]
        symptom = one(await until_seen(agent, "LW205"), "LW205")
        assert symptom.severity == "critical"
        for name in ("leftist", "rightist"):
            assert f"task '{name}' (`" in symptom.summary
        assert symptom.summary.count(f"({HERE}:") == 2
        assert symptom.evidence["tasks_in_cycle"] == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(30):
            while await look(agent):  # once they have ended there is none
                await asyncio.sleep(0.05)

    run(main())


def test_jobs_that_nothing_can_wake(agent: Agent, run: Run) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        for _ in range(EACH):
            loopwatch.spawn(hang())
        async with asyncio.timeout(30):
            while (found := await until_seen(agent, "LW207"))[0].count < EACH:
                pass
        symptom = one(found, "LW207")
        assert "waiting for Event.wait; nothing can wake it" in symptom.summary
        assert "call set() on the event" in symptom.fix
        assert symptom.evidence["tasks"] == EACH
        report = await loopwatch.drain(timeout=0.0)
        assert len(report.cancelled) == EACH

    run(main())


def test_a_context_lost_on_the_way_to_a_thread(agent: Agent, run: Run) -> None:
    request: ContextVar[str] = ContextVar("request_id")
    loopwatch.watch_var(request)

    def charge() -> None:
        loopwatch.current_work()

    async def handle(number: int) -> None:
        request.set(f"r-{number}")
        await asyncio.get_running_loop().run_in_executor(None, charge)

    async def main() -> None:
        for number in range(EACH):
            await asyncio.create_task(handle(number))
        symptom = one(await until_seen(agent, "LW401"), "LW401")
        assert "charge` (" in symptom.summary
        assert "runs without request_id, which `test_a_context_lost" in symptom.summary
        assert (symptom.count, symptom.evidence["works"]) == (EACH, EACH)
        assert "asyncio.to_thread" in symptom.fix
        assert "r-1" not in f"{symptom}"

    run(main())


def test_nothing_is_wrong_with_a_program_that_holds_what_it_starts(agent: Agent, run: Run) -> None:
    """Daemons that wait for ever, a queue's workers, locks taken in one order, contexts handed over."""
    request: ContextVar[str] = ContextVar("request_id")
    loopwatch.watch_var(request)
    lock, gate = asyncio.Lock(), asyncio.Semaphore(2)

    async def work(queue: asyncio.Queue[Any]) -> None:
        while True:
            with loopwatch.restore(await queue.get()):
                async with lock, gate:
                    await asyncio.to_thread(loopwatch.current_work)

    async def fail_and_be_asked() -> None:
        with pytest.raises(KeyError):
            await asyncio.create_task(fail())

    async def main() -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        daemons = [loopwatch.daemon(asyncio.create_task(work(queue))) for _ in range(5)]
        held = {asyncio.create_task(asyncio.Event().wait()) for _ in range(5)}
        for number in range(50):
            request.set(f"r-{number}")
            queue.put_nowait(loopwatch.carry(number))
        await fail_and_be_asked()
        for _ in range(40):  # two seconds: all of the leak finder's turns
            assert await look(agent) == []
            await asyncio.sleep(0.05)
        for task in (*daemons, *held):
            task.cancel()
        await asyncio.gather(*daemons, *held, return_exceptions=True)

    run(main())
