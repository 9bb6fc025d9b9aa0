"""A library that does not exist, with a pool, its reader, and all that watches it."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, ClassVar

import pytest

from loopwatch._agent_records import Pool
from loopwatch._collectors.pools.binding import Binding
from loopwatch._collectors.pools.census import PoolCensus
from loopwatch._collectors.pools.hub import Hub
from loopwatch._collectors.pools.overdue import Overdue
from loopwatch._collectors.pools.protocol import PoolReader, Sample, live, snap
from loopwatch._collectors.pools.saturation import Saturation
from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal
from loopwatch._store.outbox import Outbox
from loopwatch._store.pools import Family, Outcome, Pools
from loopwatch.testing import FakeClock

LIBRARY = "a_library_with_a_pool"
TOO_LONG = 60.0

SOURCE = """
import asyncio
from collections import deque


class Full(Exception):
    pass


class Late(Exception):
    pass


class Connection:
    pass


class Holder:
    pass


class Pool:
    connection = Connection

    def __init__(self, size=2, *, name=None):
        if size < 1:
            raise ValueError("size")
        self.size, self.name = size, name
        self.used, self.waiters = [], deque()

    async def acquire(self, timeout=None, *, error=None):
        if error is not None:
            raise error
        while len(self.used) >= self.size:
            waiter = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            try:
                await waiter
            finally:
                self.waiters.remove(waiter)
        connection = Connection()
        self.used.append(connection)
        return connection

    def take(self, first, /, second=2, *rest, third, fourth=4, **others):
        return self, first, second, rest, third, fourth, others

    @classmethod
    def checkout(cls, pool):
        return cls, pool

    def release(self, connection):
        self.used.remove(connection)
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
                break


class Subclass(Pool):
    async def acquire(self, timeout=None, *, error=None):
        return await super().acquire(timeout, error=error)
"""


class Reader(PoolReader):
    """As a reader is written, for that library."""

    kind = "fake"
    family: ClassVar[Family] = "database"
    modules = (LIBRARY,)

    def bind(self, module: ModuleType, binding: Binding) -> None:
        with binding.feature("gauges"):
            pool = binding.cls("Pool")
            binding.needs(pool, "release")
            binding.creates(pool)
        with binding.feature("waits"):
            self.late, self.full = binding.cls("Late"), binding.cls("Full")
            binding.acquires(binding.cls("Pool"), "acquire", parameters=("timeout",))
        with binding.feature("holders"):
            binding.cls("Holder")

    def label(self, pool: Any) -> str | None:
        return pool.name  # type: ignore[no-any-return]

    def outcome(self, error: BaseException) -> Outcome | None:
        if isinstance(error, self.late | self.full):
            return "timeout" if isinstance(error, self.late) else "rejected"
        return super().outcome(error)

    def read(self, anchor: Any) -> Sample:
        used = len(anchor.used)
        return Sample(max=anchor.size, used=used, idle=anchor.size - used, pending=live(anchor.waiters))

    def holders(self, anchor: Any) -> Iterable[object]:
        return snap(anchor.used)


def import_library() -> Any:
    """Make the module and put it where an import would."""
    module = ModuleType(LIBRARY)
    exec(SOURCE, module.__dict__)
    sys.modules[LIBRARY] = module
    return module


class Desk:
    """The parts that watch pools, wired as the engine does, on a clock that a test turns."""

    def __init__(self, *readers: PoolReader) -> None:
        self.fake = FakeClock()
        self.journal = Journal()
        self.pools = Pools()
        contexts = ContextReader(self.journal)
        self.hub = Hub(readers or (Reader(),), self.pools, self.owner, self.fake.clock, self.journal)
        self.census = PoolCensus(self.pools, self.hub, contexts, self.fake.clock)
        self.outbox = Outbox(is_open=True)
        self.overdue = self.make_overdue(TOO_LONG)
        self.saturation = Saturation(self.pools, self.hub, self.census, self.outbox, self.fake.clock)

    def make_overdue(self, threshold: float | None) -> Overdue:
        contexts = ContextReader(self.journal)
        return Overdue(
            self.pools, self.hub, contexts, threshold, lambda: 0, self.outbox, self.fake.clock, self.journal
        )

    @staticmethod
    def owner(file: str, module: str) -> str:
        return "app" if __name__.rpartition(".")[0] in module else "library"

    def all(self) -> tuple[Pool, ...]:
        return self.census.records(all_people=True)

    def one(self) -> Pool:
        [pool] = self.all()
        return pool

    def points(self, stem: str) -> dict[tuple[str, ...], Any]:
        measures = self.census.measures(self.fake.monotonic())
        return {labels: value for name, labels, value in measures if name == stem}


@pytest.fixture
def make_desk() -> Iterator[Callable[..., Desk]]:
    desks: deque[Desk] = deque()

    def make(*readers: PoolReader) -> Desk:
        desks.append(Desk(*readers))
        return desks[-1]

    yield make
    while desks:
        desks.pop().hub.remove()
    sys.modules.pop(LIBRARY, None)


@pytest.fixture
def library() -> Iterator[Any]:
    yield import_library()
    sys.modules.pop(LIBRARY, None)


@pytest.fixture
def desk(library: Any, make_desk: Callable[..., Desk]) -> Desk:
    """Watch the library, which is imported."""
    desk = make_desk()
    desk.hub.install()
    return desk


def run(coroutine: Any) -> Any:
    """Run a coroutine in a loop of its own."""
    return asyncio.run(coroutine)
