"""Where suspended tasks stand, and what they are said to wait for: each primitive, on each kind of loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest

from loopwatch._internals.await_chain import Chain, chain, describe, task_text, wait_of
from loopwatch._internals.futures import type_name
from loopwatch._internals.links import DEPTH, links
from loopwatch._internals.managers import entered

Read = Callable[..., Chain]


def functions(found: Chain) -> list[str]:
    """The functions of a chain, without the tests' own prefixes."""
    return [code.co_qualname.rpartition("<locals>.")[2] for code, _, _ in found.places]


@pytest.fixture
def read(loop_thread: Any) -> Read:
    """Start a task on a loop in another thread and read its chain from this one."""

    def read(function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Chain:
        task = loop_thread.start(function, *args)()
        assert task is not None
        return chain(task)

    return read


async def forever() -> None:
    await asyncio.Event().wait()


class OtherFuture:
    """What asyncio takes for a future, of a library's own."""

    _asyncio_future_blocking = False

    def __init__(self) -> None:
        self._callbacks: list[object] = []
        self._loop = asyncio.get_running_loop()

    @property
    def _state(self) -> str:
        raise TouchedError

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: object, *, context: object = None) -> None:
        self._callbacks.append(callback)

    def cancel(self, msg: object = None) -> bool:
        return False

    def __await__(self) -> Generator[Any]:
        self._asyncio_future_blocking = True
        yield self


class TestWords:
    """What an engineer reads."""

    @pytest.mark.parametrize(
        ("wait", "kind", "text"),
        [
            (lambda: asyncio.sleep(1000), "timer", "sleep"),
            (lambda: anyio.sleep(1000), "timer", "sleep"),
            (lambda: asyncio.Event().wait(), "event", "Event.wait"),
            (lambda: anyio.Event().wait(), "event", "Event.wait"),
            (lambda: asyncio.Queue[None]().get(), "queue", "Queue.get"),
            (lambda: asyncio.LifoQueue[None]().get(), "queue", "Queue.get"),
            (lambda: asyncio.Semaphore(0).acquire(), "semaphore", "Semaphore.acquire"),
            (lambda: asyncio.Barrier(2).wait(), "condition", "Barrier.wait"),
            (lambda: asyncio.wait_for(asyncio.Queue[None]().get(), 1000), "queue", "Queue.get"),
            (lambda: asyncio.StreamReader().read(), "stream", "StreamReader.read"),
            (lambda: asyncio.StreamReader().readline(), "stream", "StreamReader.readline"),
            (lambda: asyncio.gather(forever(), forever(), forever()), "task", "gather of 3"),
        ],
    )
    def test_awaited_directly(
        self, read: Read, wait: Callable[[], Awaitable[Any]], kind: str, text: str
    ) -> None:
        async def waits() -> None:
            await wait()

        assert wait_of(read(waits)) == (kind, text)

    def test_full_queue(self, read: Read) -> None:
        async def waits() -> None:
            queue = asyncio.Queue[int](1)
            await queue.put(1)
            await queue.put(2)

        assert wait_of(read(waits)) == ("queue", "Queue.put")

    def test_unfinished_queue(self, read: Read) -> None:
        async def waits() -> None:
            queue = asyncio.Queue[int]()
            await queue.put(1)
            await queue.join()

        assert wait_of(read(waits)) == ("queue", "Queue.join")

    @pytest.mark.parametrize("make", [asyncio.Lock, anyio.Lock])
    def test_lock(self, read: Read, make: Callable[[], Any]) -> None:
        async def waits(lock: Any) -> None:
            async with lock:
                pass

        async def owns(lock: Any) -> None:
            async with lock:
                await forever()

        async def both() -> None:
            lock = make()
            owner = asyncio.create_task(owns(lock))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await waits(lock)
            await owner

        assert wait_of(read(both)) == ("lock", "Lock.acquire")

    def test_condition(self, read: Read) -> None:
        async def waits() -> None:
            condition = asyncio.Condition()
            async with condition:
                await condition.wait_for(lambda: False)

        assert wait_of(read(waits)) == ("condition", "Condition.wait_for")

    def test_memory_stream(self, read: Read) -> None:
        async def waits() -> None:
            send, receive = anyio.create_memory_object_stream[int]()
            async with send, receive:
                await receive.receive()

        assert wait_of(read(waits)) == ("queue", "MemoryObjectReceiveStream.receive")

    def test_future(self, read: Read) -> None:
        async def waits() -> None:
            await asyncio.get_running_loop().create_future()

        assert wait_of(read(waits)) == ("future", "future")

    def test_future_of_another_make(self, read: Read) -> None:
        """Anything with the protocol may be awaited. What it calls by asyncio's private names is its own."""

        async def waits() -> None:
            await OtherFuture()

        assert wait_of(read(waits)) == ("future", "future")

    def test_each_other(self, read: Read) -> None:
        """Up to Python 3.11 ``wait_for`` is between them, and what is in it is followed."""
        both: list[asyncio.Task[None]] = []

        async def waits_for(other: int) -> None:
            await asyncio.sleep(0)
            await asyncio.wait_for(both[other], 1000)

        async def start() -> None:
            both.extend(asyncio.create_task(waits_for(other), name=f"no. {1 - other}") for other in (1, 0))
            await asyncio.wait_for(both[0], 1000)

        found = wait_of(read(start))
        assert found is not None
        assert (found.kind, found.text.partition(" (")[0]) == ("task", "task 'no. 0'")
        assert str(describe(chain(both[0]))).startswith("task 'no. 1'")

    def test_task(self, read: Read) -> None:
        async def waits() -> None:
            await asyncio.create_task(forever(), name="refresh")

        assert wait_of(read(waits)) == ("task", "task 'refresh' (forever)")

    def test_shielded_task(self, read: Read) -> None:
        async def waits() -> None:
            await asyncio.shield(asyncio.create_task(forever(), name="refresh"))

        assert wait_of(read(waits)) == ("task", "task 'refresh' (forever), shielded")

    def test_task_group(self, read: Read) -> None:
        async def waits() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(forever())
                group.create_task(forever())

        assert wait_of(read(waits)) == ("task", "TaskGroup of 2")

    def test_task_group_of_anyio(self, read: Read) -> None:
        async def waits() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(forever)
                group.start_soon(forever)

        assert wait_of(read(waits)) == ("task", "TaskGroup of 2")

    @pytest.mark.parametrize(
        ("when", "text"),
        [(asyncio.ALL_COMPLETED, "wait for 2"), (asyncio.FIRST_COMPLETED, "wait for first of 2")],
    )
    def test_wait(self, read: Read, when: str, text: str) -> None:
        async def waits() -> None:
            await asyncio.wait([asyncio.ensure_future(forever()) for _ in range(2)], return_when=when)

        assert wait_of(read(waits)) == ("task", text)

    def test_as_completed(self, read: Read) -> None:
        async def waits() -> None:
            for first in asyncio.as_completed([forever()]):
                await first

        assert wait_of(read(waits)) == ("task", "as_completed")

    @pytest.mark.parametrize(
        ("run", "text"),
        [
            (asyncio.to_thread, "to_thread"),
            (anyio.to_thread.run_sync, "run_sync"),
            (lambda function: asyncio.get_running_loop().run_in_executor(None, function), "executor"),
        ],
    )
    def test_executor(self, read: Read, run: Callable[..., Awaitable[Any]], text: str) -> None:
        done = threading.Event()

        async def waits() -> None:
            await run(done.wait)

        try:
            assert wait_of(read(waits)) == ("executor", text)
        finally:
            done.set()

    def test_socket(self, read: Read, loop_thread: Any) -> None:
        ours, theirs = socket.socketpair()

        async def waits() -> None:
            await asyncio.get_running_loop().sock_recv(ours, 1)

        with ours, theirs:
            ours.setblocking(False)
            assert wait_of(read(waits)) == ("socket", "sock_recv")
            theirs.send(b"x")
            loop_thread.call(int)  # in which it is received, before it is closed

    def test_running(self, loop_thread: Any) -> None:
        async def runs() -> str | None:
            return describe(chain(asyncio.current_task()))

        assert loop_thread.run(runs()) is None

    def test_ready(self, loop_thread: Any) -> None:
        async def waits() -> None:
            await asyncio.sleep(0)

        def ready() -> str | None:
            return describe(chain(loop_thread.loop.create_task(waits())))

        assert loop_thread.call(ready) is None

    def test_pool(self, read: Read) -> None:
        scope: dict[str, Any] = {"__name__": "asyncpg.pool", "asyncio": asyncio}
        exec(  # asyncpg's own needs a server
            "class Pool:\n    async def _acquire(self):\n        await asyncio.Queue().get()\n", scope
        )

        async def waits() -> None:
            await scope["Pool"]()._acquire()

        assert wait_of(read(waits)) == ("pool", "asyncpg Pool")


class Delegating:
    def __await__(self) -> Generator[Any, None, None]:
        yield from forever().__await__()


class Handing:
    def __await__(self) -> Generator[Any, None, None]:
        return forever().__await__()


@types.coroutine
def generator_based() -> Generator[Any, None, None]:
    yield from forever().__await__()


async def items() -> AsyncIterator[int]:
    await forever()
    yield 1


async def leaving() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await forever()


@contextlib.asynccontextmanager
async def entering() -> AsyncIterator[None]:
    await forever()
    yield


class TestPlaces:
    """The frames, through whatever stands between them."""

    @staticmethod
    async def delegating() -> None:
        await Delegating()

    @staticmethod
    async def handing() -> None:
        await Handing()

    @staticmethod
    async def generator_based() -> None:
        await generator_based()

    @staticmethod
    async def iterating() -> None:
        async for _ in items():
            pass

    @staticmethod
    async def next_of() -> None:
        await anext(items())

    @staticmethod
    async def next_or() -> None:
        await anext(items(), None)

    @staticmethod
    async def sending() -> None:
        await items().asend(None)

    @staticmethod
    async def closing() -> None:
        left = leaving()
        await anext(left)
        await left.aclose()

    @staticmethod
    async def entering() -> None:
        async with entering():
            pass

    @pytest.mark.parametrize(
        ("function", "between"),
        [
            ("delegating", ["Delegating.__await__"]),
            ("handing", []),
            ("generator_based", ["generator_based"]),
            ("iterating", ["items"]),
            ("next_of", ["items"]),
            ("next_or", ["items"]),
            ("sending", ["items"]),
            ("closing", ["leaving"]),
            ("entering", ["_AsyncGeneratorContextManager.__aenter__", "entering"]),
        ],
    )
    def test_bridged(self, read: Read, function: str, between: list[str]) -> None:
        found = read(getattr(self, function))
        assert functions(found) == [f"TestPlaces.{function}", *between, "forever", "Event.wait"]
        assert asyncio.isfuture(found.awaited)

    def test_line_and_module(self, read: Read) -> None:
        async def waits() -> None:
            await forever()

        code, offset, module = read(waits).places[0]
        lines = [line for start, end, line in code.co_lines() if start <= offset < end]
        assert lines == [code.co_firstlineno + 1]
        assert module == __name__

    def test_cython(self, loop_thread: Any) -> None:
        if "uvloop" not in type(loop_thread.loop).__module__:
            pytest.skip("only uvloop's own coroutines are compiled")
        ours, theirs = socket.socketpair()

        async def waits() -> None:
            await loop_thread.loop.sock_recv(ours, 1)

        with ours, theirs:
            ours.setblocking(False)
            found = chain(loop_thread.start(waits)())
            theirs.send(b"x")
            loop_thread.call(int)  # in which it is received, before it is closed
        assert functions(found) == ["waits", "sock_recv"]
        assert found.places[-1][2] == "uvloop.loop"

    def test_cython_that_has_ended(self) -> None:
        """It has no code any more. Seen from another thread, that may be so at any moment."""
        uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")

        async def receive() -> asyncio.Task[bytes]:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                theirs.send(b"x")
                loop = asyncio.get_running_loop()
                task = loop.create_task(loop.sock_recv(ours, 1), name="receives")
                assert functions(chain(task)) == ["sock_recv"]
                await task
            return task

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            ended = runner.run(receive())
        assert functions(chain(ended)) == []
        assert task_text(ended) == "task 'receives' (?)"

    def test_coroutine_without_a_task(self) -> None:
        found = chain(coroutine := forever())
        coroutine.close()
        assert functions(found) == ["forever"]
        assert found.awaited is None

    def test_depth_is_bounded(self, read: Read) -> None:
        async def descend(depth: int) -> None:
            await (descend(depth - 1) if depth else forever())

        found = read(descend, 2 * DEPTH)
        assert len(found.places) == DEPTH
        assert describe(found) == "future"

    @pytest.mark.parametrize("other", [None, 3, object(), asyncio.Event])
    def test_anything_else_stands_nowhere(self, other: object) -> None:
        assert chain(other) == Chain((), None, ())

    def test_python_implementation(self, loop_thread: Any) -> None:
        kind = vars(asyncio.tasks)["_PyTask"]

        def start() -> Any:
            return kind(forever(), loop=loop_thread.loop, name="refresh")

        task = loop_thread.call(start)
        assert functions(chain(task)) == ["forever", "Event.wait"]
        assert describe(chain(task)) == "Event.wait"

        async def waits() -> None:
            await task

        assert describe(chain(loop_thread.start(waits)())) == "task 'refresh' (forever)"

    def test_wait_without_its_futures(self) -> None:
        """A task that goes on while another thread reads it may leave ``wait`` between two looks."""
        found = chain(left := vars(asyncio.tasks)["_wait"](None, None, None, None))
        assert functions(found) == ["_wait"]
        assert describe(found._replace(awaited=object())) == "future"
        left.close()

    def test_collected(self, loop_thread: Any) -> None:
        """As asyncio reports a task that is collected, its coroutine is closed already."""
        found: list[Chain] = []
        loop_thread.loop.set_exception_handler(lambda loop, context: found.append(chain(context["task"])))
        loop_thread.start(forever)
        gc.collect()
        [fallen] = found
        assert (fallen.places, describe(fallen)) == ((), None)

    def test_nothing_is_kept(self, loop_thread: Any) -> None:
        ref = loop_thread.start(TestPlaces.iterating)
        describe(chain(ref()))
        gc.collect()
        assert ref() is None


class TouchedError(Exception):
    """Raised by whatever the program would not like to be asked."""


class Touchy(type):
    def __hash__(cls) -> int:
        raise TouchedError

    def __eq__(cls, other: object) -> bool:
        raise TouchedError

    def __instancecheck__(cls, instance: object) -> bool:
        raise TouchedError


class Untouchable(metaclass=Touchy):
    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        raise TouchedError

    def __repr__(self) -> str:
        raise TouchedError

    def __eq__(self, other: object) -> bool:
        raise TouchedError

    def __hash__(self) -> int:
        raise TouchedError


class PrivateTask(asyncio.Task[Any]):
    """A task whose every public method is the program's own."""

    def __bool__(self) -> bool:
        raise TouchedError

    def get_name(self) -> str:
        raise TouchedError

    def get_coro(self) -> Any:
        raise TouchedError


def test_no_code_of_the_program_runs(loop_thread: Any) -> None:
    async def waits(held: Any) -> None:
        with held:
            await forever()

    async def waits_for(task: Any) -> None:
        await task

    def start() -> tuple[Any, Any]:
        task = PrivateTask(waits(type.__call__(Untouchable)), loop=loop_thread.loop)
        return weakref.ref(task), weakref.ref(loop_thread.loop.create_task(waits_for(task)))

    first, second = loop_thread.call(start)
    assert functions(chain(first())) == ["waits", "forever", "Event.wait"]
    assert str(describe(chain(second()))).startswith("task 'Task-")
    assert list(map(type_name, map(type, entered(links(first())[0])))) == ["Untouchable"]
