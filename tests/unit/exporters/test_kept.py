"""What the watchdog renders ahead is returned without further work, and never once it is old."""

import pytest

from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch.exporters import exposition
from loopwatch.exporters import kept as module
from loopwatch.exporters.exposition import Form
from loopwatch.exporters.kept import FRESH, WANTED, Kept, KeptCollector
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
        return Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())


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


@pytest.mark.parametrize(
    ("pauses", "made_each"),
    [
        ([15, 15, 15, 15], [15, 3, 3, 3]),
        ([10, 5, 10, 5, 10, 5], [10, 0, 8, 3, 8, 3]),
        ([1, 1, 1], [1, 1, 1]),
    ],
    ids=["one scraper", "two scrapers", "an eager one"],
)
def test_a_regular_reader_finds_it_fresh_though_it_is_seldom_renewed(
    pauses: list[int], made_each: list[int]
) -> None:
    fake, make = FakeClock(), Counting()
    kept = Kept(make, fake.clock)
    kept.read()
    made = []
    for pause in pauses:
        before = make.made
        for _ in range(pause):
            fake.advance(1.0)
            kept.refresh()
        made.append(make.made - before)
        latest = make.made
        assert kept.read() == latest
    assert made == made_each


def test_an_old_value_is_not_given_out() -> None:
    fake, make = FakeClock(), Counting()
    kept = Kept(make, fake.clock)
    kept.read()
    fake.advance(FRESH)
    assert kept.read() == 1
    fake.advance(0.5)
    assert kept.read() == 2


def test_the_collector_renders_once_for_many_collections() -> None:
    fake, source, journal = FakeClock(), Counting(), Journal()
    collector = KeptCollector(source.snapshot, journal, fake.clock)
    assert [family.name for family in collector.describe()][:1] == ["asyncio_eventloop_info"]
    assert source.made == 0
    for _ in range(3):
        (family,) = collector.collect()
        assert family.samples[0].value == 1.0
    collector.refresh()
    (family,) = collector.collect()
    assert (family.samples[0].value, source.made) == (2.0, 2)


def test_the_text_is_that_of_the_endpoint_and_kept_as_well() -> None:
    fake, source = FakeClock(), Counting()
    kept = KeptCollector(source.snapshot, Journal(), fake.clock)
    first = kept.answer("GET", "").body
    assert b'iterations_total{asyncio_eventloop_name="main"} 1.0' in first
    assert b"python_gc_collections_total" in first
    kept.refresh()
    assert b'iterations_total{asyncio_eventloop_name="main"} 2.0' in kept.answer("GET", "").body
    assert source.made == 2


def test_only_the_forms_that_are_read_are_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def form(name: str) -> Form:
        return Form(lambda registry: written.append(name) or b"", name)  # type: ignore[func-returns-value]

    monkeypatch.setattr(module, "TEXT", text := form("text"))
    monkeypatch.setattr(module, "OPENMETRICS", form("openmetrics"))
    monkeypatch.setattr(exposition, "TEXT", text)
    kept = KeptCollector(Counting().snapshot, Journal(), FakeClock().clock)
    kept.refresh()
    assert written == []
    kept.answer("GET", "")
    kept.refresh()
    assert written == ["text", "text"]
