"""``loopwatch doctor``: whom it asks, how it ends, and what it prints."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from loopwatch._cli import doctor as module
from loopwatch._cli.doctor import doctor
from loopwatch._cli.target import NoAnswerError
from loopwatch._document import Document, Process
from loopwatch._measures import Point
from loopwatch.testing import FakeClock
from tests.unit.cli.top import made


def after(ran: float, pid: int = 77, **changes: object) -> Document:
    points = {"loop_time": (Point(("main", "active"), ran),)}
    return made.document(points=points, process=Process(pid, "3.12.1", "0.1.0", 0.1), **changes)


class Workers:
    """A target with some workers; what answers is laid out by the test."""

    name = "target"

    def __init__(self, *documents: Document) -> None:
        pids = tuple(document.process.pid for document in documents)
        self.documents = [replace(document, workers=pids) for document in documents]
        self.asked = 0

    def fetch(self, pid: int | None = None, *, brief: bool = False) -> Document:
        self.asked += 1
        for document in self.documents:
            if pid in (None, document.process.pid):
                return document
        raise NoAnswerError("connection refused")


def run(monkeypatch: pytest.MonkeyPatch, target: Workers, *words: str) -> Result:
    monkeypatch.setattr(module, "target_of", lambda text: target)
    return CliRunner().invoke(doctor, ["--for=0", *words])


@pytest.mark.parametrize(
    ("documents", "status", "said"),
    [
        ([after(100.0)], 1, "LW301 critical: pool db is full"),
        ([after(100.0, findings=())], 0, "nothing wrong"),
        ([after(1.0, findings=())], 2, "not enough data"),
        ([after(100.0, findings=()), after(100.0, 78)], 1, "shop, pid 78: 1 thing is wrong"),
        ([after(100.0, findings=()), after(1.0, 78, findings=())], 2, "shop, pid 78: not enough data"),
    ],
)
def test_it_ends_with_the_worst_verdict(
    monkeypatch: pytest.MonkeyPatch, documents: list[Document], status: int, said: str
) -> None:
    result = run(monkeypatch, Workers(*documents))
    assert result.exit_code == status
    assert said in result.output
    assert result.output.count("shop, pid") == len(documents)


def test_no_answer_is_not_enough_data(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Workers(), "shop:9464")
    assert result.exit_code == 2
    assert result.output == "shop:9464: not enough data: no answer: connection refused\n"
    written = json.loads(run(monkeypatch, Workers(), "--json").output)
    assert written == {"verdict": "not enough data", "processes": [], "not_seen": ["connection refused"]}


def test_json_is_json_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Workers(after(100.0), after(100.0, 78, findings=())), "--json")
    assert result.exit_code == 1
    written = json.loads(result.output)
    assert [(each["pid"], each["verdict"]) for each in written["processes"]] == [
        (77, "findings"),
        (78, "nothing wrong"),
    ]


def test_it_watches_for_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here by a clock that each answer moves on by a second."""
    fake = FakeClock()

    class Slow(Workers):
        def fetch(self, pid: int | None = None, *, brief: bool = False) -> Document:
            fake.advance(1.0)
            return super().fetch(pid, brief=brief)

    monkeypatch.setattr(module, "SYSTEM", fake.clock)
    monkeypatch.setattr(module, "AGAIN", 0.001)
    target = Slow(after(100.0))
    run(monkeypatch, target, "--for=5")
    assert target.asked == 1 + 5 + 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ftp://shop"], "neither http nor https"),
        (["--demo", "shop"], "not both"),
        (["--for=-1", "shop"], "not in the range"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], said: str) -> None:
    result = CliRunner().invoke(doctor, words)
    assert result.exit_code == 2
    assert said in result.output
