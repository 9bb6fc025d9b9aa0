"""Tasks put on piles: what is told of, what is remembered, and no more than that."""

from __future__ import annotations

import asyncio

import pytest

from loopwatch._collectors.leaks import piles
from loopwatch._collectors.leaks.piles import MANY, PATIENCE, Piles
from loopwatch._store.sites import Site
from loopwatch._store.tasks import LiveTask


class Task:
    """One that ends when it is told to."""

    ended = False

    def done(self) -> bool:
        return self.ended


SITE = Site(asyncio.sleep.__code__, 0, "")
kept: list[Task] = []


@pytest.fixture(autouse=True)
def keep_nothing() -> None:
    kept.clear()


def record(started: float, coroutine: str = "park") -> LiveTask:
    kept.append(Task())
    made = LiveTask(kept[-1])
    made.site, made.coroutine, made.started = SITE, coroutine, started
    return made


def fill(into: Piles, count: int, seconds: float, coroutine: str = "park") -> None:
    for number in range(count):
        into.put(record(number * seconds / (count - 1), coroutine), 1)


@pytest.mark.parametrize(
    ("count", "seconds", "told"), [(MANY, PATIENCE, MANY), (MANY - 1, PATIENCE, 0), (50, PATIENCE - 1, 0)]
)
def test_a_pile_has_many_of_different_age(count: int, seconds: float, told: int) -> None:
    put = Piles()
    fill(put, count, seconds)
    assert [number for _, number in put.look()] == [told] * told
    assert list(put.look()) == []


def test_what_joins_a_known_pile_is_told_of_at_once() -> None:
    put = Piles()
    fill(put, MANY, PATIENCE)
    assert len(list(put.look())) == MANY
    later = record(100.0)
    put.put(later, 1)
    put.put(record(100.0), 2)  # in another collection
    put.put(record(100.0, "other"), 1)
    assert list(put.look()) == [(later, MANY + 1)]


def test_the_same_one_counts_once() -> None:
    put, one = Piles(), record(0.0)
    for _ in range(MANY):
        put.put(one, 1)
    put.put(record(PATIENCE), 1)
    assert list(put.look()) == []


@pytest.mark.parametrize("known", [False, True])
def test_one_that_ends_excuses_its_kind_in_every_collection(known: bool) -> None:
    put = Piles()
    fill(put, MANY, PATIENCE)
    if known:
        assert len(list(put.look())) == MANY
    kept[0].ended = True
    assert list(put.look()) == []
    for collection in (1, 2):
        for number in range(MANY):
            put.put(record(number * PATIENCE), collection)
    assert list(put.look()) == []


def test_no_more_than_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piles, "MOST", MANY - 1)
    put = Piles()
    fill(put, MANY, PATIENCE)
    assert list(put.look()) == []
    kept.clear()  # which makes room
    assert list(put.look()) == []
    monkeypatch.setattr(piles, "MOST", 100)
    list(put.look())
    fill(put, MANY, PATIENCE, "other")
    assert len(list(put.look())) == MANY


def test_no_more_than_so_many_kinds_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piles, "KINDS", 1)
    put = Piles()
    for coroutine in ("first", "second"):
        put.put(record(0.0, coroutine), 1)
        kept[-1].ended = True
        assert list(put.look()) == []
    told = []
    for coroutine in ("first", "second"):
        fill(put, MANY, PATIENCE, coroutine)
        told.append(len(list(put.look())))
    assert told == [0, MANY]
