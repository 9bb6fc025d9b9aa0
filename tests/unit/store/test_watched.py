"""What may be watched, and what is kept of a value."""

from __future__ import annotations

import sys
import threading
import weakref
from contextvars import ContextVar
from enum import IntEnum
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

import loopwatch
from loopwatch import ConfigurationError
from loopwatch._context.reader import UNSHOWN, ContextReader
from loopwatch._journal import Journal
from loopwatch._store.watched import LENGTH, LIMIT, Values, watches

VAR: ContextVar[Any] = ContextVar("request_id")


class Colour(IntEnum):
    RED = 1


class Order:
    def __str__(self) -> str:
        raise AssertionError("the program's code ran")


def fails(_: object) -> str:
    raise ValueError("no")


def kept(reader: ContextReader, value: object) -> str | None:
    token = VAR.set(value)
    try:
        return reader.shape(reader.current()).values.get("request_id")
    finally:
        VAR.reset(token)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def reader(journal: Journal) -> ContextReader:
    return ContextReader(journal)


@pytest.mark.parametrize("var", ["r-1", None, VAR.get])
def test_what_is_no_variable_is_refused(var: Any) -> None:
    with pytest.raises(ConfigurationError, match="Give the variable itself"):
        loopwatch.watch_var(var)


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="empty name"):
        loopwatch.watch_var(VAR, name=name)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"name=3\): got int, not a text\. Give the name"):
        loopwatch.watch_var(VAR, name=3)  # type: ignore[arg-type]


def test_a_show_that_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"show=3\): got int, not a function\. Give one"):
        loopwatch.watch_var(VAR, show=3)  # type: ignore[arg-type]
    assert watches() == ()


def test_another_show_of_the_same_variable_is_refused() -> None:
    loopwatch.watch_var(VAR, show=lambda value: value["id"])
    with pytest.raises(ConfigurationError, match=r"watched already, with another show=\. Call it once"):
        loopwatch.watch_var(VAR, show=lambda value: value["id"])


def test_a_name_that_is_taken_is_refused() -> None:
    loopwatch.watch_var(VAR)
    with pytest.raises(ConfigurationError, match=r"Give name="):
        loopwatch.watch_var(ContextVar("request_id"))


def test_the_same_call_again_does_nothing() -> None:
    for _ in range(LIMIT + 1):
        loopwatch.watch_var(VAR)


def test_the_seventeenth_is_refused() -> None:
    for number in range(LIMIT):
        loopwatch.watch_var(ContextVar(f"v{number}"))
    with pytest.raises(ConfigurationError, match="16 variables are watched already"):
        loopwatch.watch_var(VAR)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("r-1", "r-1"),
        ("x" * 200, "x" * 128),
        (7, "7"),
        (True, "True"),
        (0.5, "0.5"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "Colour"),
        (Order(), "Order"),
        (b"r-1", "bytes"),
        (["r-1"], "list"),
        (None, None),
    ],
)
def test_plain_values_are_kept_as_text_of_others_the_type(
    reader: ContextReader, value: object, text: str | None
) -> None:
    loopwatch.watch_var(VAR)
    assert kept(reader, value) == text


def test_the_program_may_just_be_importing_uuid(
    reader: ContextReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or have a module of its own by that name."""
    monkeypatch.setitem(sys.modules, "uuid", ModuleType("uuid"))
    loopwatch.watch_var(VAR)
    assert kept(reader, Order()) == "Order"


def test_a_default_is_no_value(reader: ContextReader) -> None:
    loopwatch.watch_var(ContextVar("tenant", default="nobody"))
    assert reader.current() is None


def test_show_makes_a_text_of_a_value(reader: ContextReader) -> None:
    loopwatch.watch_var(VAR, show=lambda value: value["id"])
    assert kept(reader, {"id": "r-1"}) == "r-1"
    assert kept(reader, {"id": object()}) == "object"


def test_a_show_that_raises_is_counted_and_leaves_the_type(reader: ContextReader, journal: Journal) -> None:
    loopwatch.watch_var(VAR, show=fails)
    assert kept(reader, Order()) == "Order"
    assert journal.failures() == {"show": 1}


def test_show_does_not_run_where_the_value_is_read(reader: ContextReader) -> None:
    ran_in = []
    loopwatch.watch_var(VAR, show=lambda value: ran_in.append(threading.get_ident()) or "r-1")
    token = VAR.set(Order())
    values = reader.current()
    VAR.reset(token)
    assert ran_in == []
    thread = threading.Thread(target=reader.refresh)
    thread.start()
    thread.join()
    assert ran_in == [thread.ident]
    assert reader.shape(values).values == {"request_id": "r-1"}


def test_no_object_of_the_program_is_held_after_it_was_shown(reader: ContextReader) -> None:
    loopwatch.watch_var(VAR, show=lambda value: "r-1")
    order = Order()
    gone = weakref.ref(order)
    token = VAR.set(order)
    values = reader.current()
    VAR.reset(token)
    del order, token
    reader.refresh()
    assert values is not None
    assert gone() is None


def read(reader: ContextReader, value: object) -> Values:
    token = VAR.set(value)
    try:
        values = reader.current()
    finally:
        VAR.reset(token)
    assert values is not None
    return values


def test_of_a_long_text_no_more_is_held_than_is_shown(reader: ContextReader) -> None:
    loopwatch.watch_var(VAR)
    assert read(reader, "x" * 1_000_000).raw == ["x" * LENGTH]


def test_a_long_text_is_shown_whole_and_held_no_longer_than_that(reader: ContextReader) -> None:
    loopwatch.watch_var(VAR, show=lambda text: text[-4:])
    values = read(reader, "x" * 1_000_000 + "tail")
    reader.refresh()
    assert values.raw == ("tail",)


def test_too_many_that_wait_are_shown_by_their_types_the_oldest_first(reader: ContextReader) -> None:
    loopwatch.watch_var(VAR, show=lambda order: "shown")
    loopwatch.watch_var(ContextVar("plain"))
    orders = [Order() for _ in range(UNSHOWN + 3)]
    gone = [weakref.ref(order) for order in orders]
    held = [read(reader, order) for order in orders]
    assert reader.unshown_dropped == 3
    orders.clear()
    assert [ref() is None for ref in gone] == [True] * 3 + [False] * UNSHOWN
    reader.refresh()
    assert not any(ref() for ref in gone)
    texts = [reader.shape(values).values["request_id"] for values in held]
    assert texts == ["Order"] * 3 + ["shown"] * UNSHOWN
    assert reader.unshown_dropped == 3
