"""A watched program does what it does unwatched: same results, exceptions, order, contexts."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import signal
import subprocess
import threading
import traceback
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from loopwatch._rule_ids import RULE_IDS
from loopwatch._store.tasks import ENDED

from .provoked import but_stalls

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Script = Callable[..., subprocess.CompletedProcess[str]]


class OddError(Exception):
    """Raised by the program."""


def test_results_and_exceptions_come_through(agent: Agent, new_loop: LoopFactory) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise OddError("as it was")

    with contextlib.closing(new_loop()) as loop:
        assert loop.run_until_complete(asyncio.sleep(0, "result")) == "result"
        with pytest.raises(OddError, match="as it was") as raised:
            loop.run_until_complete(fails())
        assert [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)][-1] == "fails"
        assert not [
            frame
            for frame in traceback.extract_tb(raised.value.__traceback__)
            if "loopwatch/_" in frame.filename
        ]
        assert raised.value.__context__ is None
        assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_passes_through_run_forever(
    agent: Agent, new_loop: LoopFactory, stop: type[BaseException]
) -> None:
    def callback() -> None:
        raise stop("now")

    with contextlib.closing(new_loop()) as loop:
        loop.call_soon(callback)
        with pytest.raises(stop, match="now"):
            loop.run_forever()
        assert not loop.is_running()
        assert not agent.loops()[0].running
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_an_interrupt_by_signal_ends_asyncio_run_as_ever(agent: Agent, run: Run) -> None:
    cancelled = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert cancelled == [True]


def test_an_exception_in_a_callback_goes_to_the_handler_and_no_further(
    agent: Agent, new_loop: LoopFactory
) -> None:
    seen: list[dict[str, Any]] = []

    def fails() -> None:
        raise OddError

    with contextlib.closing(new_loop()) as loop:
        loop.set_exception_handler(lambda loop, context: seen.append(context))
        loop.call_soon(fails)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        assert loop.get_exception_handler() is not None
        assert loop.get_task_factory() in (None, getattr(asyncio, "eager_task_factory", None))
    assert [type(context["exception"]) for context in seen] == [OddError]


def test_running_a_running_loop_is_refused_as_ever(agent: Agent, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="already running"):
            asyncio.get_running_loop().run_forever()
        assert agent.loops()[0].running

    with contextlib.closing(new_loop()) as loop:
        loop.run_until_complete(main())
        assert not agent.loops()[0].running


def test_running_a_closed_loop_is_refused_as_ever(agent: Agent, new_loop: LoopFactory) -> None:
    loop = new_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()
    assert not [seen for seen in agent.loops() if seen.running]


def test_a_loop_may_run_in_one_thread_after_the_other(agent: Agent, new_loop: LoopFactory) -> None:
    with contextlib.closing(new_loop()) as loop:
        loop.run_until_complete(asyncio.sleep(0))
        thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.sleep(0),))
        thread.start()
        thread.join()
        loop.run_until_complete(asyncio.sleep(0))
    assert [seen.name for seen in agent.loops()] == ["main"]


def test_callbacks_run_in_the_same_order(install: Callable[..., Agent], run: Run) -> None:
    async def main() -> list[str]:
        order: list[str] = []
        loop = asyncio.get_running_loop()

        async def child(name: str) -> None:
            for step in range(3):
                order.append(f"{name}{step}")
                await asyncio.sleep(0)

        loop.call_soon(order.append, "soon")
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(child(name))
            loop.call_later(0, order.append, "later")
        return order

    bare = run(main())
    install(stall_threshold=0.005)
    assert run(main()) == bare


@pytest.mark.usefixtures("without_collector")
def test_context_variables_are_not_ours_to_keep(agent: Agent, new_loop: LoopFactory) -> None:
    class Value:
        """What a variable held while the loop was started."""

    variable: contextvars.ContextVar[Value] = contextvars.ContextVar("variable")

    async def main() -> Value:
        await asyncio.sleep(0.05)
        return variable.get()

    def start() -> bool:
        value = Value()
        variable.set(value)
        return loop.run_until_complete(main()) is value

    with contextlib.closing(new_loop()) as loop:
        assert contextvars.copy_context().run(start)
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, Value)]


def test_debug_mode_complains_of_nothing(
    agent: Agent, new_loop: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(new_loop()) as loop:
        loop.set_debug(True)
        loop.slow_callback_duration = 30.0  # a busy machine may make any callback slow
        with caplog.at_level(logging.DEBUG, "asyncio"):
            loop.run_until_complete(asyncio.sleep(0.2))
        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert not but_stalls("\n".join(warnings))


def test_debug_mode_tells_of_creation_without_a_trace_of_ours(agent: Agent, new_loop: LoopFactory) -> None:
    loopwatch.watch_var(contextvars.ContextVar("hand_overs_are_wrapped_too"))
    with contextlib.closing(new_loop()) as loop:
        loop.set_debug(True)
        handle: Any = loop.call_soon_threadsafe(print)
        handle.cancel()
        task: Any = loop.create_task(asyncio.sleep(0))
        loop.run_until_complete(task)
        for made in (handle, task):
            files = [frame.filename for frame in made._source_traceback]
            assert __file__ in files
            assert not [file for file in files if "loopwatch/_" in file]


def test_no_warning_and_no_trace_of_ours_in_asyncios_own_introspection(agent: Agent, run: Run) -> None:
    async def main() -> None:
        assert asyncio.all_tasks() == {asyncio.current_task()}
        task = asyncio.create_task(asyncio.sleep(0), name="mine")
        assert task.get_name() == "mine"
        await task

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())


def test_a_raising_select_is_the_programs_to_handle(agent: Agent) -> None:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        selector: Any = loop._selector  # type: ignore[attr-defined]
        inner = type(selector).select
        broken = threading.Event()

        def select(timeout: float | None = None) -> Any:
            if broken.is_set():
                raise OddError
            return inner(selector, timeout)

        selector.select = select
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.call_later(0.01, broken.set)
        with pytest.raises(OddError):
            loop.run_forever()
        assert not agent.loops()[0].running
        assert agent.loops()[0].blocked == 0.0
        selector.select = inner.__get__(selector)
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize("options", [(), ("-X", "dev", "-W", "error"), ("-O", "-X", "no_debug_ranges")])
def test_a_program_says_the_same_with_the_agent_and_without(script: Script, options: tuple[str, ...]) -> None:
    program = """
import asyncio, os, signal, sys, threading
if sys.argv[-1] != "bare" and os.environ.get("AGENT"):
    import loopwatch
    loopwatch.install(prometheus_port=None, stall_threshold=0.01)

async def child(n):
    await asyncio.sleep(0.001 * n)
    if n == 3:
        raise ValueError("three")
    return n

async def main():
    print(await asyncio.gather(*(child(n) for n in range(5)), return_exceptions=True))
    print(await asyncio.to_thread(lambda: threading.current_thread().name))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6 * 7)", stdout=-1)
    print((await process.communicate())[0])
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
    await asyncio.sleep(30)

signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
asyncio.run(main())
"""
    bare, watched = script(program, *options), script(program, *options, AGENT="1")

    def own(text: str) -> list[str]:
        # On a busy machine a loop may be held up: we say so, and so does asyncio where it debugs.
        return [line for line in but_stalls(text) if not line.startswith("Executing <")]

    assert (watched.returncode, watched.stdout) == (bare.returncode, bare.stdout)
    assert own(watched.stderr) == own(bare.stderr) == ["terminated"]


@pytest.mark.usefixtures("without_collector")
def test_two_thousand_short_runs_leave_nothing_growing(agent: Agent, new_loop: LoopFactory) -> None:
    """Loops come and go by the thousand in programs that call asyncio.run for each piece of work."""

    def use(loops: int) -> None:
        for _ in range(loops):
            with contextlib.closing(new_loop()) as loop:
                loop.run_until_complete(asyncio.sleep(0))

    use(ENDED)  # so that the ring of ended tasks is full
    gc.collect()
    before = len(gc.get_objects())
    use(1_000)
    for _ in range(1_000):
        asyncio.run(asyncio.sleep(0))
    gc.collect()
    assert len(gc.get_objects()) - before < 500
    assert len(agent.loops()) == 1
    assert sum(len(points) for points in agent.snapshot().points.values()) < 100 + len(RULE_IDS)
