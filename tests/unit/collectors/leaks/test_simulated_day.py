"""A day in the life of a service: what leaks is named, nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator
from math import cos, pi
from typing import Any

import pytest

import loopwatch

pytestmark = pytest.mark.long

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


class Connection:
    """To a database, or of a client: whoever waits for it can reach its transport."""

    def __init__(self) -> None:
        self.transport = asyncio.Transport()
        self.outbox: asyncio.Queue[str] = asyncio.Queue()
        self.keeper: asyncio.Task[None]
        self.tasks: set[asyncio.Task[None]]

    def close(self) -> None:
        for task in (self.keeper, *self.tasks):
            task.cancel()

    async def read(self, seconds: float) -> None:
        """Wait for what the peer sends after that time."""
        loop = asyncio.get_running_loop()
        arrival = loop.create_future()
        loop.call_later(seconds, arrival.set_result, None)
        self.peer = PEERS[id(self)] = [arrival]
        await arrival
        del PEERS[id(self)]


PEERS: dict[int, Any] = {}
"""What the operating system holds for us."""


class Service:
    """All kinds of tasks, none of which leaks. Created by day as by night, but more of them by day."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.random = random.Random(1)
        self.loop = loop
        self.down_until = 0.0
        self.news = asyncio.Event()
        self.reload = asyncio.Event()
        self.slots = asyncio.Semaphore(20)
        self.work: asyncio.Queue[float] = asyncio.Queue()
        self.background: set[asyncio.Task[None]] = set()
        self.served = 0

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Create a task of whatever kind, as such helpers do: all of them have one site."""
        task = self.loop.create_task(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    async def run(self, seconds: float) -> None:
        daemons = [self.loop.create_task(self.tick()), self.loop.create_task(self.watch_config())]
        daemons.append(loopwatch.daemon(self.loop.create_task(self.park())))
        for _ in range(12):
            self.start(self.worker())
        ends = self.loop.time() + seconds
        for arrival in self.arrivals():
            if self.loop.time() > ends:
                break
            await asyncio.sleep(arrival)
            self.arrive()
        del daemons

    def arrivals(self) -> Iterator[float]:
        """Yield the seconds to the next request: many by day, few by night, none in between at last."""
        while True:
            phase = self.loop.time() % DAY / DAY
            yield self.random.expovariate(0.3 - 0.25 * cos(2 * pi * phase))

    def arrive(self) -> None:
        self.served += 1
        kind = self.random.random()
        if kind < 0.02:
            self.loop.create_task(self.long_poll(30.0))
        elif kind < 0.03:
            self.loop.create_task(self.serve_client(self.random.expovariate(1 / HOUR)))
        elif kind < 0.032:
            self.start(self.wait_for_news())
        elif kind < 0.035:
            self.start(self.retry(self.random.randrange(1, 6)))
        else:
            self.loop.create_task(self.request())

    async def tick(self) -> None:
        """Do what is done by the clock."""
        for second in range(int(DAY)):
            await asyncio.sleep(1.0)
            if second % 600 == 599:
                self.news.set()
                self.news.clear()
            if second % (4 * HOUR) == HOUR:  # a burst
                for _ in range(1000):
                    self.loop.create_task(self.request())
            if second == 2 * HOUR:
                self.start(self.batch())
            if second == 13 * HOUR:
                self.down_until = self.loop.time() + 5 * MINUTE

    async def watch_config(self) -> None:
        await self.reload.wait()

    async def park(self) -> None:
        await asyncio.Event().wait()

    async def worker(self) -> None:
        while True:
            await asyncio.sleep(await self.work.get())

    async def batch(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(30):
                group.create_task(self.part_of_batch())

    async def part_of_batch(self) -> None:
        for _ in range(self.random.randrange(20, 60)):
            await self.query(MINUTE)

    async def request(self) -> None:
        async with self.slots:
            await self.query(0.05)
        self.work.put_nowait(0.02)
        self.start(self.query(0.1))

    async def query(self, usual: float) -> None:
        outage = max(0.0, self.down_until - self.loop.time())
        await Connection().read(outage + usual * self.random.lognormvariate(0.0, 0.5))

    async def long_poll(self, timeout: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.news.wait(), timeout)

    async def wait_for_news(self) -> None:
        await self.news.wait()

    async def retry(self, attempts: int) -> None:
        for attempt in range(attempts):
            await asyncio.sleep(10.0 * 2**attempt)

    async def serve_client(self, seconds: float) -> None:
        client = Connection()
        client.keeper = self.start(self.keep(client))
        client.tasks = {self.start(self.keep(client)) for _ in range(3)}
        for task in client.tasks:
            task.add_done_callback(client.tasks.discard)
        pump = self.loop.create_task(self.pump(client))
        await client.read(seconds)
        pump.cancel()
        client.close()

    async def keep(self, client: Connection) -> None:
        """Hold something for as long as the client stays, which then cancels this."""
        await self.loop.create_future()

    async def pump(self, client: Connection) -> None:
        while True:
            await client.outbox.get()


def test_nothing_leaks_all_day(simulate: Callable[..., Any]) -> None:
    day = simulate(every=5.0)
    service = Service(day.loop)
    day.run(service.run(DAY))
    assert day.lost() == []
    assert day.looks > 17_000
    assert service.served > 20_000


class Leaky(Service):
    """The same, but that one request in ten starts what never ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.replies: list[asyncio.Future[None]] = []
        self.leaked = 0

    async def request(self) -> None:
        await super().request()
        if self.random.random() < 0.1:
            self.leaked += 1
            self.leak()

    def leak(self) -> None:
        raise NotImplementedError


class DropsFutures(Leaky):
    def leak(self) -> None:
        self.start(self.wait_for_dropped())

    async def wait_for_dropped(self) -> None:
        await self.loop.create_future()


class ForgetsReplies(Leaky):
    """Somebody could resolve what its tasks wait for; at their site all others end soon."""

    def leak(self) -> None:
        self.start(self.wait_for_reply())

    async def wait_for_reply(self) -> None:
        self.replies.append(self.loop.create_future())
        await self.replies[-1]


class PilesUp(ForgetsReplies):
    """Nor does any other end that is created at their site."""

    def leak(self) -> None:
        self.background.add(self.loop.create_task(self.wait_for_reply()))


def leaks(simulation: Any, service: Leaky, seconds: float) -> set[str | None]:
    """Return how the leaks of a service were found, and that nothing else was."""
    simulation.run(service.run(seconds))
    assert service.leaked > 50
    (name,) = {lost.coroutine for lost in simulation.lost()}
    assert name.endswith((".wait_for_dropped", ".wait_for_reply"))
    assert {lost.reason for lost in simulation.lost()} == {"leaked"}
    return {lost.leak for lost in simulation.lost()}


def test_what_only_a_cancellation_would_end_is_named_from_the_tenth_on(
    simulate: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    simulation = simulate()
    service = DropsFutures(simulation.loop)
    assert leaks(simulation, service, 2 * HOUR) == {"cancel_only"}
    assert "only a cancellation would end it; 10 such tasks piled up" in caplog.messages[0]
    assert simulation.log.leaked["cancel_only"] == service.leaked
    found = simulation.lost()  # the last of them
    assert found[-1].evidence["piled_up"] == service.leaked
    assert all(lost.age < 5 for lost in found)


def test_what_loopwatch_alone_holds_is_named_at_once(simulate: Callable[..., Any]) -> None:
    simulation = simulate()
    service = DropsFutures(simulation.loop)
    service.start = loopwatch.spawn  # type: ignore[method-assign, assignment]
    assert leaks(simulation, service, 2 * HOUR) == {"never_wakes"}
    assert simulation.log.leaked["never_wakes"] == service.leaked
    assert all(lost.age < 5 for lost in simulation.lost())


def test_what_outlives_all_others_of_its_site_is_named(simulate: Callable[..., Any]) -> None:
    simulation = simulate()
    service = ForgetsReplies(simulation.loop)
    assert leaks(simulation, service, 2 * HOUR) == {"overage"}
    assert service.leaked - 3 <= simulation.log.leaked["overage"] <= service.leaked  # the last are not yet


def test_what_piles_up_where_nothing_ends_is_named(simulate: Callable[..., Any]) -> None:
    simulation = simulate()
    service = PilesUp(simulation.loop)
    assert leaks(simulation, service, 2 * HOUR) == {"site_growth"}
    assert simulation.log.leaked["site_growth"] > service.leaked / 2
