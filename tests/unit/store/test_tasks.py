"""Records of lost tasks: kept until asyncio can report none of them any more, and then let go of."""

from __future__ import annotations

from typing import Any

import pytest

from loopwatch._places import Place
from loopwatch._store.pauses import Pauses
from loopwatch._store.sites import Site
from loopwatch._store.tasks import FALLEN, FALLEN_OF_SITE, UNTOLD, Fall, LiveTask, LoopTasks


class Thing:
    """Stands for a task."""


def a_function() -> None: ...


def another_function() -> None: ...


def fall(site: Place, error: str | None = None) -> Fall:
    return Fall(
        reason="destroyed_pending",
        site=site,
        coroutine="work",
        started=0.0,
        name=None,
        stood=None,
        values=None,
        error=error,
        record=None,
    )


def place(function: Any, offset: int = 2) -> Place:
    return function.__code__, offset, __name__


def begin(tasks: LoopTasks, task: Any) -> LiveTask:
    record = LiveTask(task, tasks.gone.append)
    record.site, record.key, record.coroutine = Site(*place(a_function)), id(task), "work"
    record.site.created = 1
    record.name = record.parent = record.values = record.fall = record.stood = record.lost = None
    record.started = 0.0
    tasks.live[id(task)] = record
    return record


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def tasks(pauses: Pauses) -> LoopTasks:
    return LoopTasks(pauses)


@pytest.fixture
def record(tasks: LoopTasks) -> LiveTask:
    """That of a task which has gone."""
    record = begin(tasks, Thing())
    assert record() is None
    return record


def test_what_died_is_booked_and_told(tasks: LoopTasks, record: LiveTask) -> None:
    tasks.settle()
    assert (tasks.live, record.site.lost, record.site.live) == ({}, 1, 0)
    assert [fall.record for fall in tasks.take_fallen()] == [record]


def test_nothing_is_booked_while_a_collection_goes_on(
    tasks: LoopTasks, pauses: Pauses, record: LiveTask
) -> None:
    pauses.running_since = 1.0
    tasks.settle()
    assert list(tasks.live.values()) == list(tasks.gone) == [record]
    pauses.end(1.0, 2.0)
    tasks.settle()
    assert (tasks.live, len(tasks.gone), len(tasks.fallen)) == ({}, 0, 1)


def test_what_was_told_of_already_is_booked_and_no_more(tasks: LoopTasks, record: LiveTask) -> None:
    record.fall = fall(place(a_function))
    tasks.settle()
    assert (tasks.live, record.site.lost, len(tasks.fallen)) == ({}, 1, 0)


def test_one_whose_id_is_taken_is_booked_in_the_midst_of_a_collection(
    tasks: LoopTasks, pauses: Pauses, record: LiveTask
) -> None:
    pauses.running_since = 1.0
    tasks.make_way(record.key + 1)
    assert not tasks.fallen
    tasks.make_way(record.key)
    assert (tasks.live, record.site.lost, len(tasks.fallen)) == ({}, 1, 1)
    pauses.end(1.0, 2.0)
    tasks.settle()
    assert (record.site.lost, len(tasks.fallen)) == (1, 1)


def test_a_task_that_lives_makes_no_way(tasks: LoopTasks, record: LiveTask) -> None:
    thing = Thing()
    live = begin(tasks, thing)
    tasks.make_way(id(thing))
    assert tasks.live == {id(thing): live}


def test_a_dying_task_is_known_by_its_record(tasks: LoopTasks, pauses: Pauses) -> None:
    """By its id alone only in a collection; else that may be the record of one that had it before."""
    thing = Thing()
    record = begin(tasks, thing)
    assert tasks.record_of(thing) is record
    stale = begin(tasks, Thing())
    del tasks.live[stale.key]
    tasks.live[id(thing)] = stale
    assert tasks.record_of(thing) is None
    pauses.running_since = 1.0
    assert tasks.record_of(thing) is stale
    stale.fall = fall(place(a_function))
    assert tasks.record_of(thing) is None


def test_no_site_takes_all_places(tasks: LoopTasks) -> None:
    for offset in range(FALLEN // FALLEN_OF_SITE + 1):
        for _ in range(FALLEN):
            tasks.fall(fall(place(a_function, 2 * offset)))
    assert len(tasks.fallen) == FALLEN - FALLEN_OF_SITE + 2  # and the first of the two sites that came last
    tasks.fall(fall(place(another_function)))
    told = list(tasks.take_fallen())
    assert told[-1].site == place(another_function)
    assert len(told) + tasks.untold.total() == FALLEN * (FALLEN // FALLEN_OF_SITE + 1) + 1
    tasks.fall(fall(place(a_function)))  # after the watchdog came there is room again
    assert len(tasks.fallen) == 1


def test_what_finds_no_place_is_counted_by_type_but_not_without_end(tasks: LoopTasks) -> None:
    for number in range(FALLEN_OF_SITE + 2 * UNTOLD):
        tasks.fall(fall(place(a_function), error=f"Error{number}"))
    assert len(tasks.untold) == UNTOLD + 1
    assert tasks.untold.total() == 2 * UNTOLD


def test_losses_of_a_loop_whose_name_was_forgotten_are_told_too(pauses: Pauses) -> None:
    gone, other = LoopTasks(pauses), LoopTasks(pauses)
    for number in range(FALLEN_OF_SITE + 1):
        gone.fall(fall(place(a_function), error=f"Error{number}"))
    other.absorb(gone)
    gone.fall(fall(place(another_function)))
    assert len(list(other.take_fallen())) == FALLEN_OF_SITE + 1
    assert other.untold.total() == 1
