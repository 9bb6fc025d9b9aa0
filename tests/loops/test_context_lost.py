"""Work that runs without the context of the code that handed it over is reported, once, with both sites."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import propagation

import loopwatch
from loopwatch import Agent, Lost
from loopwatch._context.handover import HANDED

Run = Callable[[Any], Any]
REQUEST: ContextVar[str] = ContextVar("request_id")
HOOKS = {
    "submit": ThreadPoolExecutor,
    "start": threading.Thread,
    "put_nowait": asyncio.Queue,
    "get_nowait": asyncio.Queue,
    "call_soon_threadsafe": asyncio.BaseEventLoop,
}


@pytest.fixture(autouse=True)
def tracing_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests import OpenTelemetry, which alone would cause hand-overs to be watched."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace.propagation", raising=False)


@pytest.fixture
def watched(tracing_forgotten: None, agent: Agent) -> Agent:
    loopwatch.watch_var(REQUEST)
    return agent


def say() -> None:
    """Ask whose work this is, as a log filter does."""
    loopwatch.current_work()


async def job() -> None:
    pass


async def start_job() -> None:
    await asyncio.create_task(job())


def contexts_lost(agent: Agent) -> list[Lost]:
    loopwatch.uninstall()
    assert not agent.snapshot().points.get("internal_errors") or all(
        point.value == 0 for point in agent.snapshot().points["internal_errors"]
    )
    return [lost for lost in agent.lost() if lost.reason == "context_lost"]


def test_an_executor_hop_is_told_with_both_sites(watched: Agent, run: Run) -> None:
    async def handle() -> None:
        REQUEST.set("r-1")
        await asyncio.get_running_loop().run_in_executor(None, say)

    run(handle())
    (lost,) = contexts_lost(watched)
    assert lost.site.function.endswith("handle")
    assert lost.coroutine == "say"
    assert lost.await_stack[0].function == "say"
    assert (lost.missing, lost.context) == (("request_id",), {"request_id": "r-1"})
    assert 0 <= lost.age < 60
    (point,) = watched.snapshot().points["task_context_lost"]
    assert (point.labels, point.value) == ((lost.site.name,), 1)


def test_a_pair_of_sites_is_told_once_and_each_work_counted(watched: Agent, run: Run) -> None:
    def say_twice() -> None:
        for _ in range(2):
            say()

    async def handle(number: int) -> None:
        REQUEST.set(f"r-{number}")
        await asyncio.get_running_loop().run_in_executor(None, say_twice)

    async def main() -> None:
        for number in range(50):
            await asyncio.create_task(handle(number))

    run(main())
    assert [lost.context for lost in contexts_lost(watched)] == [{"request_id": "r-0"}]
    (point,) = watched.snapshot().points["task_context_lost"]
    assert point.value == 50


def test_what_keeps_the_context_is_not_told_of(watched: Agent, run: Run) -> None:
    async def handle() -> None:
        REQUEST.set("r-1")
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(say)
        await asyncio.create_task(start_job())
        await asyncio.gather(start_job(), start_job())
        await loop.run_in_executor(None, copy_context().run, say)
        done = asyncio.Event()
        loop.call_soon_threadsafe(lambda: (say(), done.set()))
        await done.wait()
        await asyncio.to_thread(
            lambda: asyncio.run_coroutine_threadsafe(start_job(), loop).result(timeout=30)
        )

    run(handle())
    assert contexts_lost(watched) == []


def test_what_had_nothing_loses_nothing(watched: Agent, run: Run) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, say)
        thread = threading.Thread(target=say)
        thread.start()
        thread.join()

    run(main())
    assert contexts_lost(watched) == []


def test_a_pools_thread_is_nobodys_between_two_works(watched: Agent, run: Run) -> None:
    """Also the first one, in whose time the thread was started."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            token = REQUEST.set("r-1")
            await loop.run_in_executor(pool, int)
            REQUEST.reset(token)
            await loop.run_in_executor(pool, say)

    run(main())
    assert contexts_lost(watched) == []


def test_a_thread_is_told_of(watched: Agent, run: Run) -> None:
    async def handle() -> None:
        REQUEST.set("r-1")
        thread = threading.Thread(target=say)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert "run" not in vars(thread)

    run(handle())
    lost = contexts_lost(watched)
    inherits = getattr(sys.flags, "thread_inherit_context", False)
    assert [one.coroutine for one in lost] == ([] if inherits else ["say"])


def test_a_loss_is_passed_on_to_the_task_it_leads_to(watched: Agent, run: Run) -> None:
    """The executor's hop is to blame, not the way back."""

    async def handle() -> None:
        REQUEST.set("r-1")
        loop = asyncio.get_running_loop()

        def back() -> None:
            asyncio.run_coroutine_threadsafe(start_job(), loop).result(timeout=30)

        await loop.run_in_executor(None, back)

    run(handle())
    lost = contexts_lost(watched)
    assert {one.coroutine for one in lost} == {"start_job", "job"}
    assert all(one.site.function.endswith("handle") for one in lost)
    assert [one.await_stack[0].function for one in lost if one.coroutine == "start_job"] == ["start_job"]


def test_a_callback_given_an_empty_context_is_told_of(watched: Agent, run: Run) -> None:
    async def handle() -> None:
        REQUEST.set("r-1")
        done = asyncio.Event()

        def callback() -> None:
            say()
            done.set()

        asyncio.get_running_loop().call_soon_threadsafe(callback, context=Context())
        await done.wait()

    run(handle())
    assert [lost.coroutine.rpartition(".")[2] for lost in contexts_lost(watched)] == ["callback"]


@pytest.mark.parametrize("carried", [False, True])
def test_a_queue_worker_is_told_of_unless_the_item_carries(watched: Agent, run: Run, carried: bool) -> None:
    async def worker(queue: asyncio.Queue[Any]) -> None:
        while True:
            with loopwatch.restore(await queue.get()):
                await start_job()
            queue.task_done()

    async def handle(queue: asyncio.Queue[Any]) -> None:
        REQUEST.set("r-1")
        item = {"order": 1}
        await queue.put(loopwatch.carry(item) if carried else item)

    async def main() -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        working = asyncio.create_task(worker(queue))
        await asyncio.create_task(handle(queue))
        await queue.join()
        working.cancel()

    run(main())
    lost = contexts_lost(watched)
    assert [one.coroutine for one in lost] == ([] if carried else ["job"])
    assert all(one.site.function.endswith("handle") for one in lost)


def test_a_token_put_back_is_no_work(watched: Agent, run: Run) -> None:
    """Its next holder owes nothing to the one before, however many each of them takes."""

    async def borrow(tokens: asyncio.Queue[Any], request: str | None) -> None:
        if request:
            REQUEST.set(request)
        taken = [await tokens.get() for _ in range(3)]
        await start_job()
        for token in taken:
            tokens.put_nowait(token)

    async def main() -> None:
        tokens: asyncio.Queue[Any] = asyncio.Queue()
        for _ in range(3):
            tokens.put_nowait(object())
        await asyncio.create_task(borrow(tokens, "r-1"))
        await asyncio.create_task(borrow(tokens, None))

    run(main())
    assert contexts_lost(watched) == []


def test_work_put_back_is_its_first_givers(watched: Agent, run: Run) -> None:
    async def gives(queue: asyncio.Queue[Any]) -> None:
        REQUEST.set("r-1")
        queue.put_nowait({"order": 1})

    async def puts_back(queue: asyncio.Queue[Any]) -> None:
        queue.put_nowait(await queue.get())

    async def works(queue: asyncio.Queue[Any]) -> None:
        await queue.get()
        await start_job()

    async def main() -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        for function in (gives, puts_back, works):
            await asyncio.create_task(function(queue))

    run(main())
    (lost,) = contexts_lost(watched)
    assert lost.site.function.endswith("gives")


def test_a_lost_trace_is_told_of(
    install: Callable[..., Agent], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace.propagation", propagation)
    agent = install()
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))

    async def handle() -> None:
        with trace.use_span(span):
            await asyncio.get_running_loop().run_in_executor(None, say)
            await asyncio.to_thread(say)

    run(handle())
    (lost,) = contexts_lost(agent)
    assert (lost.missing, lost.trace_id, lost.span_id) == (("trace",), f"{0xABC:032x}", f"{0xDEF:016x}")


def test_nothing_is_wrapped_before_there_is_something_to_lose(agent: Agent) -> None:
    names = list(HOOKS)
    before = [getattr(HOOKS[name], name) for name in names]
    loopwatch.watch_var(REQUEST)
    during = [getattr(HOOKS[name], name) for name in names]
    assert not any(now is then for now, then in zip(during, before, strict=True))
    assert [inspect.signature(now) for now in during] == [inspect.signature(then) for then in before]
    assert [now.__qualname__ for now in during] == [then.__qualname__ for then in before]
    loopwatch.uninstall()
    after = [getattr(HOOKS[name], name) for name in names]
    assert all(now is then for now, then in zip(after, before, strict=True))
    loopwatch.watch_var(ContextVar("further"))
    assert [getattr(HOOKS[name], name) for name in names] == before


def test_below_somebody_elses_wrapper_it_falls_silent(
    watched: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, ran = threading.Thread.start, []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: ours(thread))
        loopwatch.uninstall()
        context = copy_context()
        context.run(REQUEST.set, "r-1")
        thread = threading.Thread(target=lambda: ran.append(HANDED.get()))
        context.run(thread.start)
        thread.join()
    assert ran == [None]
    assert vars(threading.Thread)["start"] is ours
    threading.Thread.start = ours.__wrapped__  # type: ignore[attr-defined, method-assign]


def test_results_errors_and_tracebacks_are_as_before(watched: Agent, run: Run) -> None:
    def fails(text: str, *, base: int = 10) -> int:
        return int(text, base)

    async def handle() -> None:
        REQUEST.set("r-1")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(fails, "ff", base=16).result() == 255
            assert list(pool.map(fails, ["1", "2"])) == [1, 2]
            bare = ThreadPoolExecutor.submit.__wrapped__  # type: ignore[attr-defined]
            errors = [pool.submit(fails, "x").exception(), bare(pool, fails, "x").exception()]
            ours, theirs = ([entry.name for entry in traceback.extract_tb(e.__traceback__)] for e in errors)
            assert ours == theirs
            with pytest.raises(TypeError, match=r"ThreadPoolExecutor.submit\(\) missing 1 required"):
                pool.submit()  # type: ignore[call-arg]
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(fails, "1")
        with pytest.raises(ZeroDivisionError) as raised:
            await asyncio.get_running_loop().run_in_executor(None, lambda: 1 // 0)
        assert "_run" not in [entry.name for entry in raised.traceback]

    run(handle())


def test_a_threads_error_is_reported_as_before(watched: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        threading,
        "excepthook",
        lambda args: seen.append([frame.name for frame in traceback.extract_tb(args.exc_traceback)]),
    )
    token = REQUEST.set("r-1")

    def fails() -> None:
        raise ValueError("no")

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="can only be started once"):
        thread.start()
    assert "run" not in vars(thread)
    REQUEST.reset(token)
    assert seen == [["_bootstrap_inner", "run", "fails"]]
