"""What is read of asyncio's loops, and which loops have a time of their own."""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from loopwatch._internals.base_loop import (
    next_ready,
    overridden,
    ready_count,
    selector,
    shadowed,
    timer_count,
)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        yield loop


def make(**methods: Callable[..., Any]) -> asyncio.AbstractEventLoop:
    """Make a loop of a class with methods of its own."""
    loop: asyncio.AbstractEventLoop = type("Own", (asyncio.SelectorEventLoop,), methods)()
    return loop


@pytest.mark.parametrize("name", ["time", "call_later", "call_at", "_run_once"])
def test_a_class_with_a_time_of_its_own_is_told_by_the_method(name: str) -> None:
    with contextlib.closing(make(**{name: lambda self, *args: None})) as loop:
        assert overridden(loop, asyncio.BaseEventLoop) == name


@pytest.mark.parametrize("name", ["time", "call_later", "call_at"])
def test_so_is_a_loop_that_was_given_one(loop: asyncio.AbstractEventLoop, name: str) -> None:
    setattr(loop, name, lambda *args: 0.0)
    assert overridden(loop, asyncio.BaseEventLoop) == name


def test_other_methods_are_nobodys_business(loop: asyncio.AbstractEventLoop) -> None:
    assert overridden(loop, asyncio.BaseEventLoop) is None
    with contextlib.closing(make(run_forever=lambda self: None, call_soon=lambda *args: None)) as own:
        assert overridden(own, asyncio.BaseEventLoop) is None


def test_uvloop_is_measured_by_its_own_class() -> None:
    uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")
    with contextlib.closing(uvloop.new_event_loop()) as loop:
        assert overridden(loop, uvloop.Loop) is None
        assert (selector(loop), ready_count(loop), timer_count(loop), next_ready(loop)) == (None,) * 4


def test_looking_for_attributes_makes_no_dict_of_a_loop(loop: asyncio.AbstractEventLoop) -> None:
    class Counted:
        looks = 0

        def __init__(self) -> None:
            self.given: Callable[[], int] = int

        def method(self) -> None: ...

        def __getattribute__(self, name: str) -> Any:
            if name == "__dict__":
                type(self).looks += 1
            return super().__getattribute__(name)

    counted = Counted()
    assert not shadowed(counted, "method")
    counted.method = print  # type: ignore[method-assign]
    assert shadowed(counted, "method")
    assert Counted.looks == 0


def test_the_selector_is_the_loops_own(loop: asyncio.AbstractEventLoop) -> None:
    found = selector(loop)
    assert found is not None
    assert found is loop._selector  # type: ignore[attr-defined]


class Slotted:
    __slots__ = ()

    def select(self, timeout: float | None) -> list[object]:
        return []


@pytest.mark.parametrize("odd", [None, Slotted(), Mock(), object(), 7])
def test_one_whose_select_cannot_be_replaced_is_none(odd: object) -> None:
    class Loop:
        _selector = odd

    loop: Any = Loop()
    assert selector(loop) is None


def test_a_selector_of_the_users_is_as_good() -> None:
    with contextlib.closing(asyncio.SelectorEventLoop(selectors.SelectSelector())) as loop:
        assert selector(loop) is not None


def test_what_is_ready_and_what_is_scheduled_is_counted(loop: asyncio.AbstractEventLoop) -> None:
    assert (ready_count(loop), timer_count(loop), next_ready(loop)) == (0, 0, 0)
    first = loop.call_soon(print)
    loop.call_soon(print)
    loop.call_later(60, print)
    assert (ready_count(loop), timer_count(loop), next_ready(loop)) == (2, 1, id(first))
