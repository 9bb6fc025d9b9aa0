"""What the watchdog keeps ahead is given out without work, and never when it is old."""

from loopwatch._errors import Failures
from loopwatch._records import Point, Snapshot
from loopwatch.exporters.exposition import OPENMETRICS, TEXT
from loopwatch.exporters.kept import FRESH, WANTED, Kept, KeptCollector, KeptExposition
from loopwatch.testing import FakeClock


class Counting:
    """Makes 1, 2, 3..."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> int:
        self.made += 1
        return self.made

    def snapshot(self) -> Snapshot:
        points = {"iterations": (Point(("main",), float(self())),)}
        return Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=())


def test_a_reader_gets_what_the_last_refresh_made() -> None:
    fake, make = FakeClock(), Counting()
    kept = Kept(make, fake.clock)
    assert kept.read() == 1
    fake.advance(1.0)
    kept.refresh()
    assert (kept.read(), kept.read(), make.made) == (2, 2, 2)


def test_nothing_is_made_before_the_first_reader() -> None:
    fake, make = FakeClock(), Counting()
    kept = Kept(make, fake.clock)
    kept.refresh()
    assert make.made == 0


def test_refreshing_stops_some_time_after_the_last_reader() -> None:
    fake, make = FakeClock(), Counting()
    kept = Kept(make, fake.clock)
    kept.read()
    fake.advance(WANTED)
    kept.refresh()
    assert make.made == 2
    fake.advance(0.5)
    kept.refresh()
    assert make.made == 2


def test_an_old_value_is_not_given_out() -> None:
    fake, make = FakeClock(), Counting()
    kept = Kept(make, fake.clock)
    kept.read()
    fake.advance(FRESH)
    assert kept.read() == 1
    fake.advance(0.5)
    assert kept.read() == 2


def test_the_collector_renders_once_for_many_collections() -> None:
    fake, source, failures = FakeClock(), Counting(), Failures()
    collector = KeptCollector(source.snapshot, failures, fake.clock)
    assert [family.name for family in collector.describe()][:1] == ["asyncio_eventloop_info"]
    assert source.made == 0
    for _ in range(3):
        (family,) = collector.collect()
        assert family.samples[0].value == 1.0
    collector.refresh()
    (family,) = collector.collect()
    assert (family.samples[0].value, source.made) == (2.0, 2)


def test_only_the_forms_that_are_read_are_written_again() -> None:
    fake, source = FakeClock(), Counting()
    kept = KeptExposition(KeptCollector(source.snapshot, Failures(), fake.clock), fake.clock)
    assert b"iterations_total" in kept.read(TEXT)
    collections = []

    class Registry:
        def collect(self) -> list[object]:
            collections.append(self)
            return []

    kept = KeptExposition(Registry(), fake.clock)  # type: ignore[arg-type]
    kept.read(TEXT)
    kept.refresh()
    assert len(collections) == 2
    assert kept.read(OPENMETRICS) == b"# EOF\n"
    kept.refresh()
    assert len(collections) == 5
