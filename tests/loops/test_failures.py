"""Whatever of ours breaks is counted and logged once; the program goes on, watched as far as possible."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import pytest

import loopwatch
from loopwatch import Agent, Stall
from loopwatch._engine import Engine

from .provoked import Block, block, but_stalls

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Script = Callable[..., subprocess.CompletedProcess[str]]
Eventually = Callable[..., Any]
Told = Callable[..., list[Stall]]


class BrokenError(Exception):
    """Raised in our own parts by these tests."""


def broken(*args: object, **kwargs: object) -> NoReturn:
    raise BrokenError("injected")


def failures(agent: Agent) -> dict[str, float]:
    points = agent.snapshot().points["internal_errors"]
    return {point.labels[0]: point.value for point in points if point.value}  # type: ignore[misc]


def engine(agent: Agent) -> Engine:
    return agent._engine


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


async def work() -> str:
    for _ in range(10):
        await asyncio.sleep(0.01)
    return "done"


@pytest.fixture(autouse=True)
def told_once(caplog: pytest.LogCaptureFixture) -> Any:
    """Fail a test in which a failure was logged twice."""
    yield
    lines = [line.splitlines()[0] for line in errors(caplog)]
    assert len(lines) == len(set(lines))


class TestProbes:
    """What runs in the loop's thread."""

    def test_a_heartbeat_that_raises_is_set_aside(
        self, agent: Agent, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("loopwatch._store.cells.WindowMax.observe", broken)
        assert run(work()) == "done"
        loopwatch.uninstall()
        assert failures(agent) == {"heartbeat": 1}
        [line] = errors(caplog)
        assert line.startswith("loopwatch: heartbeat failed; the program is not affected")
        assert line.endswith("BrokenError: injected")

    def test_without_a_heartbeat_a_loop_with_a_selector_is_still_watched(
        self, told: Told, run: Run, monkeypatch: pytest.MonkeyPatch, blind: bool
    ) -> None:
        if blind:
            pytest.skip("the heartbeat is all there is")

        async def main() -> Block:
            await asyncio.sleep(0.1)
            blocked = block(lambda: time.sleep(0.2))
            await asyncio.sleep(0)
            return blocked

        monkeypatch.setattr("loopwatch._store.cells.WindowMax.observe", broken)
        told([run(main())])

    def test_a_gc_probe_that_raises_is_set_aside(
        self, agent: Agent, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> None:
            gc.collect()
            gc.collect()

        monkeypatch.setattr("loopwatch._store.pauses.Pauses.end", broken)
        run(main())
        loopwatch.uninstall()
        assert failures(agent) == {"gc": 1}
        assert not [callback for callback in gc.callbacks if "loopwatch" in str(callback)]

    @pytest.mark.parametrize(
        "part",
        [
            "loopwatch._store.loop_state.LoopStates.claim",
            "loopwatch._store.loop_state.LoopState.enter",
            "loopwatch._probes.heartbeat.Heartbeat.start",
            "loopwatch._probes.attach.overridden",
        ],
    )
    def test_a_loop_that_cannot_be_attached_runs_unwatched(
        self, agent: Agent, run: Run, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        monkeypatch.setattr(part, broken)
        assert run(work()) == "done"
        loopwatch.uninstall()
        assert failures(agent).keys() == {"attach"}
        assert not [stall for stall in agent.stalls() if stall.culprit]  # a busy machine has some without
        assert not [loop for loop in agent.loops() if loop.running or loop.blocked]

    def test_a_loop_that_cannot_be_left_in_order_is_left(
        self, agent: Agent, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("loopwatch._store.loop_state.LoopState.leave", broken)
        assert run(work()) == "done"
        assert failures(agent).keys() == {"attach"}

    @pytest.mark.parametrize(
        ("part", "component"),
        [
            ("loopwatch._probes.gc.GcProbe.install", "gc"),
            ("loopwatch._probes.unawaited.UnawaitedProbe.install", "unawaited"),
            ("loopwatch._probes.handovers.HandOverProbe.install", "handovers"),
            ("loopwatch._probes.attach.Attach.install", "attach"),
            ("loopwatch._collectors.pools.hub.Hub.install", "pools"),
            ("loopwatch._internals.fault_timer.FaultTimer.debugged", "hold_dump"),
        ],
    )
    def test_a_probe_that_cannot_be_installed_is_done_without(
        self,
        install: Callable[..., Agent],
        run: Run,
        monkeypatch: pytest.MonkeyPatch,
        part: str,
        component: str,
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(part, broken)
            agent = install()
        assert install() is agent
        assert run(work()) == "done"
        assert failures(agent) == {component: 1}
        assert len(agent.loops()) == (component != "attach")

    def test_threads_that_cannot_be_started_are_done_without(
        self, agent: Agent, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith("loopwatch"):
                raise RuntimeError("can't start new thread")
            start(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert run(work()) == "done"
            assert run(work()) == "done"
        assert failures(agent) == {"console": 1, "journal": 1, "watchdog": 1}
        assert agent.snapshot().points["delay"][0].value.count > 0
        loopwatch.uninstall()

    @pytest.mark.parametrize(
        ("part", "component"),
        [
            ("loopwatch._journal.Journal.start", "journal"),
            ("loopwatch._watchdog.hold_dump.HoldDump.start", "hold_dump"),
            ("loopwatch._watchdog.thread.Watchdog.start", "watchdog"),
            ("loopwatch.exporters.port._listen", "endpoint"),
            ("loopwatch._console.line.Server", "console"),
        ],
    )
    def test_a_part_that_cannot_be_started_is_done_without(
        self,
        install: Callable[..., Agent],
        run: Run,
        monkeypatch: pytest.MonkeyPatch,
        part: str,
        component: str,
    ) -> None:
        """The first loop is watched as far as the other parts can."""

        async def main() -> tuple[set[str], bool, bool]:
            await asyncio.sleep(0.1)
            threads = {each.name for each in threading.enumerate() if each.name.startswith("loopwatch")}
            return threads, agent.prometheus_url is not None, agent.loops()[0].running

        agent = install(prometheus_port=0)
        monkeypatch.setattr(part, broken)
        threads, served, running = run(main())
        every = {"loopwatch-journal", "loopwatch-watchdog", "loopwatch-endpoint", "loopwatch-console"}
        assert threads == every - {f"loopwatch-{component}"}
        assert (served, running) == (component != "endpoint", True)
        assert failures(agent) == {component: 1}
        assert agent.snapshot().points["delay"][0].value.count > 0


class TestWatchdog:
    """The one thread that looks."""

    @pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_killed_it_is_started_again(
        self,
        agent: Agent,
        told: Told,
        run: Run,
        caplog: pytest.LogCaptureFixture,
        exception: type[BaseException],
    ) -> None:
        async def main() -> Block:
            for _ in range(2):
                await asyncio.sleep(0.05)
                thread = engine(agent)._watchdog.thread._thread
                assert thread is not None
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(exception)
                )
                while engine(agent)._watchdog.thread._thread is thread:
                    await asyncio.sleep(0.01)
            blocked = block(lambda: time.sleep(0.2))
            await asyncio.sleep(0.05)
            return blocked

        for stall in told([run(asyncio.wait_for(main(), 30))]):
            assert stall.culprit is not None
        assert failures(agent) == {"watchdog": 2}
        [line] = errors(caplog)
        assert "watchdog's thread was killed" in line

    @pytest.mark.parametrize(
        "part",
        [
            "loopwatch._watchdog.stalls.Tracker.look",
            "loopwatch._watchdog.stalls.take",
            "loopwatch._watchdog.evidence.Evidence.read",
            "loopwatch._watchdog.evidence.System.runqueue",
            "loopwatch._watchdog.lateness.Lateness.look",
            "loopwatch._watchdog.lateness.Lateness.refresh",
            "loopwatch._watchdog.verdict.decide",
            "loopwatch._watchdog.hold_dump.HoldDump.chore",
            "loopwatch._watchdog.thread.current_frames",
        ],
    )
    def test_raising_it_goes_on(
        self,
        agent: Agent,
        told: Told,
        run: Run,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        part: str,
    ) -> None:
        async def main() -> Block:
            with monkeypatch.context() as patch:
                patch.setattr(part, broken)
                await asyncio.sleep(0.05)
                while not failures(agent):
                    time.sleep(0.15)
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            blocked = block(lambda: time.sleep(0.2))
            await asyncio.sleep(0.05)
            return blocked

        told([run(asyncio.wait_for(main(), 30))])
        assert failures(agent).keys() == {"watchdog"}
        assert len(errors(caplog)) == 1

    def test_a_tracker_that_raises_hides_no_other_loop(
        self, agent: Agent, new_loop: LoopFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from loopwatch._watchdog.stalls import Tracker

        settle = Tracker.settle

        def settle_some(self: Tracker) -> None:
            if self.state.name.startswith("bad"):
                raise BrokenError
            settle(self)

        monkeypatch.setattr(Tracker, "settle", settle_some)
        together = threading.Barrier(2)

        async def main() -> None:
            together.wait(30)
            await asyncio.sleep(0.05)
            time.sleep(0.2)
            await asyncio.sleep(0.05)

        def thread() -> None:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(main())

        threads = [threading.Thread(target=thread, name=name) for name in ("bad side", "good side")]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        loopwatch.uninstall()
        assert {stall.loop_name for stall in agent.stalls()} == {"good side"}


class TestLogging:
    """Handlers belong to the program, and may do anything."""

    @pytest.fixture
    def handler(self) -> Any:
        handler = logging.Handler()
        logging.getLogger("loopwatch").addHandler(handler)
        yield handler
        logging.getLogger("loopwatch").removeHandler(handler)

    def test_one_that_blocks_does_not_stop_detection(
        self, agent: Agent, run: Run, handler: logging.Handler, eventually: Eventually
    ) -> None:
        entered, release = threading.Event(), threading.Event()

        def emit(record: logging.LogRecord) -> None:
            entered.set()
            release.wait(30)

        async def main() -> None:
            await asyncio.sleep(0.05)
            time.sleep(0.15)
            await asyncio.to_thread(entered.wait, 30)
            for _ in range(2):
                await asyncio.sleep(0.05)
                time.sleep(0.15)
            await asyncio.to_thread(eventually, lambda: len(agent.stalls()) >= 3)

        handler.emit = emit  # type: ignore[method-assign]
        try:
            run(main())
            assert entered.is_set()
        finally:
            release.set()

    def test_one_that_raises_does_not_stop_detection(
        self,
        agent: Agent,
        told: Told,
        run: Run,
        handler: logging.Handler,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        blocks: list[Block] = []

        async def main() -> None:
            for _ in range(3):
                await asyncio.sleep(0.05)
                blocks.append(block(lambda: time.sleep(0.15)))

        monkeypatch.setattr(logging, "raiseExceptions", False)
        handler.emit = broken  # type: ignore[method-assign]
        run(main())
        told(blocks)
        told_of = len(agent.findings())  # on a machine so slow that there was time to look for them
        assert len(agent.stalls()) <= failures(agent)["journal"] <= len(agent.stalls()) + told_of

    def test_one_may_uninstall_us(
        self, agent: Agent, run: Run, handler: logging.Handler, eventually: Eventually
    ) -> None:
        ended: list[BaseException | None] = []

        def emit(record: logging.LogRecord) -> None:
            try:
                loopwatch.uninstall()
                ended.append(None)
            except BaseException as error:
                ended.append(error)

        async def main() -> None:
            await asyncio.sleep(0.05)
            time.sleep(0.15)
            await asyncio.to_thread(eventually, lambda: ended)

        handler.emit = emit  # type: ignore[method-assign]
        run(main())
        assert ended == [None]
        ours = [each for each in threading.enumerate() if each.name == "loopwatch-journal"]
        for thread in ours:
            thread.join(30)
            assert not thread.is_alive()


def test_an_exporter_that_raises_fails_its_scrape_alone(
    install: Callable[..., Agent], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = install(prometheus_port=0)

    def scrape() -> bytes:
        with contextlib.closing(urllib.request.urlopen(agent.prometheus_url or "", timeout=30)) as answer:
            body: bytes = answer.read()
        return body

    async def main() -> tuple[bytes, bytes]:
        with monkeypatch.context() as patch:
            patch.setattr("loopwatch.exporters.prometheus.rendered", broken)
            first = await asyncio.to_thread(scrape)
        return first, await asyncio.to_thread(scrape)

    first, second = run(main())
    assert b"asyncio_eventloop" not in first
    assert b"python_info" in first or b"python_gc" in first
    assert b"asyncio_eventloop_delay_seconds_bucket" in second
    assert b'loopwatch_internal_errors_total{loopwatch_component="prometheus"} 1.0' in second


def test_a_drain_that_cannot_see_where_tasks_stand_waits_for_them_all_the_same(
    agent: Agent, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> loopwatch.DrainReport:
        job = asyncio.create_task(work(), name="job")
        report = await loopwatch.drain(60.0)
        assert job.done()
        return report

    monkeypatch.setattr("loopwatch._jobs.drain.chain", broken)
    assert [task.name for task in run(main()).finished] == ["job"]
    assert set(failures(agent)) == {"drain"}


def test_a_program_that_cannot_write_its_dump_file_is_told_and_watched(script: Script) -> None:
    done = script(
        """
import asyncio, os, loopwatch
os.environ["TMPDIR"] = "/no/such/place"
import tempfile
tempfile.tempdir = "/no/such/place"
agent = loopwatch.install(prometheus_port=None)
asyncio.run(asyncio.sleep(0.1))
print(agent.snapshot().points["delay"][0].value.count > 0)
"""
    )
    assert done.stdout == "True\n"
    [line] = but_stalls(done.stderr)
    assert line.startswith("loopwatch: long holds of the GIL will not be dumped: ")
    assert "/no/such/place" in line


def test_a_program_that_closes_all_files_is_left_by_all_that_can_leave_it(script: Script) -> None:
    """As one that makes itself a daemon does. The endpoint's thread waits for ever on what was closed."""
    done = script(
        """
import asyncio, faulthandler, gc, logging, os, threading, loopwatch
logging.disable(logging.CRITICAL)
before = asyncio.BaseEventLoop.run_forever, faulthandler.dump_traceback_later, gc.callbacks[:]
agent = loopwatch.install(prometheus_port=0)
asyncio.run(asyncio.sleep(0.05))
os.closerange(3, 256)
loopwatch.uninstall()
after = asyncio.BaseEventLoop.run_forever, faulthandler.dump_traceback_later, gc.callbacks[:]
threads = {thread.name for thread in threading.enumerate()}
print(after == before, threads - {"loopwatch-endpoint", "loopwatch-console"}, agent.prometheus_url)
"""
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("True {'MainThread'} None\n", [])
