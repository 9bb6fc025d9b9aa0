"""Stalls of real loops, from the block to the record: how long, where, why, in which task, each once.

A machine that is busy otherwise truly starves the loop now and then. Where the evidence of a stall says so,
it may be called that, or unknown; nothing else may ever stand in for the true cause.
"""

import asyncio
import contextlib
import gc
import json
import logging
import math
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Stall

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Script = Callable[..., subprocess.CompletedProcess[str]]


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def sleeps_deep(seconds: float) -> None:
    sleeps(seconds)


def waits(seconds: float) -> None:
    threading.Event().wait(seconds)


def loops(seconds: float) -> None:
    until = time.thread_time() + seconds
    count = 0
    while time.thread_time() < until:
        count += 1


def parses(seconds: float) -> None:
    text = json.dumps([{"key": number, "text": "x" * 20} for number in range(2_000)])
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        json.loads(text)


def seconds_of(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


class Observed:
    """What really happened, by the test's clock, and what the agent made of it."""

    def __init__(self, agent: Agent, happened: list[float]) -> None:
        loopwatch.uninstall()
        self.happened = happened
        longest = sorted(agent.stalls(), key=lambda stall: stall.duration)[-len(happened) :]
        self.stalls = sorted(longest, key=lambda stall: stall.started_at)

    def pairs(self) -> Iterator[tuple[float, Stall]]:
        assert len(self.stalls) == len(self.happened)
        yield from zip(self.happened, self.stalls, strict=True)


def assert_caused_by(cause: str, stall: Stall) -> None:
    if stall.evidence.get("runqueue_s", 0.0) > 0.1 * stall.duration:
        assert stall.cause in {cause, "starved", "unknown"}, stall
    else:
        assert stall.cause == cause, stall


async def twice(work: Callable[[], None]) -> list[float]:
    happened = []
    for _ in range(2):
        await asyncio.sleep(0.05)
        happened.append(seconds_of(work))
    await asyncio.sleep(0.01)
    return happened


@pytest.mark.parametrize(
    ("work", "culprit", "call", "cause"),
    [
        (lambda: sleeps(0.2), "sleeps", "time.sleep", "blocking"),
        (lambda: sleeps_deep(0.15), "sleeps", "time.sleep", "blocking"),
        (lambda: waits(0.15), "waits", "wait", "blocking"),
        (lambda: loops(0.15), "loops", ..., "cpu"),
        (lambda: parses(0.15), "parses", ..., "cpu"),
    ],
    ids=["sleep", "sleep two calls deep", "wait", "loop", "json"],
)
def test_a_stall_is_named(
    agent: Agent, run: Run, work: Callable[[], None], culprit: str, call: Any, cause: str
) -> None:
    began = time.time()
    observed = Observed(agent, run(twice(work)))
    for seconds, stall in observed.pairs():
        assert stall.duration == pytest.approx(seconds, abs=0.02)
        assert stall.culprit is not None
        assert (stall.culprit.function, stall.culprit.module) == (culprit, __name__)
        assert stall.culprit.file == __file__
        assert call is ... or stall.call == call
        assert began < stall.started_at < time.time()
        assert (stall.loop_name, stall.in_progress) == ("main", False)
        assert stall.samples >= 1
        functions = [frame.function for frame in stall.stack]
        assert functions.index("twice") < functions.index("<lambda>") < functions.index(culprit)
        assert not {"Runner.run", "<module>"} & set(functions)
        assert not [frame for frame in stall.stack if frame.module.startswith("loopwatch")]
        assert stall.task_name is None or stall.task_name.startswith("Task-")  # None: on 3.13, see below
        assert stall.coroutine == "twice"
        assert_caused_by(cause, stall)


def test_the_line_is_where_it_stood(agent: Agent, run: Run) -> None:
    observed = Observed(agent, run(twice(lambda: sleeps(0.15))))
    code = sleeps.__code__
    for _, stall in observed.pairs():
        assert stall.culprit is not None
        assert stall.culprit.line == code.co_firstlineno + 1
        assert str(stall.culprit) == f"{__name__}.sleeps ({__file__}:{code.co_firstlineno + 1})"


def test_a_named_task_and_its_coroutine_are_told(agent: Agent, run: Run) -> None:
    async def child() -> list[float]:
        return await twice(lambda: sleeps(0.15))

    async def main() -> Any:
        return await asyncio.create_task(child(), name="invoice 7")

    for _, stall in Observed(agent, run(main())).pairs():
        assert stall.task_name == "invoice 7"
        assert (stall.coroutine or "").endswith("child")


def test_a_task_that_python_calls_none_has_no_name(agent: Agent, run: Run) -> None:
    """So Python 3.13 calls one that a task factory made, the eager one too, and that nobody named."""

    async def main() -> list[float]:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("None")
        return await twice(lambda: sleeps(0.15))

    for _, stall in Observed(agent, run(main())).pairs():
        assert stall.task_name is None
        assert (stall.coroutine or "").endswith("main")


@pytest.mark.parametrize("kind", ["call_soon", "call_later", "add_reader", "call_soon_threadsafe"])
def test_a_callback_has_no_task(agent: Agent, new_loop: LoopFactory, kind: str) -> None:
    ours, theirs = socket.socketpair()
    happened: list[float] = []

    def callback() -> None:
        loop.remove_reader(ours)
        happened.append(seconds_of(lambda: sleeps(0.2)))
        loop.call_later(0.01, loop.stop)

    with contextlib.closing(new_loop()) as loop, ours, theirs:
        if kind == "call_later":
            loop.call_later(0.05, callback)
        elif kind == "add_reader":
            loop.add_reader(ours, callback)
            theirs.send(b"x")
        else:
            getattr(loop, kind)(callback)
        loop.run_forever()
    for seconds, stall in Observed(agent, happened).pairs():
        assert stall.duration == pytest.approx(seconds, abs=0.02)
        assert stall.culprit is not None
        assert stall.culprit.function == "sleeps"
        assert (stall.task_name, stall.coroutine) == (None, None)


def test_a_collection_is_the_collectors(agent: Agent, run: Run) -> None:
    heap = [[number] for number in range(300_000)]

    def collects() -> None:
        began = time.monotonic()
        while time.monotonic() - began < 0.12:
            gc.collect()

    async def main() -> list[float]:
        gc.disable()
        happened = await twice(collects)
        gc.enable()
        return happened

    observed = Observed(agent, run(main()))
    assert heap
    for seconds, stall in observed.pairs():
        assert stall.duration == pytest.approx(seconds, abs=0.03)
        assert stall.culprit is not None
        assert (stall.culprit.function.rpartition(".")[2], stall.call) == ("collects", "gc.collect")
        assert_caused_by("gc", stall)


def test_many_short_callbacks_are_a_flood(agent: Agent, run: Run, blind: bool) -> None:
    def short() -> None:
        until = time.thread_time() + 0.0005
        while time.thread_time() < until:
            pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            await asyncio.sleep(0.05)
            for _ in range(500):
                loop.call_soon(short)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)

    run(main())
    loopwatch.uninstall()
    assert len(agent.stalls()) >= 3
    for stall in agent.stalls():
        assert_caused_by("flood", stall)


class TestInProgress:
    """A stall shows before it ends."""

    def test_it_can_be_asked_for_from_another_thread_while_the_loop_is_blocked(
        self, agent: Agent, run: Run, eventually: Callable[..., Any]
    ) -> None:
        seen: list[Stall] = []
        release = threading.Event()

        def ask() -> None:
            seen.append(eventually(lambda: agent.stalls() and agent.stalls()[-1]))
            seen.append(
                eventually(lambda: (now := agent.stalls()[-1]).duration > seen[0].duration + 0.05 and now)
            )
            assert agent.snapshot().stalls[-1].in_progress
            release.set()

        def holds() -> None:
            release.wait(30)

        async def main() -> None:
            thread = threading.Thread(target=ask)
            await asyncio.sleep(0.05)
            thread.start()
            holds()
            await asyncio.sleep(0)
            await asyncio.to_thread(thread.join)

        run(main())
        first, second = seen
        assert first.in_progress
        assert second.in_progress
        assert 0.1 < first.duration < second.duration
        for stall in seen:
            assert stall.culprit is not None
            assert stall.culprit.function.endswith("holds")
            assert stall.call == "release.wait"
            assert (stall.coroutine or "").endswith("main")
        loopwatch.uninstall()
        over = max(agent.stalls(), key=lambda stall: stall.duration)
        assert not over.in_progress
        assert over.duration >= second.duration
        assert over.started_at == pytest.approx(first.started_at, abs=0.05)
        assert len([stall for stall in agent.stalls() if stall.duration > 0.14]) == 1

    def test_none_is_in_progress_when_all_is_well(self, agent: Agent, run: Run) -> None:
        async def main() -> bool:
            for _ in range(5):
                await asyncio.sleep(0.02)
            return any(stall.in_progress for stall in agent.stalls())

        assert not run(main())


class TestLastStep:
    """What a loop does in its last step is never followed by another."""

    def test_asyncio_run_of_a_coroutine_that_blocks_and_returns(self, agent: Agent, run: Run) -> None:
        async def main() -> float:
            return seconds_of(lambda: sleeps(0.2))

        for seconds, stall in Observed(agent, [run(main())]).pairs():
            assert stall.duration == pytest.approx(seconds, abs=0.02)
            assert stall.culprit is not None
            assert stall.culprit.function == "sleeps"

    def test_a_callback_that_blocks_and_stops_the_loop(self, agent: Agent, new_loop: LoopFactory) -> None:
        happened: list[float] = []

        def callback() -> None:
            happened.append(seconds_of(lambda: sleeps(0.2)))
            loop.stop()

        with contextlib.closing(new_loop()) as loop:
            loop.call_soon(callback)
            loop.run_forever()
        for seconds, stall in Observed(agent, happened).pairs():
            assert stall.duration == pytest.approx(seconds, abs=0.02)

    def test_a_short_script_logs_it_on_its_way_out(self, script: Script) -> None:
        done = script(
            """
import asyncio, time, loopwatch
loopwatch.install(prometheus_port=None)

async def report():
    time.sleep(0.3)

asyncio.run(report())
"""
        )
        [line] = done.stderr.splitlines()
        assert line.startswith("loopwatch: event loop 'main' was blocked for 3")
        assert line.endswith("program.py:6); task 'Task-1' (report)")
        assert " by time.sleep in __main__.report (" in line


def test_two_loops_that_stall_at_once_are_told_apart(agent: Agent, new_loop: LoopFactory) -> None:
    together = threading.Barrier(2)

    def left() -> None:
        time.sleep(0.2)

    def right() -> None:
        time.sleep(0.3)

    async def main(work: Callable[[], None]) -> None:
        await asyncio.to_thread(together.wait, 30)
        work()
        await asyncio.sleep(0)

    def thread(work: Callable[[], None]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main(work))

    threads = [
        threading.Thread(target=thread, args=(work,), name=f"{work.__name__} side") for work in (left, right)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    loopwatch.uninstall()
    found = {
        stall.loop_name: (stall.culprit.function.rpartition(".")[2], stall.duration)
        for stall in agent.stalls()
        if stall.culprit is not None
    }
    assert {name: function for name, (function, _) in found.items()} == {
        "left side": "left",
        "right side": "right",
    }
    assert found["left side"][1] == pytest.approx(0.2, abs=0.06)
    assert found["right side"][1] == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("threshold", [0.02, 0.5])
def test_the_threshold_decides(install: Callable[..., Agent], run: Run, threshold: float) -> None:
    agent = install(stall_threshold=threshold)
    observed = Observed(agent, run(twice(lambda: sleeps(0.1))))
    assert bool(observed.stalls) == (threshold < 0.1)
    if observed.stalls:
        assert all(stall.duration == pytest.approx(seconds, abs=0.02) for seconds, stall in observed.pairs())


def test_of_many_each_is_told_once(install: Callable[..., Agent], run: Run) -> None:
    agent = install(stall_threshold=0.01)

    async def main() -> None:
        for _ in range(40):
            await asyncio.sleep(0.001)
            time.sleep(0.02)

    run(main())
    loopwatch.uninstall()
    snapshot = agent.snapshot()
    assert 40 <= len(snapshot.stalls) <= 44  # the machine may have had some of its own
    [duration] = snapshot.points["block_duration"]
    assert duration.value.count == len(snapshot.stalls)
    assert duration.value.sum == pytest.approx(sum(stall.duration for stall in snapshot.stalls))
    assert duration.value.sum == pytest.approx(sum(point.value for point in snapshot.points["block_time"]))
    starts = [stall.started_at for stall in snapshot.stalls]
    assert starts == sorted(starts)


def test_each_is_logged_in_one_line_until_there_are_too_many(
    install: Callable[..., Agent], run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    agent = install(stall_threshold=0.02)

    async def main() -> None:
        for _ in range(13):
            await asyncio.sleep(0.001)
            sleeps(0.03)

    run(main())
    loopwatch.uninstall()
    lines = [record.getMessage() for record in caplog.records if record.name == "loopwatch"]
    assert len(lines) == 10
    assert all("event loop 'main' was blocked for" in line for line in lines)
    [suppressed] = agent.snapshot().points["log_suppressed"]
    assert suppressed.value == len(agent.stalls()) - 10
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_evidence_is_numbers_within_the_stall(agent: Agent, run: Run) -> None:
    for _, stall in Observed(agent, run(twice(lambda: loops(0.15)))).pairs():
        assert all(isinstance(value, float) and math.isfinite(value) for value in stall.evidence.values())
        assert 0.07 < stall.evidence["cpu_s"] <= stall.duration + 0.03
        assert stall.evidence["process_cpu_s"] >= stall.evidence["cpu_s"] * 0.9
        assert stall.evidence["gc_s"] < 0.1


def test_a_beat_that_waits_behind_what_blocks_hides_nothing(agent: Agent, run: Run) -> None:
    """A heartbeat falls due with a callback ready before it, and runs at the end of the stall of that one."""
    happened: list[float] = []

    async def main() -> None:
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_soon(lambda: happened.append(seconds_of(lambda: sleeps(0.3))))
        sleeps(0.06)  # past the next beat, and no stall itself
        await asyncio.sleep(0.01)

    run(main())
    for true, stall in Observed(agent, happened).pairs():
        assert stall.culprit is not None
        assert stall.culprit.function == "sleeps"
        assert stall.duration >= true - 0.03
