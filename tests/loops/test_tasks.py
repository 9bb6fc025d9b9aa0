"""Each task is counted once, by the function that created it, however many there are and on whatever loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from loopwatch import Agent
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.sites import SITES
from loopwatch.facts import TOP

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Start = Callable[..., asyncio.Task[None]]

OUTCOMES = ("ok", "error", "cancelled")
PATIENCE = 60.0


async def work(outcome: str, gate: asyncio.Event | None = None) -> None:
    """End in the way asked for, once the gate opens."""
    await (asyncio.sleep(0) if gate is None else gate.wait())
    if outcome == "error":
        raise ValueError
    if outcome == "cancelled":
        raise asyncio.CancelledError


def sites(count: int, module: str = "shop") -> dict[str, Start]:
    """Make that many functions that create a task each, by the names the agent will give them."""
    names = [f"site_{number:02}" for number in range(count)]
    made: dict[str, Any] = {"__name__": module, "asyncio": asyncio, "work": work}
    exec("".join(f"def {name}(*how):\n    return asyncio.create_task(work(*how))\n" for name in names), made)
    return {f"{module}.{name}": made[name] for name in names}


def shares(total: int, parts: int) -> list[int]:
    """Split ``total`` into so many parts, each larger than the one before."""
    sizes = [total * 2 * (n + 1) // (parts * (parts + 1)) for n in range(parts)]
    sizes[-1] += total - sum(sizes)
    return sizes


class Counts:
    """What the agent counts of tasks, by the function that created them."""

    def __init__(self, agent: Agent) -> None:
        points: Any = agent.snapshot().points
        self.all: int = points["task_count"][0].value
        self.live = {point.labels[0]: point.value for point in points.get("task_site_count", ())}
        self.created = {point.labels[0]: point.value for point in points["task_created"]}
        self.durations = {point.labels[0]: point.value for point in points["task_duration"]}
        self.finished = {point.labels: point.value for point in points["task_finished"]}
        """By outcome and function."""

    def ended(self) -> Counter[str]:
        """Return how many ended, by outcome."""
        found: Counter[str] = Counter()
        for (outcome, _), count in self.finished.items():
            found[outcome] += count
        return found


@pytest.fixture
def quiet(new_loop: LoopFactory) -> Run:
    """Run a coroutine in a loop that does not report exceptions never retrieved."""

    def quiet(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.get_loop().set_exception_handler(lambda *_: None)
            return runner.run(main)

    return quiet


class TestTenThousandTasksOfThirtySites:
    """Every number is exact: those of the 20 largest sites, and ``_other`` for all else."""

    @pytest.fixture(params=["small sites first", "large sites first"])
    def plan(self, request: pytest.FixtureRequest) -> dict[str, Counter[str]]:
        """How many tasks each site creates, by outcome; ``live`` are those that do not end."""
        sizes = sorted(shares(2_000, 30), reverse=request.param.startswith("large"))
        return {
            name: Counter(ok=2 * size, error=size, cancelled=size, live=size)
            for name, size in zip(sites(30), sizes, strict=True)
        }

    @pytest.fixture
    def counts(self, plan: dict[str, Counter[str]], agent: Agent, quiet: Run) -> Counts:
        starts = sites(30)

        async def main() -> Counts:
            gate = asyncio.Event()
            waiting, ending = [], []
            for name, planned in plan.items():
                for way, count in planned.items():
                    if way == "live":
                        waiting += [starts[name]("ok", gate) for _ in range(count)]
                    else:
                        ending += [starts[name](way) for _ in range(count)]
            await asyncio.gather(*ending, return_exceptions=True)
            counts = Counts(agent)
            gate.set()
            await asyncio.gather(*waiting)
            return counts

        return quiet(main())  # type: ignore[no-any-return]

    @pytest.fixture
    def largest(self, plan: dict[str, Counter[str]]) -> list[str]:
        return sorted(plan, key=lambda name: -plan[name].total())[:20]

    def test_created(self, plan: dict[str, Counter[str]], largest: list[str], counts: Counts) -> None:
        assert {name: counts.created[name] for name in largest} == {
            name: plan[name].total() for name in largest
        }
        assert counts.created.keys() == {*largest, "_other"}
        assert sum(counts.created.values()) == 10_000 + 1  # main itself

    def test_finished(self, plan: dict[str, Counter[str]], largest: list[str], counts: Counts) -> None:
        expected = {(way, name): plan[name][way] for name in largest for way in OUTCOMES}
        assert {key: counts.finished[key] for key in expected} == expected
        assert counts.ended() == Counter(ok=4_000, error=2_000, cancelled=2_000)

    def test_live(self, plan: dict[str, Counter[str]], counts: Counts) -> None:
        shown = counts.live.keys() - {"_other"}
        assert len(shown) == 20
        assert {name: counts.live[name] for name in shown} == {name: plan[name]["live"] for name in shown}
        assert min(counts.live[name] for name in shown) >= max(
            planned["live"] for name, planned in plan.items() if name not in shown
        )
        assert counts.all == sum(counts.live.values()) == 2_000 + 1

    def test_durations(self, counts: Counts) -> None:
        ended: Counter[str] = Counter()
        for (_, name), count in counts.finished.items():
            ended[name] += count
        assert {name: found.count for name, found in counts.durations.items()} == ended
        assert sum(ended.values()) == 8_000
        for found in counts.durations.values():
            assert 0.0 < found.sum < PATIENCE * found.count


class TestReaders:
    """Who reads, and how often, does not change what is read."""

    def test_growth_is_seen_once_by_whoever_reads(self, agent: Agent, quiet: Run) -> None:
        """Also when one site after the other overtakes those shown until then."""
        starts = list(sites(60).values())
        grown = 0.0

        async def main() -> None:
            nonlocal grown
            before: dict[str, float] = {}
            for number, start in enumerate(starts):
                await asyncio.gather(*(start("ok") for _ in range(3 ** min(number // 10, 4))))
                now = Counts(agent).created
                grown += sum(count - before.get(name, 0) for name, count in now.items())
                assert all(count >= before.get(name, 0) for name, count in now.items())
                before = now

        quiet(main())
        assert grown == 1 + sum(10 * 3**n for n in range(5)) + 10 * 3**4

    def test_readers_in_four_threads_count_nothing_twice(self, agent: Agent, quiet: Run) -> None:
        starts = list(sites(10).values())
        over = threading.Event()

        def read() -> None:
            while not over.is_set():
                agent.snapshot()

        async def main() -> Counts:
            for _ in range(100):
                await asyncio.gather(*(start("ok") for start in starts for _ in range(5)))
            return Counts(agent)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            counts = quiet(main())
        finally:
            over.set()
        for thread in threads:
            thread.join()
        assert sum(counts.created.values()) == 5_000 + 1
        assert counts.ended() == Counter(ok=5_000, error=0, cancelled=0)


def test_of_more_sites_than_are_told_apart_every_task_counts(agent: Agent, run: Run) -> None:
    async def main() -> Counts:
        tasks = [start("ok") for start in sites(SITES + 100).values()]
        counts = Counts(agent)
        assert counts.all == sum(counts.live.values()) == len(tasks) + 1
        await asyncio.gather(*tasks)
        return Counts(agent)

    counts = run(main())
    assert len(counts.created) == TOP + 1
    assert sum(counts.created.values()) == SITES + 100 + 1
    assert counts.ended()["ok"] == SITES + 100


def test_of_more_loops_than_are_told_apart_every_task_counts(agent: Agent, new_loop: LoopFactory) -> None:
    start = sites(1)["shop.site_00"]
    before = 0.0

    async def main() -> None:
        await asyncio.gather(start("ok"), start("ok"))

    def use() -> None:
        with contextlib.closing(new_loop()) as loop:
            loop.run_until_complete(main())

    for number in range(LoopStates.LIMIT + 20):
        thread = threading.Thread(target=use, name=f"thread{number}x")
        thread.start()
        thread.join()
        counts = Counts(agent)
        assert counts.created["shop.site_00"] == before + 2
        before = counts.created["shop.site_00"]
    assert counts.finished["ok", "shop.site_00"] == counts.durations["shop.site_00"].count == before
    assert counts.all == 0


class Churn(threading.Thread):
    """Runs loops, one after the other, in which tasks end in every way, or are lost."""

    RUNS = 20
    EACH = 50
    """Tasks for each way to end, in each run."""
    collecting = threading.Lock()

    def __init__(self, name: str, new_loop: LoopFactory) -> None:
        super().__init__(name=name)
        self._new_loop = new_loop
        self._starts = list(sites(4, module=name).values())
        self._random = random.Random(name)

    def run(self) -> None:
        for _ in range(self.RUNS):
            with asyncio.Runner(loop_factory=self._new_loop) as runner:
                runner.get_loop().set_exception_handler(lambda *_: None)
                runner.run(self._main())

    async def _main(self) -> None:
        ways = [*OUTCOMES, "lost"] * self.EACH
        self._random.shuffle(ways)
        ending, lost = [], []
        for way in ways:
            start = self._random.choice(self._starts)
            if way == "lost":
                lost.append(weakref.ref(start("ok", asyncio.Event())))
            else:
                ending.append(start(way))
            if self._random.random() < 0.1:
                await asyncio.sleep(0)
        await asyncio.gather(*ending, return_exceptions=True)
        async with asyncio.timeout(PATIENCE):
            while not self._are_gone(lost):
                await asyncio.sleep(0)

    def _are_gone(self, lost: list[weakref.ref[asyncio.Task[Any]]]) -> bool:
        """Collect, and tell whether these tasks are gone.

        One thread at a time: a task that another thread is about to finalise has no weak references any more,
        but from Python 3.14 on it is still among all tasks, and a Runner that ends would cancel it.
        """
        with self.collecting:
            gc.collect()
            return all(task() is None for task in lost)


def lost(agent: Agent) -> Any:
    """Return how many losses the agent counts, including those not reported one by one."""
    return sum(point.value for point in agent.snapshot().points["task_lost"])  # type: ignore[misc]


@pytest.mark.usefixtures("without_collector")
def test_nothing_is_lost_under_churn_from_three_threads(
    agent: Agent, new_loop: LoopFactory, eventually: Callable[[Callable[[], Any]], Any]
) -> None:
    threads = [Churn(name, new_loop) for name in ("red", "green", "blue")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        agent.snapshot()
    each = 3 * Churn.RUNS * Churn.EACH
    # Besides main, a Runner has two tasks of asyncio's own run, which shut down generators and executor.
    own = 3 * Churn.RUNS * 3
    counts = Counts(agent)
    assert sum(counts.created.values()) == 4 * each + own
    assert counts.ended() == Counter(ok=each + own, error=each, cancelled=each)
    for color in ("red", "green", "blue"):
        ours = sum(count for name, count in counts.created.items() if name.startswith(f"{color}.site"))
        assert ours == 4 * Churn.RUNS * Churn.EACH
    eventually(lambda: Counts(agent).all == 0)
    eventually(lambda: lost(agent) >= each)
