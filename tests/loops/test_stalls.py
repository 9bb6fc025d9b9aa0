"""Stalls of real loops, from the block to the record: how long, where, why, in which task, each once.

A machine busy with other work truly starves the loop now and then. Where the evidence of a stall says so,
the cause may be that, or unknown; nothing else may ever replace the true cause.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import gc
import json
import logging
import math
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from opentelemetry.context import attach
from opentelemetry.trace import NonRecordingSpan, SpanContext, format_trace_id, set_span_in_context

import loopwatch
from loopwatch import Agent, Stall
from tests.machine import CpuWaits

from .provoked import Block, block, told_of

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Script = Callable[..., subprocess.CompletedProcess[str]]
Told = Callable[..., list[Stall]]


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def sleeps_deep(seconds: float) -> None:
    sleeps(seconds)


def waits(seconds: float) -> None:
    threading.Event().wait(seconds)


def holds(seconds: float) -> None:
    """Sleep in C code that does not release the GIL."""
    ctypes.PyDLL(None).usleep(round(seconds * 1e6))


def loops(seconds: float) -> None:
    until = time.thread_time() + seconds
    count = 0
    while time.thread_time() < until:
        count += 1


def parses(seconds: float) -> None:
    text = json.dumps([{"key": number, "text": "x" * 20} for number in range(2_000)])
    gc.disable()  # or its collections, preempted on a busy machine, may be the larger part
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            json.loads(text)
    finally:
        gc.enable()


def assert_caused_by(cause: str, stall: Stall) -> None:
    waited = max(stall.evidence.get(name, 0.0) for name in ("runqueue_s", "watchdog_runqueue_s"))
    if waited > 0.1 * stall.duration:
        assert stall.cause in {cause, "starved", "unknown"}, stall
    else:
        assert stall.cause == cause, stall


async def twice(work: Callable[[], None]) -> list[Block]:
    blocks = []
    for _ in range(2):
        await asyncio.sleep(0.05)
        blocks.append(block(work))
    await asyncio.sleep(0.01)
    return blocks


@pytest.mark.parametrize(
    ("work", "culprit", "call", "cause"),
    [
        (lambda: sleeps(0.2), "sleeps", "time.sleep", "blocking"),
        (lambda: sleeps_deep(0.2), "sleeps", "time.sleep", "blocking"),
        (lambda: waits(0.2), "waits", "wait", "blocking"),
        (lambda: holds(0.2), "holds", ..., "blocking"),
        (lambda: loops(0.2), "loops", ..., "cpu"),
        (lambda: parses(0.2), "parses", ..., "cpu"),
    ],
    ids=["sleep", "sleep two calls deep", "wait", "sleep with the GIL", "loop", "json"],
)
def test_a_stall_is_named(
    told: Told, run: Run, work: Callable[[], None], culprit: str, call: Any, cause: str
) -> None:
    began = time.time()
    for stall in told(run(twice(work))):
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


def test_the_line_is_where_it_stood(told: Told, run: Run) -> None:
    code = sleeps.__code__
    for stall in told(run(twice(lambda: sleeps(0.2)))):
        assert stall.culprit is not None
        assert stall.culprit.line == code.co_firstlineno + 1
        assert str(stall.culprit) == f"{__name__}.sleeps ({__file__}:{code.co_firstlineno + 1})"


def test_a_named_task_and_its_coroutine_are_told(told: Told, run: Run) -> None:
    async def child() -> list[Block]:
        return await twice(lambda: sleeps(0.15))

    async def main() -> Any:
        return await asyncio.create_task(child(), name="invoice 7")

    for stall in told(run(main())):
        assert stall.task_name == "invoice 7"
        assert (stall.coroutine or "").endswith("child")


def test_a_task_that_python_calls_none_has_no_name(told: Told, run: Run) -> None:
    """So Python 3.13 calls one that a task factory made, even the eager one, if nobody named it."""

    async def main() -> list[Block]:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("None")
        return await twice(lambda: sleeps(0.15))

    for stall in told(run(main())):
        assert stall.task_name is None
        assert (stall.coroutine or "").endswith("main")


@pytest.mark.parametrize("kind", ["call_soon", "call_later", "add_reader", "call_soon_threadsafe"])
def test_a_callback_has_no_task(told: Told, new_loop: LoopFactory, kind: str) -> None:
    ours, theirs = socket.socketpair()
    blocks: list[Block] = []

    def callback() -> None:
        loop.remove_reader(ours)
        blocks.append(block(lambda: sleeps(0.2)))
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
    for stall in told(blocks):
        assert stall.culprit is not None
        assert stall.culprit.function == "sleeps"
        assert (stall.task_name, stall.coroutine) == (None, None)


@pytest.mark.usefixtures("without_collector")
def test_a_collection_is_the_collectors(told: Told, run: Run) -> None:
    heap = [[number] for number in range(300_000)]

    def collects() -> None:
        began = time.monotonic()
        while time.monotonic() - began < 0.15:
            gc.collect()

    for stall in told(run(twice(collects)), within=0.03):
        assert stall.culprit is not None
        assert (stall.culprit.function.rpartition(".")[2], stall.call) == ("collects", "gc.collect")
        assert_caused_by("gc", stall)
    assert heap


def test_many_short_callbacks_are_a_flood(told: Told, run: Run) -> None:
    def short() -> None:
        until = time.thread_time() + 0.0005
        while time.thread_time() < until:
            pass

    async def main() -> list[Block]:
        loop = asyncio.get_running_loop()
        blocks = []
        for _ in range(3):
            await asyncio.sleep(0.05)
            for _ in range(500):
                loop.call_soon(short)
            wall, began = time.time(), time.monotonic()
            await asyncio.sleep(0)  # comes after them
            blocks.append(Block(wall, time.monotonic() - began))
        await asyncio.sleep(0.05)
        return blocks

    for stall in told(run(main())):
        assert_caused_by("flood", stall)


class TestInProgress:
    """A stall shows before it ends."""

    def test_it_can_be_asked_for_from_another_thread_while_the_loop_is_blocked(
        self, agent: Agent, run: Run, told: Told, eventually: Callable[..., Any]
    ) -> None:
        seen: list[Stall] = []
        blocks: list[Block] = []
        holding, release = threading.Event(), threading.Event()

        def going_on(longer_than: float) -> list[Stall]:
            stalls = (stall for stall in agent.stalls() if stall.in_progress and stall.samples)
            return [stall for stall in stalls if stall.duration > longer_than]

        def ask() -> None:
            holding.wait(30)
            seen.extend(eventually(lambda: going_on(0.1)))
            seen.extend(eventually(lambda: going_on(seen[0].duration + 0.05)))
            assert agent.snapshot().stalls[-1].in_progress
            release.set()

        def holds() -> None:
            holding.set()
            release.wait(30)

        async def main() -> None:
            thread = threading.Thread(target=ask)
            thread.start()
            await asyncio.sleep(0.05)
            blocks.append(block(holds))
            await asyncio.to_thread(thread.join)

        run(main())
        first, second = seen
        assert first.in_progress
        assert second.in_progress
        assert 0.1 < first.duration < second.duration - 0.05
        for stall in seen:
            assert stall.culprit is not None
            assert stall.culprit.function.endswith("holds")
            assert stall.call == "release.wait"
            assert (stall.coroutine or "").endswith("main")
        for over in told(blocks):
            assert not over.in_progress
            assert over.duration >= second.duration
            assert over.started_at == pytest.approx(first.started_at, abs=0.05)

    def test_none_is_in_progress_when_all_is_well(self, agent: Agent, run: Run, cpu_waits: CpuWaits) -> None:
        async def main() -> list[Stall]:
            for _ in range(5):
                await asyncio.sleep(0.02)
            return [stall for stall in agent.stalls() if stall.in_progress]

        waited = cpu_waits.seconds  # a busy machine may stall it right here
        assert not [stall for stall in run(main()) if stall.duration > 0.02 + waited()]


class TestLastStep:
    """No other step follows what a loop does in its last one."""

    def test_asyncio_run_of_a_coroutine_that_blocks_and_returns(self, told: Told, run: Run) -> None:
        async def main() -> Block:
            return block(lambda: sleeps(0.2))

        for stall in told([run(main())]):
            assert stall.culprit is not None
            assert stall.culprit.function == "sleeps"

    def test_a_callback_that_blocks_and_stops_the_loop(self, told: Told, new_loop: LoopFactory) -> None:
        blocks: list[Block] = []

        def callback() -> None:
            blocks.append(block(lambda: sleeps(0.2)))
            loop.stop()

        with contextlib.closing(new_loop()) as loop:
            loop.call_soon(callback)
            loop.run_forever()
        told(blocks)

    def test_a_short_script_logs_it_on_its_way_out(self, script: Script) -> None:
        done = script(
            """
import asyncio, time, loopwatch
agent = loopwatch.install(prometheus_port=None)
async def report():
    # In one line, whichever of it a sample shows. On a busy machine the watchdog waits for a CPU, too.
    while not any(stall.call == "time.sleep" for stall in agent.stalls()): time.sleep(0.3)

began = time.monotonic()
asyncio.run(report())
print(time.monotonic() - began)
"""
        )
        [line] = [line for line in done.stderr.splitlines() if "report" in line]
        blocked = re.match("loopwatch: event loop 'main' was blocked for ([0-9]+) ms ", line)
        assert blocked is not None
        assert 300 <= int(blocked[1]) <= 1000 * float(done.stdout) + 1
        assert line.endswith("program.py:6); task 'Task-1' (report)")
        assert " by time.sleep in __main__.report (" in line


def test_two_loops_that_stall_at_once_are_told_apart(told: Told, new_loop: LoopFactory) -> None:
    together = threading.Barrier(2)

    def left() -> None:
        time.sleep(0.2)

    def right() -> None:
        time.sleep(0.3)

    blocks: dict[Callable[[], None], Block] = {}

    async def main(work: Callable[[], None]) -> None:
        await asyncio.to_thread(together.wait, 30)
        blocks[work] = block(work)
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
    for work in (left, right):
        for stall in told([blocks[work]], loop_name=f"{work.__name__} side"):
            assert stall.culprit is not None
            assert stall.culprit.function.endswith(work.__name__)


@pytest.mark.parametrize("threshold", [0.02, 0.5])
def test_the_threshold_decides(
    install: Callable[..., Agent], run: Run, cpu_waits: CpuWaits, threshold: float
) -> None:
    agent = install(stall_threshold=threshold)
    blocks = run(twice(lambda: sleeps(0.1)))
    if threshold < 0.1:
        told_of(blocks, agent, cpu_waits)
    else:
        waited = cpu_waits.seconds()
        loopwatch.uninstall()
        found = [stall for stall in agent.stalls() if any(each.is_told_in(stall) for each in blocks)]
        assert not found or threshold < max(each.seconds for each in blocks) + waited


def test_of_many_each_is_told_once(install: Callable[..., Agent], run: Run, cpu_waits: CpuWaits) -> None:
    agent = install(stall_threshold=0.01)

    blocks: list[Block] = []

    async def main() -> None:
        for _ in range(40):
            await asyncio.sleep(0.001)
            blocks.append(block(lambda: time.sleep(0.02)))

    run(main())
    told_of(blocks, agent, cpu_waits)
    snapshot = agent.snapshot()
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
    said = [record.getMessage() for record in caplog.records if record.name == "loopwatch"]
    *lines, last = (line for line in said if not line.startswith("loopwatch: LW"))  # after five seconds
    assert len(lines) == 10
    assert all("event loop 'main' was blocked for" in line for line in lines)
    [suppressed] = agent.snapshot().points["log_suppressed"]
    assert suppressed.value == len(agent.stalls()) - 10
    assert last == f"loopwatch: {suppressed.value} more stalls not logged"
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_the_line_says_for_whom_in_its_text_and_as_attributes(
    install: Callable[..., Agent], run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    agent = install()
    request = contextvars.ContextVar[str]("request_id")
    loopwatch.watch_var(request)

    async def main() -> None:
        await asyncio.sleep(0.05)
        request.set("r-1")
        await asyncio.create_task(serve(), name="serve")

    async def serve() -> None:
        await asyncio.sleep(0.001)
        while not any(stall.call == "time.sleep" for stall in agent.stalls()):  # the watchdog waits for a CPU
            sleeps(0.3)

    run(main())
    loopwatch.uninstall()
    [record] = (record for record in caplog.records if "test_stalls.sleeps" in record.getMessage())
    assert record.getMessage().endswith("; request_id=r-1")
    assert vars(record)["request_id"] == "r-1"
    assert vars(record)["task_name"] == "serve"
    assert not hasattr(record, "trace_id")


def test_evidence_is_numbers_within_the_stall(told: Told, run: Run) -> None:
    for stall in told(run(twice(lambda: loops(0.2)))):
        assert all(isinstance(value, float) and math.isfinite(value) for value in stall.evidence.values())
        assert 0.07 < stall.evidence["cpu_s"] <= stall.duration + 0.03
        assert stall.evidence["process_cpu_s"] >= stall.evidence["cpu_s"] * 0.9
        assert stall.evidence["gc_s"] < 0.1


def test_a_beat_that_waits_behind_what_blocks_hides_nothing(told: Told, run: Run, blind: bool) -> None:
    """A heartbeat falls due with a callback ready before it, and runs at the end of the stall of that one."""
    blocks: list[Block] = []

    async def main() -> None:
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_soon(lambda: blocks.append(block(lambda: sleeps(0.3))))
        sleeps(0.06)  # past the next beat, and no stall itself
        await asyncio.sleep(0.01)

    run(main())
    for stall in told(blocks, within=0.09 if blind else 0.02):  # where blind, the two are one
        assert stall.culprit is not None
        assert stall.culprit.function == "sleeps"


def test_those_it_delayed_are_named(told: Told, run: Run, blind: bool) -> None:
    """25 tasks are woken and then wait behind a stall: ten of them are named, with the trace of each."""
    traces = [SpanContext(0xABC000 + number, 0xDEF, is_remote=False) for number in range(25)]

    async def delayed(gate: asyncio.Event) -> None:
        await gate.wait()

    async def main() -> list[Block]:
        gate = asyncio.Event()
        tasks = []
        for number, span in enumerate(traces):
            context = contextvars.copy_context()
            context.run(attach, set_span_in_context(NonRecordingSpan(span)))
            tasks.append(
                context.run(asyncio.get_running_loop().create_task, delayed(gate), name=f"delayed-{number}")
            )
        await asyncio.sleep(0.01)
        gate.set()
        blocks = [block(lambda: waits(0.2))]
        await asyncio.gather(*tasks)
        return blocks

    coroutine = "test_those_it_delayed_are_named.<locals>.delayed"
    expected = [
        (f"delayed-{number}", coroutine, format_trace_id(span.trace_id))
        for number, span in enumerate(traces[:10])
    ]
    for stall in told(run(main())):
        named = [(victim.task_name, victim.coroutine, victim.trace_id) for victim in stall.victims]
        assert named == ([] if blind else expected)
        assert stall.evidence.get("ready_callbacks") == (None if blind else 25)
