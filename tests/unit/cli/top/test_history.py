"""Between two documents a loop has been late so often and busy so long."""

import pytest

from loopwatch._cli.top.history import KEPT, History, sparkline
from loopwatch._document import Process
from tests.unit.cli.top import made


def test_what_is_shown_is_of_the_interval_not_since_the_start() -> None:
    history = History()
    history.add(made.measured(0.0, (0, 0, 1000), 500.0, 0.0))
    history.add(made.measured(1.0, (50, 0, 1000), 500.25, 0.75))
    series = history.of["main"]
    assert list(series.delay) == [pytest.approx(0.01, rel=0.05)]
    assert list(series.utilization) == [pytest.approx(0.25)]


def test_a_loop_that_is_blocked_is_as_late_as_that_lasts() -> None:
    history = History()
    history.add(made.measured(0.0, (10, 0, 0), 1.0, 1.0))
    history.add(made.measured(1.0, (10, 0, 0), 2.0, 1.0, loops=(made.loop(blocked=7.5),)))
    assert list(history.of["main"].delay) == [7.5]
    assert list(history.of["main"].utilization) == [1.0]


def test_the_same_document_counts_once() -> None:
    history = History()
    for at in (0.0, 1.0, 1.0):
        history.add(made.measured(at, (10, 0, 0), at, at))
    assert len(history.of["main"].delay) == 1


def test_another_process_begins_anew() -> None:
    history = History()
    for at in (0.0, 1.0):
        history.add(made.measured(at, (10, 0, 0), at, at))
    history.add(made.measured(2.0, (1, 0, 0), 0.0, 0.0, process=Process(78, "3", "1", 0.1)))
    assert history.of == {}


def test_only_so_much_is_kept() -> None:
    history = History()
    for at in range(KEPT + 10):
        history.add(made.measured(float(at), (at, 0, 0), float(at), 0.0))
    assert len(history.of["main"].utilization) == KEPT


def test_without_measures_there_is_a_line_all_the_same() -> None:
    history = History()
    history.add(made.document(0.0))
    history.add(made.document(1.0))
    assert list(history.of["main"].delay) == [0.0]
    assert list(history.of["main"].utilization) == [0.0]


@pytest.mark.parametrize(
    ("values", "width", "top", "drawn"),
    [
        ([], 3, None, "   "),
        ([0.0, 0.5, 1.0], 3, 1.0, "▁▅█"),
        ([0.0, 0.5, 1.0], 5, 1.0, "  ▁▅█"),
        ([9.0, 1.0, 2.0], 2, None, "▅█"),
        ([0.0, 0.0], 2, None, "▁▁"),
        ([5.0, -1.0], 2, 1.0, "█▁"),
    ],
)
def test_a_sparkline_is_as_wide_as_it_is_to_be(
    values: list[float], width: int, top: float | None, drawn: str
) -> None:
    assert sparkline(values, width, top) == drawn
