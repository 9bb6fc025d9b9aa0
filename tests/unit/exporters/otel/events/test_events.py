"""Each event goes where it belongs, once; one that cannot be told costs no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loopwatch._events import Drained, Event, JobEnded
from loopwatch._pace import WINDOW
from loopwatch._records import DrainReport, Frame, Task
from loopwatch.exporters.otel.events import A_MINUTE

from .conftest import LOST, STALL, Desk

DRAINED = Drained(DrainReport((), (), (), duration=0.5, timeout=8.0), at=1_700_000_100.0, loop_name="main")


def test_a_stall_is_a_span_a_loss_a_record_and_a_drain_both(desk: Desk) -> None:
    desk.tell(STALL, LOST, DRAINED)
    assert [span.name for span in desk.spans()] == ["asyncio.eventloop.block", "loopwatch.drain"]
    assert [told.name for told in desk.logs()] == ["asyncio.task.lost", "loopwatch.drain"]
    desk.tell()
    assert (desk.spans(), desk.logs()) == ([], [])


def test_one_that_cannot_be_read_costs_no_other(desk: Desk) -> None:
    def record() -> Task:
        raise RuntimeError("a function of the program's that shows a variable")

    desk.tell(JobEnded(record), DRAINED)
    assert [span.name for span in desk.spans()] == ["loopwatch.drain"]
    assert desk.journal.failures() == {"otlp": 1}


def test_names_that_utf8_cannot_hold_are_spelled_out(desk: Desk) -> None:
    """A batch that holds one would not be sent."""
    odd = Frame("f", "m\udcff", "/srv/\udcff.py", 1)
    stall = replace(STALL, culprit=odd, stack=(odd,), task_name="t\udcff", context={"v\udcff": "\udcff"})
    desk.tell(stall, replace(LOST, site=odd, missing=("v\udcff",)))
    [span], [told] = desk.spans(), desk.logs()
    of_link = span.links[0].attributes or {}
    said = [*(span.attributes or {}).items(), *of_link.items(), *told.attributes.items(), told.record.body]
    text = "".join(map(flat, said))
    text.encode()  # as it is sent
    assert text.count("\\udcff") == 11


def flat(value: object) -> str:
    return "".join(map(flat, value)) if isinstance(value, list | tuple) else str(value)


@pytest.mark.parametrize("event", [STALL, LOST])
def test_a_flood_is_told_at_a_bounded_pace_and_counted(desk: Desk, event: Event) -> None:
    desk.tell(*[event] * (A_MINUTE + 40))
    assert len(desk.spans()) + len(desk.logs()) == A_MINUTE
    assert desk.events.suppressed == 40
    desk.fake.advance(WINDOW)
    desk.tell(event, event)
    said = [(one.attributes or {}).get("loopwatch.event.withheld") for one in (*desk.spans(), *desk.logs())]
    assert said == [40, None]


def test_a_flood_of_stalls_keeps_no_loss_back_nor_a_drain(desk: Desk) -> None:
    desk.tell(*[STALL] * 200, LOST, *[DRAINED] * 100)
    assert len(desk.spans()) == A_MINUTE + 100
    assert [told.name for told in desk.logs()] == ["asyncio.task.lost"] + ["loopwatch.drain"] * 100
