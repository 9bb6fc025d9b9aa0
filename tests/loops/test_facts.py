"""The health of a loop, in numbers that the test knows because it caused them."""

import asyncio
import contextlib
import gc
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Distribution, Point, Snapshot
from tests.machine import CpuWaits

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def block(seconds: float) -> float:
    """Hold up the loop, and return for how long that really lasted."""
    began = time.monotonic()
    threading.Event().wait(seconds)
    return time.monotonic() - began


def compute(seconds: float) -> float:
    """Keep the CPU busy for so much CPU time, and return the CPU time taken."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        sum(range(100))
    return time.thread_time() - began


def values(snapshot: Snapshot, stem: str) -> dict[tuple[str, ...], Any]:
    return {point.labels: point.value for point in snapshot.points.get(stem, ())}


def of_main(snapshot: Snapshot, stem: str) -> Any:
    """Return the value of a fact that has the loop's name as its only label."""
    return values(snapshot, stem)[("main",)]


def active_and_idle(snapshot: Snapshot) -> tuple[float, float]:
    times = values(snapshot, "loop_time")
    return times["main", "active"], times["main", "idle"]


@pytest.mark.usefixtures("without_collector")
def test_every_loop_fact_is_there(agent: Agent, run: Run, blind: bool) -> None:
    async def main() -> Snapshot:
        await asyncio.sleep(0.2)
        gc.collect()
        return agent.snapshot()

    points = run(main()).points
    expected = {"info", "delay", "delay_max", "loop_time", "blocked", "last_tick", "cpu_time", "gc_pause"}
    expected |= {"block_duration"}
    exact = {"iterations", "ready", "timers"}
    assert expected <= points.keys()
    assert exact & points.keys() == (set() if blind else exact)
    assert all(isinstance(point, Point) for facts in points.values() for point in facts)


class TestDelay:
    """How late the loop runs a timer."""

    def test_a_block_is_one_delay_of_its_length(
        self, agent: Agent, run: Run, cpu_waits: CpuWaits, blind: bool
    ) -> None:
        """The beat was due at some time in the first interval of the block, and ran at its end."""

        async def main() -> tuple[float, Distribution]:
            await asyncio.sleep(0.05)
            blocked = block(0.4)
            await asyncio.sleep(0.01)
            return blocked, of_main(agent.snapshot(), "delay")

        blocked, delay = run(main())
        interval = 0.02 if blind else 0.05
        long = sum(
            count for bound, count in zip((*delay.bounds, 1e9), delay.counts, strict=True) if bound > 0.25
        )
        assert 1 <= long <= 1 + cpu_waits.seconds() / 0.25  # each other one is of a busy machine
        assert blocked - interval - 0.01 < delay.sum < blocked + 0.1 + cpu_waits.seconds()
        assert delay.count >= 2

    def test_its_maximum_is_of_the_last_minute_and_no_reading_resets_it(
        self, agent: Agent, run: Run, cpu_waits: CpuWaits
    ) -> None:
        async def main() -> tuple[float, list[float]]:
            await asyncio.sleep(0)
            blocked = block(0.3)
            await asyncio.sleep(0)
            block(0.1)
            await asyncio.sleep(0)
            return blocked, [of_main(agent.snapshot(), "delay_max") for _ in range(3)]

        blocked, (first, second, third) = run(main())
        assert blocked - 0.1 < first < blocked + 0.1 + cpu_waits.seconds()
        assert first == second == third

    def test_a_beat_comes_several_times_a_second_and_tells_when(
        self, agent: Agent, run: Run, cpu_waits: CpuWaits
    ) -> None:
        async def main() -> tuple[float, Snapshot]:
            began = time.monotonic()
            while of_main(snapshot := agent.snapshot(), "delay").count < 5:
                await asyncio.sleep(0.05)
            return time.monotonic() - began, snapshot

        waited, snapshot = run(main())
        assert of_main(snapshot, "delay").count <= waited * 50 + 1
        assert waited < 1.0 + cpu_waits.seconds()
        assert snapshot.taken_at - of_main(snapshot, "last_tick") < 1.0 + cpu_waits.seconds()


class TestTime:
    """Where the loop's time goes."""

    def test_active_and_idle_add_up_to_the_running_time(
        self, agent: Agent, run: Run, cpu_waits: CpuWaits
    ) -> None:
        async def main() -> tuple[float, Snapshot, float]:
            began = time.monotonic()
            for _ in range(20):
                await asyncio.sleep(0.02)
                block(0.02)
            snapshot = agent.snapshot()
            return began, snapshot, time.monotonic()

        began, snapshot, ended = run(main())
        ran = ended - began
        assert sum(active_and_idle(snapshot)) == pytest.approx(ran, abs=0.05 * ran + cpu_waits.seconds())

    def test_the_split_is_exact(self, agent: Agent, run: Run, cpu_waits: CpuWaits, blind: bool) -> None:
        """The test measures by the same clock how long it blocked, in steps around which it only waits."""

        async def main() -> tuple[float, float, float, Snapshot]:
            await asyncio.sleep(0.05)
            before, began, blocked = active_and_idle(agent.snapshot())[0], time.monotonic(), 0.0
            for _ in range(10):
                await asyncio.sleep(0.03)
                blocked += block(0.05)
            ran = time.monotonic() - began
            return blocked, ran, before, agent.snapshot()

        blocked, ran, before, snapshot = run(main())
        active, idle = active_and_idle(snapshot)
        tolerance = 0.25 if blind else 0.03  # 40 samples a second; a few steps of the loop besides ours
        assert active - before == pytest.approx(blocked, abs=tolerance * ran + cpu_waits.seconds())
        at_rest = agent.snapshot()  # in which nobody adds to the one what the other has not yet
        active, idle = active_and_idle(at_rest)
        assert at_rest.loops[0].utilization == pytest.approx(active / (active + idle))

    def test_many_short_steps_that_compute_are_not_missed(
        self, agent: Agent, run: Run, cpu_waits: CpuWaits, blind: bool
    ) -> None:
        """Each is over before a thread that looks on gets the GIL."""

        async def main() -> tuple[float, float, Snapshot]:
            began, computed = time.monotonic(), 0.0
            while computed < 1.0:
                computed += compute(0.002)
                await asyncio.sleep(0.002)
            return computed, time.monotonic() - began, agent.snapshot()

        computed, ran, snapshot = run(main())
        active, idle = active_and_idle(snapshot)
        assert active + idle == pytest.approx(ran, abs=0.1 + cpu_waits.seconds())
        few = (
            0.2 if blind else 0.1
        )  # seconds: of the loop's own steps; and of what looks see of a tenth of them
        assert computed - 0.05 < active < computed + few * ran + cpu_waits.seconds()

    def test_a_loop_that_does_not_run_is_neither(
        self, agent: Agent, new_loop: LoopFactory, cpu_waits: CpuWaits
    ) -> None:
        with contextlib.closing(new_loop()) as loop:
            loop.run_until_complete(asyncio.sleep(0.1))
            before = sum(active_and_idle(agent.snapshot()))
            block(0.2)
            after = sum(active_and_idle(agent.snapshot()))
            assert after == pytest.approx(before, abs=0.03 + cpu_waits.seconds())
            began = time.monotonic()
            loop.run_until_complete(asyncio.sleep(0.1))
            ran = time.monotonic() - began
            assert sum(active_and_idle(agent.snapshot())) < after + ran + 0.03 + cpu_waits.seconds()

    def test_cpu_time_is_that_of_the_loops_thread_while_it_runs(self, agent: Agent, run: Run) -> None:
        def elsewhere() -> None:
            compute(0.1)

        async def main() -> tuple[float, float]:
            spent = compute(0.1)
            await asyncio.to_thread(elsewhere)
            return spent, of_main(agent.snapshot(), "cpu_time")

        compute(0.1)
        spent, cpu_time = run(main())
        assert spent <= cpu_time < spent + 0.09
        assert of_main(agent.snapshot(), "cpu_time") == pytest.approx(cpu_time, abs=0.1)

    def test_no_counter_ever_falls(self, agent: Agent, run: Run) -> None:
        async def busy() -> None:
            for _ in range(50):
                await asyncio.sleep(0.001)

        stop, often = threading.Event(), threading.Event()
        read: list[dict[tuple[str, ...], Any]] = []

        def reader() -> None:
            while not stop.is_set():
                snapshot = agent.snapshot()
                read.append(
                    values(snapshot, "loop_time")
                    | {("cpu", *key): value for key, value in values(snapshot, "cpu_time").items()}
                    | {("turns", *key): value for key, value in values(snapshot, "iterations").items()}
                )
                if len(read) > 10:
                    often.set()

        thread = threading.Thread(target=reader)
        thread.start()
        runs = 0
        try:
            while runs < 3 or (thread.is_alive() and not often.is_set()):
                run(busy())
                runs += 1
        finally:
            stop.set()
        thread.join()
        for before, after in itertools.pairwise(read):
            assert all(after[key] >= value for key, value in before.items())
        assert len(read) > 10


class TestIterations:
    """Turns of the loop, ready callbacks and timers: exact, or absent where there is no selector."""

    def test_each_turn_counts_once(self, agent: Agent, run: Run, blind: bool) -> None:
        async def main() -> tuple[int | None, int | None]:
            await asyncio.sleep(0)
            before = agent.loops()[0].iterations
            for _ in range(1_000):
                await asyncio.sleep(0)
            return before, agent.loops()[0].iterations

        before, after = run(main())
        if blind:
            assert (before, after) == (None, None)
        else:
            assert before is not None
            assert after is not None
            assert after - before == 1_000

    def test_ready_callbacks_and_timers_are_the_programs(self, agent: Agent, run: Run, blind: bool) -> None:
        async def main() -> tuple[Any, Any]:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(0)
            while (before := agent.loops()[0]).ready:  # a beat of ours, since this has taken so long
                await asyncio.sleep(0)
            timers = [loop.call_later(60, print) for _ in range(7)]
            for _ in range(5):
                loop.call_soon(int)
            after = agent.loops()[0]
            for timer in timers:
                timer.cancel()
            return before, after

        before, after = run(main())
        if blind:
            assert (before.ready, before.timers, after.ready, after.timers) == (None,) * 4
        else:
            assert (before.ready, before.timers) == (0, 0)
            assert (after.ready, after.timers) == (5, 7)


@pytest.mark.usefixtures("without_collector")
class TestCollections:
    """Garbage collections stop every loop, whichever thread they run in."""

    @pytest.mark.parametrize("generation", [0, 1, 2])
    def test_each_counts_in_its_generation_with_its_length(
        self, agent: Agent, run: Run, generation: int
    ) -> None:
        key = ("main", str(generation))
        stamps: list[float] = []

        def stamp(phase: str, info: dict[str, int]) -> None:
            stamps.append(time.monotonic())

        async def main() -> tuple[Distribution | None, Distribution]:
            garbage = [[] for _ in range(200_000)]  # type: ignore[var-annotated]
            before = values(agent.snapshot(), "gc_pause").get(key)
            gc.callbacks.insert(0, stamp)  # before and after ours, at the beginning and at the end
            gc.callbacks.append(stamp)
            try:
                gc.collect(generation)
            finally:
                gc.callbacks.remove(stamp)
                gc.callbacks.remove(stamp)
            after = values(agent.snapshot(), "gc_pause")[key]
            del garbage
            return before, after

        before, after = run(main())
        assert after.count - (before.count if before else 0) == 1
        pause = after.sum - (before.sum if before else 0.0)
        first, begun, ended, last = stamps
        assert ended - begun - 1e-6 <= pause <= last - first + 1e-6  # of the sums are their differences

    def test_one_in_another_thread_counts_for_the_loop_too(self, agent: Agent, run: Run) -> None:
        async def main() -> int:
            await asyncio.to_thread(gc.collect)
            count: int = values(agent.snapshot(), "gc_pause")["main", "2"].count
            return count

        assert run(main()) >= 1

    def test_one_while_no_loop_runs_is_nobodys_pause(self, agent: Agent, run: Run) -> None:
        run(asyncio.sleep(0))
        before = values(agent.snapshot(), "gc_pause").get(("main", "2"))
        gc.collect()
        assert values(agent.snapshot(), "gc_pause").get(("main", "2")) == before


class TestBlocked:
    """For how long the loop has owed service, right now."""

    def test_it_rises_during_a_block_and_falls_after_it(
        self, agent: Agent, run: Run, cpu_waits: CpuWaits, eventually: Callable[..., Any]
    ) -> None:
        release = threading.Event()
        seen: list[float] = []

        def watch() -> None:
            for age in (0.1, 0.2, 0.3):
                seen.append(
                    eventually(lambda age=age: (b := of_main(agent.snapshot(), "blocked")) > age and b)
                )
                assert agent.loops()[0].blocked >= seen[-1]
                assert of_main(agent.snapshot(), "delay_max") >= seen[-1]
            cpu_waits.seconds()  # of this thread, too, which is about to end
            release.set()

        async def main() -> float:
            await asyncio.sleep(0.05)
            thread = threading.Thread(target=watch)
            thread.start()
            release.wait(30)
            await asyncio.sleep(0)
            blocked: float = of_main(agent.snapshot(), "blocked")
            await asyncio.to_thread(thread.join)
            return blocked

        assert run(main()) < 0.1 + cpu_waits.seconds()
        assert seen == sorted(seen)
        assert len(seen) == 3

    def test_a_loop_that_waits_owes_nothing(
        self, agent: Agent, new_loop: LoopFactory, cpu_waits: CpuWaits, eventually: Callable[..., Any]
    ) -> None:
        loop = new_loop()
        thread = threading.Thread(target=loop.run_forever, name="idle")
        thread.start()
        try:
            eventually(agent.loops)
            highest = max(agent.loops()[0].blocked for _ in range(2_000))
            assert highest < 0.1 + cpu_waits.seconds()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def test_time_lost_in_stalls_adds_up_by_function(agent: Agent, run: Run, cpu_waits: CpuWaits) -> None:
    def first() -> float:
        began = time.monotonic()
        time.sleep(0.15)
        return time.monotonic() - began

    def second() -> float:
        began = time.monotonic()
        time.sleep(0.2)
        return time.monotonic() - began

    async def main() -> Counter[str]:
        await asyncio.sleep(0.05)
        lost: Counter[str] = Counter()
        for _ in range(2):
            for function in (first, second):
                lost[function.__name__] += function()  # type: ignore[assignment]
                await asyncio.sleep(0.03)
        return lost

    lost = run(main())
    waited = cpu_waits.seconds()
    loopwatch.uninstall()
    snapshot = agent.snapshot()
    found: Counter[str] = Counter()
    for (_, function, _), seconds in values(snapshot, "block_time").items():
        found[function.rpartition(".")[2]] += seconds
    # One of which the watchdog had no sample is nobody's: it has waited for more than half of that time.
    assert lost["first"] - 0.05 - 2 * waited < found["first"] < lost["first"] + 0.05 + waited
    assert lost["second"] - 0.05 - 2 * waited < found["second"] < lost["second"] + 0.05 + waited
    assert of_main(snapshot, "block_duration").count >= 4
    assert of_main(snapshot, "block_duration").sum == pytest.approx(sum(found.values()))
