"""What is put into a queue takes its context along."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace

import loopwatch
from loopwatch import Carried
from loopwatch._context import carry as module

REQUEST: ContextVar[str] = ContextVar("request")
TENANT: ContextVar[str] = ContextVar("tenant")


@dataclass
class Order:
    """Equal to others, and without a hash."""

    number: int = 1


@pytest.fixture(autouse=True)
def watched() -> None:
    loopwatch.watch_var(REQUEST)
    loopwatch.watch_var(TENANT)


def carried(item: Any, request: str) -> Any:
    """Return ``item`` as a request puts it into a queue."""

    def put() -> Any:
        REQUEST.set(request)
        return loopwatch.carry(item)

    return copy_context().run(put)


@pytest.mark.parametrize("make", [Order, lambda: lambda: None, set], ids=["object", "function", "set"])
def test_an_item_that_can_be_weakly_referenced_stays_itself(make: Callable[[], Any]) -> None:
    item = make()
    assert carried(item, "r-1") is item
    with loopwatch.restore(item) as same:
        assert same is item
        assert REQUEST.get() == "r-1"
    assert REQUEST.get(None) is None


@pytest.mark.parametrize("item", [{}, [], (), "text", 7, None], ids=repr)
def test_another_is_wrapped(item: object) -> None:
    first, second = carried(item, "r-1"), carried(item, "r-2")
    assert isinstance(first, Carried)
    for wrapped, request in ((first, "r-1"), (second, "r-2")):
        with loopwatch.restore(wrapped) as inside:
            assert inside is item
            assert REQUEST.get() == request


def test_equal_items_are_told_apart() -> None:
    first, second = carried(Order(), "r-1"), carried(Order(), "r-2")
    with loopwatch.restore(first):
        assert REQUEST.get() == "r-1"
    with loopwatch.restore(second):
        assert REQUEST.get() == "r-2"


def test_an_item_carries_the_latest() -> None:
    item = carried(carried(Order(), "r-1"), "r-2")
    with loopwatch.restore(item):
        assert REQUEST.get() == "r-2"


def test_an_item_that_carries_nothing_changes_nothing() -> None:
    with loopwatch.restore(Order()):
        assert REQUEST.get(None) is None


def test_what_was_set_before_comes_back_after_an_error() -> None:
    token = TENANT.set("worker")
    item = carried(Order(), "r-1")
    TENANT.set("other")
    with contextlib.suppress(ZeroDivisionError), loopwatch.restore(item):
        assert TENANT.get() == "worker"
        raise ZeroDivisionError
    assert TENANT.get() == "other"
    TENANT.reset(token)


def test_the_trace_goes_along() -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))
    with trace.use_span(span):
        item = loopwatch.carry(Order())
    with loopwatch.restore(item):
        assert trace.get_current_span() is span
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_items_die_as_they_would() -> None:
    before = len(module._luggage)
    item = carried(Order(), "r-1")
    gone = weakref.ref(item)
    del item
    assert gone() is None
    assert len(module._luggage) == before
    items = [carried(Order(n), "r-1") for n in range(100)]
    items.append(items)
    del items
    gc.collect()
    assert len(module._luggage) == before


def test_a_queue_worker_serves_each_item_under_its_own_request() -> None:
    async def worker(queue: asyncio.Queue[Any], seen: list[tuple[int, str]]) -> None:
        while True:
            with loopwatch.restore(await queue.get()) as number:
                await asyncio.sleep(0)
                seen.append((number, REQUEST.get()))
            assert REQUEST.get(None) is None
            queue.task_done()

    async def request(number: int, queue: asyncio.Queue[Any]) -> None:
        REQUEST.set(f"r-{number}")
        queue.put_nowait(loopwatch.carry(number))

    async def main() -> list[tuple[int, str]]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        seen: list[tuple[int, str]] = []
        workers = [asyncio.create_task(worker(queue, seen)) for _ in range(3)]
        await asyncio.gather(*(request(number, queue) for number in range(20)))
        await queue.join()
        assert not any(task.done() for task in workers)
        for task in workers:
            task.cancel()
        return seen

    assert sorted(asyncio.run(main())) == [(number, f"r-{number}") for number in range(20)]


def test_a_block_may_be_left_in_another_context() -> None:
    item = carried(Order(), "r-1")
    block = loopwatch.restore(item)
    copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
