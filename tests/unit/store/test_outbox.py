"""What waits to be exported: bounded by kind, and only while somebody exports."""

import threading

import pytest

from loopwatch._events import Drained, Event, Found, HeldTooLong, JobEnded, Saturated
from loopwatch._records import DrainReport
from loopwatch._store.outbox import LIMIT, Outbox
from tests.records import borrower


def drained(number: float) -> Drained:
    return Drained(DrainReport((), (), (), duration=0.0, timeout=number), number, "main")


HELD = HeldTooLong("redis", "cache", borrower(61.0), at=1.0)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(is_open=True)


def test_nothing_is_kept_until_somebody_exports() -> None:
    outbox = Outbox()
    outbox.put(HELD)
    assert (outbox.waits, outbox.take(), outbox.dropped) == (False, [], 0)
    outbox = Outbox(is_open=True)
    outbox.put(HELD)
    assert (outbox.waits, outbox.take(), outbox.waits) == (True, [HELD], False)


def test_each_event_is_taken_once_oldest_first(outbox: Outbox) -> None:
    events: list[Event] = [drained(1.0), drained(2.0)]
    for event in events:
        outbox.put(event)
    assert outbox.take() == events
    assert outbox.take() == []


def test_a_flood_of_one_kind_is_dropped_and_counted_and_costs_no_other(outbox: Outbox) -> None:
    for number in range(LIMIT + 7):
        outbox.put(drained(float(number)))
    outbox.put(HELD)
    assert outbox.dropped == 7
    taken = outbox.take()
    assert [event.at for event in taken if isinstance(event, Drained)] == [float(at) for at in range(LIMIT)]
    assert taken.count(HELD) == 1


def test_what_waits_is_forgotten_when_nobody_exports_any_longer(outbox: Outbox) -> None:
    for _ in range(LIMIT + 1):
        outbox.put(HELD)
    outbox.close()
    outbox.put(HELD)
    assert (outbox.is_open, outbox.take(), outbox.dropped) == (False, [], 1)


def test_a_forked_child_begins_with_nothing_and_goes_on(outbox: Outbox) -> None:
    for _ in range(LIMIT + 1):
        outbox.put(HELD)
    outbox.clear()
    assert (outbox.take(), outbox.dropped) == ([], 0)
    outbox.put(HELD)
    assert outbox.take() == [HELD]


def test_what_several_threads_put_is_all_there(outbox: Outbox) -> None:
    """Fewer than there is room for, while another thread takes."""
    done = threading.Event()
    taken: list[Event] = []

    def take() -> None:
        while not done.is_set():
            taken.extend(outbox.take())

    def put(first: int) -> None:
        for number in range(first, first + LIMIT // 4):
            outbox.put(drained(float(number)))

    taker = threading.Thread(target=take)
    putters = [threading.Thread(target=put, args=(first,)) for first in range(0, LIMIT, LIMIT // 4)]
    for thread in (taker, *putters):
        thread.start()
    for thread in putters:
        thread.join()
    done.set()
    taker.join()
    taken += outbox.take()
    numbers = [event.at for event in taken if isinstance(event, Drained)]
    assert sorted(numbers) == [float(number) for number in range(LIMIT)]
    assert outbox.dropped == 0


def test_every_kind_of_event_has_its_place(outbox: Outbox) -> None:
    kinds = {type(event) for event in (HELD, drained(1.0))} | {Saturated, JobEnded, Found}
    assert kinds < set(outbox._waiting)
    assert len(outbox._waiting) == 7
