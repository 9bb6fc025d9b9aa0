"""A pool that stays full while callers wait is told of once for each spell."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loopwatch._collectors.pools.protocol import Sample
from loopwatch._collectors.pools.saturation import CALM, EVERY, LONG, _is_full
from loopwatch._events import Event, Saturated

from .conftest import Desk, run


class Crowd:
    """A pool of one connection, which somebody has and somebody else waits for."""

    def __init__(self, library: Any, desk: Desk) -> None:
        self.pool = library.Pool(1, name="orders")
        self.desk = desk
        self.told: list[Event] = []
        self.waiting: asyncio.Task[Any] | None = None

    async def gather(self) -> None:
        connection = await self.pool.acquire()
        self.waiting = asyncio.create_task(self.pool.acquire(), name="patient")
        self.holding = connection
        await asyncio.sleep(0)

    async def disperse(self) -> None:
        self.pool.release(self.holding)
        assert self.waiting is not None
        self.pool.release(await self.waiting)

    def look(self, seconds: float) -> list[Event]:
        """Look once a second for so long; return what is told meanwhile."""
        told: list[Event] = []
        for _ in range(round(seconds / EVERY)):
            self.desk.saturation.look()
            told += self.desk.outbox.take()
            self.desk.fake.advance(EVERY)
        return told


@pytest.fixture
def crowd(library: Any, desk: Desk) -> Crowd:
    return Crowd(library, desk)


def test_it_is_told_after_a_while_with_who_has_and_who_waits(crowd: Crowd) -> None:
    async def main() -> None:
        await crowd.gather()
        assert crowd.look(LONG) == []
        [event] = crowd.look(1)
        assert isinstance(event, Saturated)
        assert (event.pool.kind, event.pool.label, event.pool.used, event.pool.max) == (
            "fake",
            "orders",
            1,
            1,
        )
        assert (event.lasted, event.pool.pending) == (pytest.approx(LONG), 1)
        assert event.at == pytest.approx(crowd.desk.fake.wall() - EVERY)
        assert [waiter.task_name for waiter in event.pool.waiters or ()] == ["patient"]
        assert len(event.pool.borrowers or ()) == 1
        await crowd.disperse()

    run(main())


def test_a_spell_is_told_once_and_the_next_only_after_calm(crowd: Crowd) -> None:
    async def main() -> None:
        await crowd.gather()
        assert len(crowd.look(200)) == 1
        await crowd.disperse()
        assert crowd.look(CALM / 2) == []
        await crowd.gather()
        assert crowd.look(LONG + 2) == []  # it is the same spell
        await crowd.disperse()
        assert crowd.look(CALM + 2) == []
        await crowd.gather()
        assert len(crowd.look(LONG + 2)) == 1
        await crowd.disperse()

    run(main())


def test_one_that_is_full_now_and_then_is_none(crowd: Crowd) -> None:
    async def main() -> None:
        for _ in range(10):
            await crowd.gather()
            assert crowd.look(LONG - 1) == []
            await crowd.disperse()
            assert crowd.look(1) == []

    run(main())


def test_without_an_exporter_it_does_not_look(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await crowd.gather()
        crowd.desk.outbox.close()
        monkeypatch.setattr(crowd.desk.hub, "bindings", lambda: pytest.fail("it looked"))
        assert crowd.look(10) == []
        await crowd.disperse()

    run(main())


@pytest.mark.parametrize(
    ("sample", "full"),
    [
        (Sample(max=2, used=2, pending=1), True),
        (Sample(max=2, used=1, connecting=1, pending=1), True),
        (Sample(max=2, used=2, pending=0), False),
        (Sample(max=2, used=1, idle=1, pending=1), False),
        (Sample(max=None, used=2, pending=1), False),
        (Sample(max=2, used=None, pending=1), False),
        (Sample(max=2, used=2, pending=None), False),
    ],
)
def test_full_is_having_no_more_to_give_and_being_asked_for_it(sample: Sample, full: bool) -> None:
    assert _is_full(sample) is full
