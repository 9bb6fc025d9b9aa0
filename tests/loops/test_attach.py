"""Every loop is found, whatever made or started it, and whatever was imported when."""

import asyncio
import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from tests.machine import CpuWaits

from .conftest import PATIENCE
from .provoked import Block, block, but_stalls, told_of

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Script = Callable[..., subprocess.CompletedProcess[str]]


async def some_work() -> str:
    await asyncio.sleep(0)
    return "done"


def watched(agent: Agent) -> list[tuple[str, str, bool]]:
    return [(loop.name, loop.kind, loop.running) for loop in agent.loops()]


class TestBeforeAnyLoop:
    """install() first, then the loop, in each of the ways to start one."""

    def test_asyncio_run(self, agent: Agent) -> None:
        assert asyncio.run(some_work()) == "done"
        assert watched(agent) == [("main", "asyncio", False)]

    def test_runner_with_a_loop_factory(self, agent: Agent, run: Run, blind: bool) -> None:
        assert run(some_work()) == "done"
        assert watched(agent) == [("main", "uvloop" if blind else "asyncio", False)]

    def test_run_until_complete(self, agent: Agent, new_loop: LoopFactory) -> None:
        with contextlib.closing(new_loop()) as loop:
            assert loop.run_until_complete(some_work()) == "done"
        assert [name for name, _, _ in watched(agent)] == ["main"]

    def test_run_forever(self, agent: Agent, new_loop: LoopFactory) -> None:
        with contextlib.closing(new_loop()) as loop:
            loop.call_soon(loop.stop)
            loop.run_forever()
        assert [name for name, _, _ in watched(agent)] == ["main"]

    def test_uvloop_run(self, agent: Agent) -> None:
        uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")
        assert uvloop.run(some_work()) == "done"
        assert watched(agent) == [("main", "uvloop", False)]

    def test_a_loop_made_before_install(self, install: Callable[..., Agent], new_loop: LoopFactory) -> None:
        with contextlib.closing(new_loop()) as loop:
            agent = install()
            loop.run_until_complete(some_work())
        assert [name for name, _, _ in watched(agent)] == ["main"]

    @pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
    def test_uvicorn(self, agent: Agent, kind: str) -> None:
        uvicorn = pytest.importorskip("uvicorn", reason="needs: uvicorn")
        if kind == "uvloop":
            pytest.importorskip("uvloop", reason="needs: uvloop")
        seen = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "lifespan"
            await receive()
            seen.extend(watched(agent))
            await send({"type": "lifespan.startup.failed"})

        server = uvicorn.Server(uvicorn.Config(app, port=0, loop=kind, lifespan="on", log_level="critical"))
        with contextlib.suppress(SystemExit):  # what uvicorn makes of the failed start-up
            server.run()
        assert seen == [("main", kind, True)]


class TestInsideARunningLoop:
    """install() where a loop runs already: that one is watched too."""

    def test_it_is_watched_at_once(self, install: Callable[..., Agent], run: Run) -> None:
        async def main() -> tuple[Agent, list[tuple[str, str, bool]]]:
            agent = install()
            return agent, watched(agent)

        agent, seen = run(main())
        assert [(name, running) for name, _, running in seen] == [("main", True)]
        assert [(name, running) for name, _, running in watched(agent)] == [("main", False)]

    def test_its_stalls_show_what_ran_and_not_what_runs_the_loop(
        self, install: Callable[..., Agent], run: Run, cpu_waits: CpuWaits
    ) -> None:
        def hold() -> None:
            threading.Event().wait(0.2)

        async def main() -> tuple[Agent, Block]:
            agent = install()
            await asyncio.sleep(0.05)
            held = block(hold)
            await asyncio.sleep(0)
            return agent, held

        agent, held = run(main())
        for stall in told_of([held], agent, cpu_waits):
            assert stall.culprit is not None
            assert stall.culprit.function.endswith("hold")
            functions = [frame.function for frame in stall.stack]
            assert not {"Runner.run", "BaseEventLoop.run_forever", "<module>"} & set(functions)
            assert any(function.endswith("main") for function in functions)

    def test_an_idle_one_is_seen_to_be_idle(self, install: Callable[..., Agent], run: Run) -> None:
        async def main() -> None:
            agent = install()
            # On a busy machine, installing may take as long as the loop waits.
            async with asyncio.timeout(PATIENCE):
                while (busy := agent.loops()[0].utilization) is None or busy >= 0.5:
                    await asyncio.sleep(0.05)

        run(main())

    def test_its_next_run_is_watched_from_the_class_and_beats_once(
        self, install: Callable[..., Agent], new_loop: LoopFactory, blind: bool
    ) -> None:
        async def main() -> Agent:
            return install()

        with contextlib.closing(new_loop()) as loop:
            agent = loop.run_until_complete(main())
            before, began = agent.snapshot().points["delay"][0].value.count, time.monotonic()
            loop.run_until_complete(asyncio.sleep(0.5))
            beats, ran = agent.snapshot().points["delay"][0].value.count - before, time.monotonic() - began
        assert 1 <= beats <= ran / (0.02 if blind else 0.05) + 1

    def test_the_time_between_two_runs_is_no_stall(
        self, install: Callable[..., Agent], new_loop: LoopFactory, eventually: Callable[..., Any]
    ) -> None:
        async def main() -> Agent:
            return install()

        with contextlib.closing(new_loop()) as loop:
            agent = loop.run_until_complete(main())
            eventually(lambda: not agent.loops()[0].running)
            between = block(lambda: threading.Event().wait(0.2))  # synchronous work of the program's
            assert agent.loops()[0].blocked == 0.0
            loop.run_until_complete(some_work())
        loopwatch.uninstall()
        assert not [stall for stall in agent.stalls() if between.is_told_in(stall)]


class TestWatch:
    """loopwatch.watch(loop), for a loop that runs in another thread already."""

    def test_it_is_attached_in_its_own_thread(
        self, install: Callable[..., Agent], new_loop: LoopFactory, eventually: Callable[..., Any]
    ) -> None:
        loop = new_loop()
        thread = threading.Thread(target=loop.run_forever, name="backend")
        thread.start()
        try:
            agent = install()
            assert agent.loops() == ()
            loopwatch.watch(loop)
            eventually(lambda: [seen for seen in agent.loops() if seen.running])
            assert [(seen.name, seen.running) for seen in agent.loops()] == [("backend", True)]
            eventually(lambda: (busy := agent.loops()[0].utilization) is not None and busy < 0.5)  # it waits
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def test_watching_twice_is_watching_once(self, agent: Agent, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            loopwatch.watch(loop)
            loopwatch.watch(loop)

        run(main())
        assert [loop.name for loop in agent.loops()] == ["main"]

    @pytest.mark.parametrize("what", [None, "main", asyncio.new_event_loop])
    def test_what_is_no_loop_is_refused(self, agent: Agent, what: Any) -> None:
        with pytest.raises(loopwatch.ConfigurationError) as raised:
            loopwatch.watch(what)
        text = str(raised.value)
        assert text.startswith(f"watch({what!r}): got {type(what).__name__}, not an event loop. ")
        assert "asyncio.get_running_loop()" in text

    def test_a_closed_loop_is_refused(self, agent: Agent, new_loop: LoopFactory) -> None:
        loop = new_loop()
        loop.close()
        with pytest.raises(loopwatch.ConfigurationError, match=r"it takes no calls \(Event loop is closed"):
            loopwatch.watch(loop)

    def test_without_install_it_says_so(self, new_loop: LoopFactory) -> None:
        with (
            contextlib.closing(new_loop()) as loop,
            pytest.raises(loopwatch.LoopwatchError, match="install"),
        ):
            loopwatch.watch(loop)


class TestTwice:
    """A second install() changes nothing."""

    def test_it_returns_the_same_agent_silently(
        self, install: Callable[..., Agent], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert install() is install()
        assert not caplog.records

    def test_other_settings_are_warned_of_and_not_taken(
        self, install: Callable[..., Agent], caplog: pytest.LogCaptureFixture
    ) -> None:
        agent = install(stall_threshold=0.2)
        assert install(stall_threshold=0.3) is agent
        assert agent.settings.stall_threshold == 0.2
        [record] = caplog.records
        assert (record.name, record.levelno) == ("loopwatch", logging.WARNING)
        assert "0.2" in record.getMessage()

    def test_wrapped_once_all_the_same(self, install: Callable[..., Agent]) -> None:
        original = asyncio.BaseEventLoop.run_forever
        install()
        install()
        assert asyncio.BaseEventLoop.run_forever.__wrapped__ is original  # type: ignore[attr-defined]


def test_loops_in_several_threads_at_a_time_are_watched_each(agent: Agent, new_loop: LoopFactory) -> None:
    together = threading.Barrier(5)

    async def main() -> None:
        together.wait(30)  # all five are running here

    def thread() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
            together.wait(30)  # none is closed before all have run

    threads = [threading.Thread(target=thread, name="backend") for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {loop.name for loop in agent.loops()} == {"backend", *(f"backend-{n}" for n in range(2, 6))}
    assert all(point.value.count == 0 or point.value.sum < 30 for point in agent.snapshot().points["delay"])


class TestDisabled:
    """LOOPWATCH_DISABLED=1: an agent that knows nothing, and nothing else."""

    def test_nothing_is_touched_and_all_views_are_empty(
        self, monkeypatch: pytest.MonkeyPatch, install: Callable[..., Agent], run: Run
    ) -> None:
        monkeypatch.setenv("LOOPWATCH_DISABLED", "1")
        run_forever, threads = asyncio.BaseEventLoop.run_forever, set(threading.enumerate())
        agent = install(stall_threshold=0.005)
        assert asyncio.BaseEventLoop.run_forever is run_forever

        async def main() -> None:
            loopwatch.watch(asyncio.get_running_loop())

        run(main())
        assert set(threading.enumerate()) <= threads  # one of an earlier test's may have ended
        assert (agent.loops(), agent.stalls(), agent.prometheus_url) == ((), (), None)
        assert "delay" not in agent.snapshot().points
        assert list(loopwatch.prometheus_collector().collect()) is not None

    def test_it_beats_settings_that_cannot_work(
        self, monkeypatch: pytest.MonkeyPatch, install: Callable[..., Agent]
    ) -> None:
        """Whoever switches the agent off in an emergency need not hear what else is wrong."""
        monkeypatch.setenv("LOOPWATCH_STALL_THRESHOLD", "fast")
        monkeypatch.setenv("LOOPWATCH_DISABLED", "1")
        agent = install(hold_dump="/no/such/place/hold.dump")
        assert install() is agent
        assert agent.loops() == ()
        loopwatch.uninstall()
        monkeypatch.setenv("LOOPWATCH_DISABLED", "0")
        with pytest.raises(loopwatch.ConfigurationError, match="LOOPWATCH_STALL_THRESHOLD"):
            install()

    def test_it_beats_a_port_that_was_asked_for(
        self, monkeypatch: pytest.MonkeyPatch, install: Callable[..., Agent], run: Run
    ) -> None:
        monkeypatch.setenv("LOOPWATCH_DISABLED", "yes")
        agent = install(prometheus_port=0)
        run(some_work())
        assert agent.prometheus_url is None

    def test_what_it_cannot_read_leaves_nothing_installed(
        self, monkeypatch: pytest.MonkeyPatch, install: Callable[..., Agent]
    ) -> None:
        monkeypatch.setenv("LOOPWATCH_DISABLED", "maybe")
        with pytest.raises(loopwatch.ConfigurationError):
            install()
        with pytest.raises(loopwatch.LoopwatchError, match="not installed"):
            loopwatch.prometheus_collector()


@pytest.mark.parametrize("first", ["import uvloop, loopwatch", "import loopwatch, uvloop"])
@pytest.mark.parametrize("installed", ["", "loopwatch.install(prometheus_port=None)"])
def test_uvloop_imported_at_any_time(script: Script, first: str, installed: str) -> None:
    pytest.importorskip("uvloop", reason="needs: uvloop")
    done = script(
        f"""
import asyncio, sys
import loopwatch
{installed}
{first}
agent = loopwatch.install(prometheus_port=None)
async def main(): await asyncio.sleep(0)
uvloop.run(main())
print([(loop.name, loop.kind) for loop in agent.loops()])
loopwatch.uninstall()
print([finder for finder in sys.meta_path if "loopwatch" in type(finder).__module__])
print("run_forever" in vars(uvloop.Loop))
"""
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("[('main', 'uvloop')]\n[]\nFalse\n", [])


def test_uvloop_is_not_imported_by_us(script: Script) -> None:
    done = script(
        """
import sys, loopwatch
loopwatch.install(prometheus_port=None)
import asyncio
asyncio.run(asyncio.sleep(0))
print("uvloop" in sys.modules)
loopwatch.uninstall()
print([finder for finder in sys.meta_path if "loopwatch" in type(finder).__module__])
"""
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("False\n[]\n", [])


def test_asking_for_uvloop_without_importing_it_changes_nothing(script: Script) -> None:
    pytest.importorskip("uvloop", reason="needs: uvloop")
    done = script(
        """
import asyncio, importlib.util, sys, loopwatch
agent = loopwatch.install(prometheus_port=None)
print(importlib.util.find_spec("uvloop") is not None, "uvloop" in sys.modules)
import uvloop
print("exec_module" in vars(uvloop.__loader__))
async def main(): await asyncio.sleep(0)
uvloop.run(main())
print(agent.loops()[0].kind)
"""
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("True False\nFalse\nuvloop\n", [])


def test_a_stand_in_for_uvloop_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, install: Callable[..., Agent], run: Run, blind: bool
) -> None:
    if blind:
        pytest.skip("the real one is in use")

    class Stub:
        Loop = "no class at all"

    monkeypatch.setitem(sys.modules, "uvloop", Stub)  # type: ignore[arg-type]
    agent = install()
    run(some_work())
    assert [loop.kind for loop in agent.loops()] == ["asyncio"]
