"""A session at a screen that is none: keys come from a list, documents from another."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from loopwatch._cli.top.fetching import Fetched
from loopwatch._cli.top.session import Session
from loopwatch._document import Process
from loopwatch.testing import FakeClock
from tests.unit.cli.top import made


class Bench:
    """The screen and the supply of a session."""

    def __init__(self, *steps: object) -> None:
        """Take as ``steps`` what happens one after the other: keys, a document, a problem, a size."""
        self.fake = FakeClock()
        self.size = (100, 30)
        self.worker: int | None = None
        self.latest: Fetched | None = None
        self.asked = 0
        self.shown: list[str] = []
        self._steps = [*steps, "q"]
        Session("target", self, self, self.fake.clock).run()

    def show(self, lines: Sequence[Text]) -> None:
        assert len(lines) == self.size[1]
        self.shown.append("\n".join(line.plain for line in lines))

    def wait(self, seconds: float) -> str:
        step = self._steps.pop(0)
        if isinstance(step, tuple):
            self.size = step
        elif isinstance(step, str) and step.startswith("!"):
            self.latest = Fetched(self.fake.monotonic(), None, step[1:])
        elif isinstance(step, str):
            return step
        elif isinstance(step, float):
            self.fake.advance(step)
        else:
            self.latest = Fetched(self.fake.monotonic(), step, None)  # type: ignore[arg-type]
        return ""

    def at_once(self) -> None:
        self.asked += 1


def test_it_draws_what_comes_until_it_is_quit() -> None:
    bench = Bench(made.document(), "4")
    assert ["pid 77" in shown for shown in bench.shown] == [False, True, True]
    assert "job-1" in bench.shown[-1]


def test_the_size_is_asked_for_each_time() -> None:
    bench = Bench(made.document(), (80, 24), (200, 60))
    assert [len(shown.splitlines()) for shown in bench.shown] == [30, 30, 24, 60]


def test_one_that_dies_is_shown_with_its_age_and_when_it_comes_back_it_is_live() -> None:
    back = made.document(process=Process(78, "3.12.1", "0.1.0", 0.1))
    bench = Bench(made.document(), "!connection refused", 5.0, back)
    dead, older, live = bench.shown[2:5]
    assert "NO ANSWER" in dead
    assert "connection refused; asking again" in dead
    assert "pid 77" in dead
    assert "NO ANSWER for 5.00 s" in older
    assert "pid 78" in live
    assert "live" in live


def test_what_is_frozen_stays_until_it_is_thawed() -> None:
    newer = made.document(service_name="newer")
    bench = Bench(made.document(), "f", newer, "f", 0.0)
    assert ["newer" in shown for shown in bench.shown] == [False, False, False, False, True, True]
    assert "FROZEN" in bench.shown[3]


def test_the_next_worker_is_asked_for_in_turn() -> None:
    workers = (70, 77, 99)
    bench = Bench(made.document(workers=workers), "w")
    assert (bench.worker, bench.asked) == (99, 1)
    last = made.document(workers=workers, process=Process(99, "3", "1", 0.1))
    assert Bench(last, "w").worker == 70
    assert Bench(made.document(), "w").worker is None
    assert Bench("w").worker is None


def test_r_fetches_at_once() -> None:
    assert Bench(made.document(), "r", "r").asked == 2
