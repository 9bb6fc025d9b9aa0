"""What is concluded from a document, and how it is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopwatch._cli.verdict import ENOUGH, STATUS, lines, plain, verdict, worst
from loopwatch._document import Document, Process
from loopwatch._measures import Point
from tests.unit.cli.top import made


def after(ran: float, *, points: Any = None, **changes: Any) -> Document:
    """Return a document of a loop that has run for so long."""
    times = (Point(("main", "active"), ran / 4), Point(("main", "idle"), ran * 3 / 4))
    return made.document(points={"loop_time": times, **(points or {})}, **changes)


def said(document: Document, width: int = 100) -> str:
    return "\n".join(lines(verdict(document), width))


def test_what_is_wrong_is_told_in_order_with_evidence_fix_and_page() -> None:
    text = said(after(100.0))
    assert text.splitlines()[0] == "shop, pid 77: 1 thing is wrong, and 1 more because of that"
    for line in (
        "1. LW301 critical: pool db is full: 7 wait (LW301)",
        "   evidence: oldest_wait 4.20 s, pending 7",
        "   what to do: raise max_connections above 5, or bound the jobs",
        "   more: loopwatch explain LW301",
        "   because of that: LW101 warning: pool db is full: 7 wait (LW101)",
    ):
        assert line in text.splitlines(), line
    assert verdict(after(100.0)).outcome == "findings"


def test_more_of_the_same_are_counted() -> None:
    assert "(and 12 more like it)" in said(after(100.0, findings=(made.finding(more=12),)))


def test_nothing_wrong_says_what_was_looked_at() -> None:
    text = " ".join(said(after(100.0, findings=())).split())
    assert text.startswith("shop, pid 77: nothing wrong Looked at:")
    for part in (
        "loop main (asyncio): 40% busy, delay p99 20 ms, max 450 ms in the last minute",
        "stalls of more than 100 ms: 3, the longest 900 ms",
        "live tasks: 32; created: 200, by places: 2",
        "lost tasks and contexts: 1",
        "pools and executors: 2; callers that wait for one: 7",
        "tasks that wait for a lock, a semaphore, an event or a queue: 3",
    ):
        assert part in text, part


def test_what_is_only_to_know_is_nothing_wrong() -> None:
    document = after(100.0, findings=(made.finding(severity="info"),))
    assert verdict(document).outcome == "nothing wrong"
    assert "nothing wrong; to know:" in said(document)
    assert "1. LW301 info:" in said(document)


@pytest.mark.parametrize(
    ("document", "missing"),
    [
        (made.empty(), "no event loop has run under the agent yet"),
        (after(100.0, findings=(), loops=(made.loop(running=False),)), "no event loop runs at the moment"),
        (after(5.0, findings=()), "the event loop has run for 5.00 s; 15 s are needed: --for 10"),
        (made.document(findings=()), "the event loop has run for 0; 15 s are needed"),
    ],
)
def test_too_little_is_not_nothing_wrong(document: Document, missing: str) -> None:
    found = verdict(document)
    assert found.outcome == "not enough data"
    assert missing in said(document)
    assert "not enough data" in said(document).splitlines()[0]


def test_what_is_wrong_is_wrong_however_short_the_look() -> None:
    assert verdict(after(1.0)).outcome == "findings"


def test_just_enough_is_enough() -> None:
    assert verdict(after(ENOUGH, findings=())).outcome == "nothing wrong"


def test_what_the_agent_cannot_see_is_said_with_any_verdict() -> None:
    points = {
        "reader_up": (Point(("httpx", "waits"), 0.0), Point(("redis", "waits"), 1.0)),
        "internal_errors": (Point(("gc",), 2.0), Point(("tasks",), 0.0)),
    }
    for findings in ((), (made.finding(),)):
        text = said(after(100.0, points=points, findings=findings))
        assert "httpx waits cannot be read" in text
        assert "loopwatch's gc failed 2 times" in text
        assert "redis" not in text


def test_the_worst_of_several_counts() -> None:
    assert worst(["nothing wrong", "not enough data"]) == "not enough data"
    assert worst(["not enough data", "findings", "nothing wrong"]) == "findings"
    assert worst(["nothing wrong"]) == "nothing wrong"
    assert worst([]) == "not enough data"
    assert sorted(STATUS.values()) == [0, 1, 2]


def test_in_json_the_records_have_their_fields() -> None:
    written = json.loads(json.dumps(plain([verdict(after(100.0)), verdict(made.empty())])))
    assert written["verdict"] == "findings"
    first, second = written["processes"]
    assert (first["pid"], first["service"], first["verdict"]) == (77, "shop", "findings")
    assert [one["rule"] for one in first["findings"]] == ["LW301", "LW101"]
    assert first["findings"][0]["evidence"] == {"oldest_wait_s": 4.2, "pending": 7.0}
    assert first["findings"][1]["because"] == "LW301"
    assert second["verdict"] == "not enough data"
    assert second["not_seen"] == ["no event loop has run under the agent yet"]


def test_names_cannot_reach_the_terminal() -> None:
    evil = "\x1b]0;x\x07\n\u202e"
    findings = (made.finding(evil, summary=evil, fix=evil, docs_url=evil, evidence={evil: 1.0}),)
    process = Process(77, "3", "1", 0.1)
    for document in (
        after(100.0, findings=findings, service_name=evil, process=process),
        after(100.0, findings=(), service_name=evil, loops=(made.loop(name=evil),)),
    ):
        for line in lines(verdict(document), 100):
            assert line.isprintable(), line


@pytest.mark.parametrize("width", [40, 80, 110])
def test_it_fits_the_terminal(width: int) -> None:
    for document in (after(100.0), after(100.0, findings=()), made.empty()):
        assert max(map(len, lines(verdict(document), width))) <= width
