"""A loop that runs in a thread of its own, as tasks are read: from another."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

T = TypeVar("T")
TIMEOUT = 30
"""Seconds after which something is wrong, never waited for otherwise."""

# An example that takes long is no failure: on a busy machine any does.
settings.register_profile(
    "any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


class LoopThread:
    """Runs what a test gives it in the loop's thread; between two calls the loop has nothing to do."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop], *, debug: bool = False) -> None:
        self.loop = factory()
        self.loop.set_debug(debug)
        self.loop.set_exception_handler(lambda loop, context: None)
        self._thread = threading.Thread(target=self.loop.run_forever, name="watched loop", daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function there, let the loop come to rest, and return the result."""

        async def call() -> T:
            return function(*args)

        result = self.run(call())
        self.run(self._rest())
        return result

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT)

    def start(
        self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> weakref.ref[Any]:
        """Start a task that nobody keeps, and return a weak reference to it."""
        return self.call(lambda: weakref.ref(self.loop.create_task(function(*args), **kwargs)))

    async def _rest(self) -> None:
        for _ in range(10):  # more than any chain of callbacks in these tests is long
            await asyncio.sleep(0)

    def close(self) -> None:
        self.call(self._cancel_all)
        gc.collect()  # what cannot be cancelled, while the loop still takes calls
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT)
        self.loop.close()

    def _cancel_all(self) -> None:
        for task in asyncio.all_tasks(self.loop) - {asyncio.current_task(self.loop)}:
            with contextlib.suppress(RecursionError):  # of tasks that wait for each other, by asyncio itself
                task.cancel()


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


@pytest.fixture(params=["stock", "eager", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes a loop, of each kind."""
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")
        return uvloop.new_event_loop
    if request.param == "eager":
        if sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")
        return _eager_loop
    return asyncio.new_event_loop


@pytest.fixture
def loop_thread(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[LoopThread]:
    """A running loop of each kind. The garbage collector runs only when called."""
    gc.disable()
    thread = LoopThread(loop_factory)
    try:
        yield thread
    finally:
        thread.close()
        gc.enable()
