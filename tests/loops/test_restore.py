"""uninstall() leaves the process as install() found it, whoever else was at work meanwhile."""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

from .provoked import but_stalls

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Script = Callable[..., subprocess.CompletedProcess[str]]


def traces(loop: asyncio.AbstractEventLoop) -> dict[str, object]:
    """Return all that loopwatch could have left in ``loop``."""
    selector = getattr(loop, "_selector", None)
    scheduled = getattr(loop, "_scheduled", ())
    return {
        "loop": sorted(getattr(loop, "__dict__", {}).keys() - {"_ready", "_scheduled"}),
        "select": "select" in vars(selector) if selector is not None else None,
        "timers": [handle for handle in scheduled if not handle.cancelled()],
        "ready": list(getattr(loop, "_ready", ())),
    }


def test_the_process_is_as_before(install: Callable[..., Agent], run: Run) -> None:
    def places() -> dict[str, object]:
        logger = logging.getLogger("loopwatch")
        return {
            "run_forever": asyncio.BaseEventLoop.__dict__["run_forever"],
            "uvloop": "uvloop" in sys.modules and sys.modules["uvloop"].Loop.__dict__.get("run_forever"),
            "gc": list(gc.callbacks),
            "meta_path": list(sys.meta_path),
            "faulthandler": (faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later),
            "logger": (logger.handlers[:], logger.filters[:], logger.level, logger.propagate),
            "policy": type(asyncio.get_event_loop_policy()) if sys.version_info < (3, 14) else None,
            "excepthook": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        }

    before, threads = places(), set(threading.enumerate())
    for _ in range(3):
        install()
        run(asyncio.sleep(0))
        loopwatch.uninstall()
    assert places() == before
    assert set(threading.enumerate()) <= threads  # one of an earlier test's may have ended


@pytest.mark.usefixtures("without_collector")
def test_nothing_keeps_an_uninstalled_agent_alive(install: Callable[..., Agent], run: Run) -> None:
    agent = install()
    run(asyncio.sleep(0.01))
    loopwatch.uninstall()
    engine = weakref.ref(agent._engine)
    del agent
    gc.collect()
    assert engine() is None


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel as Linux is asked")
def test_uninstall_returns_when_the_kernel_has_no_thread_of_ours(script: Script) -> None:
    """``join()`` returns a moment earlier, and a program that forks then was warned of a thread beside it."""
    done = script(
        """
import asyncio
import loopwatch
from loopwatch import _threads
from loopwatch._internals import fault_timer

_threads.WITHIN = 30.0  # however slow the machine is
looks = []

def in_kernel():
    looks.append(1)
    return frozenset({known} if len(looks) < 5 else ())

def timers(name):
    armed.update(found(name))
    return frozenset(armed)

async def main():
    watchdog = loopwatch.install(prometheus_port=0)._engine._watchdog.thread
    while not timers(fault_timer.NAME):
        await asyncio.sleep(0.01)
    return str(watchdog.other.native_id)

found, fault_timer._threads_named = fault_timer._threads_named, timers
for of in ("watchdog", "timer"):
    armed = set()  # all of them: the watchdog may arm another before it ends
    watchdog = asyncio.run(main())
    known = watchdog if of == "watchdog" else min(armed)
    looks.clear()
    _threads._in_kernel, before = in_kernel, _threads._in_kernel
    loopwatch.uninstall()
    _threads._in_kernel = before
    print(len(looks))
"""
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("5\n5\n", [])


def test_uninstalling_twice_or_without_install_does_nothing() -> None:
    loopwatch.uninstall()
    loopwatch.install(prometheus_port=None)
    loopwatch.uninstall()
    loopwatch.uninstall()


def test_an_install_that_is_interrupted_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("loopwatch._probes.handovers.HandOverProbe.install", interrupt)
        with pytest.raises(KeyboardInterrupt):
            loopwatch.install(prometheus_port=None)
    with pytest.raises(loopwatch.LoopwatchError, match="not installed"):
        loopwatch.prometheus_collector()


@pytest.mark.parametrize(
    "when",
    ["_engine.Engine.install", "_probes.unawaited.UnawaitedProbe.install", "_probes.attach.Attach.install"],
)
def test_a_signal_handler_may_uninstall_what_is_being_installed(script: Script, when: str) -> None:
    module, owner, name = when.rsplit(".", 2)
    done = script(
        f"""
import asyncio, faulthandler, gc, os, signal, warnings, loopwatch
from loopwatch.{module} import {owner} as Owner

def hooks():
    return (asyncio.BaseEventLoop.run_forever, asyncio.BaseEventLoop.create_task, gc.callbacks[:],
            warnings._warn_unawaited_coroutine, faulthandler.dump_traceback_later)

def interrupted(self, original=Owner.{name}):
    os.kill(os.getpid(), signal.SIGTERM)
    original(self)

signal.signal(signal.SIGTERM, lambda *_: loopwatch.uninstall())
faulthandler.dump_traceback_later(20, exit=True)
before, Owner.{name} = hooks(), interrupted
agent = loopwatch.install(prometheus_port=None)
print(hooks() == before, agent.loops())
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(loopwatch.install(prometheus_port=None) is not agent, hooks() != before)
loopwatch.uninstall()
print(hooks() == before)
"""
    )
    assert (done.stdout, done.stderr) == ("True ()\nTrue True\nTrue\n", "")


def test_a_stopped_loop_is_as_before(agent: Agent, new_loop: LoopFactory) -> None:
    with contextlib.closing(new_loop()) as loop:
        before = traces(loop)
        loop.run_until_complete(asyncio.sleep(0))
        loopwatch.uninstall()
        assert traces(loop) == before
        loop.run_until_complete(asyncio.sleep(0))


def test_a_loop_uninstalled_from_within_goes_on_as_before(agent: Agent, new_loop: LoopFactory) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        loopwatch.uninstall()
        assert traces(loop) == before
        await asyncio.sleep(0.01)

    with contextlib.closing(new_loop()) as loop:

        async def look() -> dict[str, object]:
            return traces(loop)

        loopwatch.uninstall()
        before = loop.run_until_complete(look())
        loopwatch.install(prometheus_port=None)
        loop.run_until_complete(main())
    assert agent.loops() == ()


def test_a_loop_that_runs_in_another_thread_is_let_go(
    agent: Agent, new_loop: LoopFactory, eventually: Callable[..., Any]
) -> None:
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        eventually(lambda: any(seen.running for seen in agent.loops()))
        loopwatch.uninstall()
        eventually(lambda: not agent.loops()[0].running)
        assert traces(loop)["timers"] == []
        assert traces(loop)["select"] in (False, None)
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "alive"), loop).result(30) == "alive"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_an_agent_can_be_installed_again_within_the_same_run(
    install: Callable[..., Agent], run: Run, blind: bool
) -> None:
    async def main() -> tuple[Agent, Agent]:
        first = install()
        await asyncio.sleep(0.03)
        loopwatch.uninstall()
        second = install()
        await asyncio.sleep(0.03)
        return first, second

    first, second = run(main())
    assert first is not second
    assert [loop.name for loop in first.loops()] == [loop.name for loop in second.loops()] == ["main"]
    if not blind:
        assert second.loops()[0].iterations == pytest.approx(3, abs=5)


class TestSomebodyElseOnTop:
    """Another library wrapped what we had wrapped: theirs stays, ours is quiet beneath it."""

    @pytest.fixture
    def agent(self, new_loop: LoopFactory) -> Iterator[Agent]:
        """Put a wrapper of theirs over ours."""
        with contextlib.closing(new_loop()) as loop:
            self.cls = type(loop) if "uvloop" in type(loop).__module__ else asyncio.BaseEventLoop
        before = vars(self.cls).get("run_forever")
        agent = loopwatch.install(prometheus_port=None)
        ours = self.cls.run_forever  # type: ignore[attr-defined]
        self.calls: list[asyncio.AbstractEventLoop] = []

        def theirs(loop: asyncio.AbstractEventLoop) -> None:
            self.calls.append(loop)
            ours(loop)

        self.theirs = theirs
        self.cls.run_forever = theirs  # type: ignore[attr-defined]
        yield agent
        loopwatch.uninstall()
        if before is None:
            del self.cls.run_forever  # type: ignore[attr-defined]
        else:
            self.cls.run_forever = before  # type: ignore[attr-defined]

    def test_run_forever(self, agent: Agent, run: Run) -> None:
        run(asyncio.sleep(0))
        assert len(agent.loops()) == 1
        loopwatch.uninstall()
        assert vars(self.cls)["run_forever"] is self.theirs
        run(asyncio.sleep(0))
        assert len(self.calls) >= 2
        assert len(agent.loops()) == 1
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("loopwatch")]

    def test_and_install_again(self, agent: Agent, run: Run) -> None:
        loopwatch.uninstall()
        again = loopwatch.install(prometheus_port=None)
        run(asyncio.sleep(0))
        assert len(again.loops()) == 1
        assert agent.loops() == ()
        loopwatch.uninstall()
        assert vars(self.cls)["run_forever"] is self.theirs

    @pytest.fixture
    def created(self, agent: Agent) -> Iterator[list[asyncio.AbstractEventLoop]]:
        """Put wrappers of theirs over ours of tasks, too; of the loops whose tasks they create, tell."""
        loopwatch.uninstall()
        names = "create_task", "call_exception_handler"
        before = {name: vars(self.cls).get(name) for name in names}
        loopwatch.install(prometheus_port=None)
        created = []

        def theirs(ours: Callable[..., Any], told: Callable[[Any], None]) -> Callable[..., Any]:
            return lambda loop, *args, **kwargs: (told(loop), ours(loop, *args, **kwargs))[1]

        for name, told in zip(names, (created.append, id), strict=True):
            setattr(self.cls, name, theirs(getattr(self.cls, name), told))
        yield created
        loopwatch.uninstall()
        for name, original in before.items():
            if original is None:
                delattr(self.cls, name)
            else:
                setattr(self.cls, name, original)

    @pytest.mark.usefixtures("without_collector")
    def test_tasks_are_recorded_once_after_install_again(
        self, created: list[asyncio.AbstractEventLoop], run: Run
    ) -> None:
        async def fail() -> None:
            raise ValueError

        async def main() -> None:
            for _ in range(10):
                await asyncio.create_task(asyncio.sleep(0))
            await asyncio.wait([asyncio.create_task(fail())])

        loopwatch.uninstall()
        agent = loopwatch.install(prometheus_port=None)
        run(main())
        gc.collect()
        points = agent.snapshot().points["task_created"]
        loopwatch.uninstall()
        assert len(created) >= 12
        assert sum(point.value for point in points) == len(created)  # type: ignore[misc]
        assert [lost.reason for lost in agent.lost()] == ["unretrieved_exception"]

    def test_select(self, agent: Agent) -> None:
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(asyncio.sleep(0))
            selector: Any = loop._selector  # type: ignore[attr-defined]
            ours, calls = selector.select, []

            def theirs(timeout: float | None = None) -> Any:
                calls.append(timeout)
                return ours(timeout)

            selector.select = theirs
            loopwatch.uninstall()
            assert selector.select is theirs
            loop.run_until_complete(asyncio.sleep(0))
            assert calls

    def test_select_that_was_there_before_us(self, agent: Agent) -> None:
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            selector: Any = loop._selector  # type: ignore[attr-defined]
            inner = selector.select

            def theirs(timeout: float | None = None) -> Any:
                return inner(timeout)

            selector.select = theirs
            loop.run_until_complete(asyncio.sleep(0))
            assert selector.select is not theirs
            loopwatch.uninstall()
            assert selector.select is theirs

    def test_gc_callbacks(self, agent: Agent) -> None:
        def theirs(phase: str, info: dict[str, int]) -> None: ...

        gc.callbacks.append(theirs)
        loopwatch.uninstall()
        assert gc.callbacks[-1] is theirs
        gc.callbacks.remove(theirs)

    def test_gc_callbacks_cleared(self, agent: Agent) -> None:
        others = list(gc.callbacks[:-1])
        gc.callbacks.clear()
        loopwatch.uninstall()
        assert gc.callbacks == []
        gc.callbacks.extend(others)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_unclosed_loop_is_collected_and_warned_of_as_ever(
    agent: Agent, new_loop: LoopFactory, blind: bool
) -> None:
    if blind:
        pytest.skip("uvloop keeps an unclosed loop for ever, by itself")
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0))
    gone = weakref.ref(loop)
    del loop
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert gone() is None


def test_what_was_seen_can_still_be_asked_for_afterwards(agent: Agent, run: Run) -> None:
    run(asyncio.sleep(0.2))
    loopwatch.uninstall()
    assert [loop.running for loop in agent.loops()] == [False]
    assert agent.snapshot().points["delay"][0].value.count > 0


def test_an_exit_without_uninstall_is_clean(script: Script) -> None:
    done = script(
        """
import asyncio, loopwatch
loopwatch.install(prometheus_port=0)
asyncio.run(asyncio.sleep(0.01))
print("done")
""",
        "-X",
        "dev",
        "-W",
        "error",
    )
    assert (done.returncode, done.stdout, but_stalls(done.stderr)) == (0, "done\n", [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs: fork")
def test_a_forked_child_leaves_its_loop_as_it_was(script: Script) -> None:
    """The loop ran in the parent already, so its ``select`` was wrapped when the child came to be."""
    done = script(
        """
import asyncio, os, loopwatch
agent = loopwatch.install(prometheus_port=None)
loop = asyncio.new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
child = os.fork()
loop.run_until_complete(asyncio.sleep(0))
[seen] = agent.loops()
loopwatch.uninstall()
if child:
    os.waitpid(child, 0)  # one after the other: without a buffer, a line is written in pieces
print(seen.iterations > 0, "select" in vars(loop._selector), flush=True)
loop.close()
""",
        "-W",
        "ignore::DeprecationWarning",  # that there are threads at the fork
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("True False\n" * 2, [])


@pytest.mark.parametrize("when", ["before the loop", "in the loop"])
def test_a_timer_the_program_arms_is_left_alone(script: Script, when: str) -> None:
    done = script(
        """
import asyncio, faulthandler, os, loopwatch
from loopwatch._watchdog import thread

thread.CHORES_EVERY = 0.05  # ours would be armed ten times meanwhile
written = open("written", "w+")

def arm():
    faulthandler.dump_traceback_later(0.5, file=written)

async def main(when):
    if when == "in the loop":
        arm()
    while not os.path.getsize("written"):
        await asyncio.sleep(0.05)

loopwatch.install(prometheus_port=None)
if WHEN == "before the loop":
    arm()
asyncio.run(asyncio.wait_for(main(WHEN), 30))
loopwatch.uninstall()
written.seek(0)
print(written.read().startswith("Timeout (0:00:00.5"))
print("_noticing" in faulthandler.dump_traceback_later.__qualname__)
""".replace("WHEN", repr(when))
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("True\nFalse\n", [])
