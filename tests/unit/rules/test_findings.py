"""From what rules see to findings: when one begins, how severe it is, from what it follows, when it ends."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from loopwatch import Finding, Severity
from loopwatch._events import Found
from loopwatch._journal import Journal
from loopwatch._measures import Distribution
from loopwatch._pace import BURST
from loopwatch._rules.course import APART, EVERY
from loopwatch._rules.findings import COMPONENT, SHARE, Findings
from loopwatch._rules.history import STEP
from loopwatch._rules.rule import BY_FUNCTION, WINDOW, Outline, Rule, Symptom, View
from loopwatch._rules.sightings import NAMED
from loopwatch._settings import Settings
from loopwatch._store.outbox import Outbox
from loopwatch.facts import BUCKETS
from loopwatch.testing import FakeClock
from tests.looks import snapshot

CALM = 30.0


def symptom(rule: str = "LW101", *key: str, severity: Severity = "warning", **more: Any) -> Symptom:
    named = key or ("app.parse",)
    return Symptom(rule, named, severity, f"{named[0]} is slow", {"stalls": 3.0}, "be quick", **more)


class Table:
    """Findings by rules that see whatever a test says is there."""

    def __init__(self, *rules: tuple[str, int], settings: Settings | None = None) -> None:
        self.fake = FakeClock()
        self.journal = Journal(self.fake.clock)
        self.outbox = Outbox(is_open=True)
        self.there: list[Symptom] = []
        self.views: list[View] = []
        made = [
            Rule(rule, "A rule", "critical", self._seeing(rule), looks, CALM)
            for rule, looks in rules or [("LW101", 2)]
        ]
        self.findings = Findings(made, settings or Settings(), self.outbox, self.fake.clock, self.journal)

    def _seeing(self, rule: str) -> Callable[[View], Iterable[Symptom]]:
        def look(view: View) -> Iterator[Symptom]:
            self.views.append(view)
            yield from (one for one in self.there if one.rule == rule)

        return look

    def look(self, *there: Symptom, points: Any = None) -> tuple[Finding, ...]:
        self.there = list(there)
        return self.findings.seen_in(snapshot(at=self.fake.wall(), points=points)).findings

    def looks(self, *there: Symptom, times: int = 2) -> tuple[Finding, ...]:
        """Look several times, as the watchdog does."""
        for _ in range(times - 1):
            self.look(*there)
            self.fake.advance(EVERY)
        return self.look(*there)

    def told(self) -> list[tuple[str, str, str]]:
        events = [event for event in self.outbox.take() if isinstance(event, Found)]
        return [(event.finding.rule, event.finding.severity, event.change) for event in events]


def test_nothing_is_told_of_what_is_seen_once() -> None:
    table = Table()
    assert table.look(symptom()) == ()
    table.fake.advance(EVERY)
    assert table.look() == ()
    table.fake.advance(EVERY)
    assert table.look(symptom()) == ()


def test_a_finding_says_what_where_and_since_when() -> None:
    table = Table()
    began = table.fake.wall()
    [found] = table.looks(symptom(count=14), times=3)
    assert (found.rule, found.key, found.severity, found.count) == ("LW101", ("app.parse",), "warning", 14)
    assert (found.summary, dict(found.evidence), found.fix) == (
        "app.parse is slow",
        {"stalls": 3.0},
        "be quick",
    )
    assert found.last_seen - found.first_seen == pytest.approx(2 * EVERY)
    assert found.first_seen == pytest.approx(began)
    assert found.docs_url.endswith("docs/rules/LW101.md")
    assert (found.because, found.more) == (None, 0)


def test_looks_in_between_do_not_count() -> None:
    """Somebody may take ten snapshots a second."""
    table = Table()
    for _ in range(30):
        assert table.look(symptom()) == ()
        table.fake.advance(APART / 40)
    table.fake.advance(APART)
    assert len(table.look(symptom())) == 1


def test_it_is_over_after_a_calm_and_not_before() -> None:
    table = Table()
    table.looks(symptom())
    for _ in range(int(CALM / EVERY) - 1):
        table.fake.advance(EVERY)
        assert len(table.look()) == 1
    table.fake.advance(EVERY)
    assert table.look() == ()
    assert table.told() == [("LW101", "warning", "began"), ("LW101", "warning", "over")]


def test_what_comes_and_goes_is_one_finding() -> None:
    """Seen at every third look, it begins once and does not end."""
    table = Table(("LW101", 1))
    for turn in range(60):
        found = table.look(*([symptom()] if turn % 3 == 0 else []))
        assert len(found) == 1
        table.fake.advance(EVERY)
    assert table.told() == [("LW101", "warning", "began")]


def test_severity_rises_at_once_and_falls_slowly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "loopwatch")
    table = Table(("LW101", 1))
    table.look(symptom())
    table.fake.advance(EVERY)
    assert table.look(symptom(severity="critical"))[0].severity == "critical"
    for _ in range(int(CALM / EVERY) - 1):
        table.fake.advance(EVERY)
        assert table.look(symptom())[0].severity == "critical"
    table.fake.advance(EVERY)
    assert table.look(symptom())[0].severity == "warning"
    assert [change for _, _, change in table.told()] == ["began", "rose", "fell"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "WARNING"]
    assert ["worse now" in message for message in caplog.messages] == [False, True, False]


def test_a_severity_that_flickers_is_told_once() -> None:
    table = Table(("LW101", 1))
    for turn in range(40):
        table.look(symptom(severity="critical" if turn % 2 else "warning"))
        table.fake.advance(EVERY)
    assert [change for _, _, change in table.told()] == ["began", "rose"]


def test_the_most_severe_comes_first_and_below_it_what_follows_from_it() -> None:
    table = Table(*((f"LW{number}", 1) for number in (101, 103, 201, 301, 302)))
    found = table.look(
        symptom("LW201"),
        symptom("LW301", "httpx", because="LW101"),
        symptom("LW101", severity="critical"),
        symptom("LW103", because="LW101"),
        symptom("LW302", "httpx", severity="critical", because="LW301"),
    )
    assert [(one.rule, one.because) for one in found] == [
        ("LW101", None),
        ("LW103", "LW101"),
        ("LW301", "LW101"),
        ("LW302", "LW301"),
        ("LW201", None),
    ]


def test_a_cause_weighs_as_much_as_what_follows_from_it() -> None:
    table = Table(*((f"LW{number}", 1) for number in (101, 204, 501)))
    found = table.look(
        symptom("LW101"), symptom("LW204"), symptom("LW501", severity="critical", because="LW204")
    )
    assert [one.rule for one in found] == ["LW204", "LW501", "LW101"]


def test_a_cause_that_is_not_found_is_not_named() -> None:
    table = Table(("LW101", 2), ("LW301", 1))
    [pool] = table.look(symptom("LW301", "httpx", because="LW101"), symptom("LW101"))
    assert pool.because is None  # LW101 was seen once


def test_two_that_name_each_other_are_both_told() -> None:
    table = Table(("LW301", 1), ("LW302", 1), ("LW303", 1))
    found = table.look(
        symptom("LW301", because="LW302"),
        symptom("LW302", because="LW301", severity="critical"),
        symptom("LW303", because="LW303"),
    )
    assert {(one.rule, one.because) for one in found} == {
        ("LW302", None),
        ("LW301", "LW302"),
        ("LW303", None),
    }


def test_a_cause_is_logged_with_what_follows_from_it(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(("LW101", 1), ("LW301", 1), ("LW201", 1))
    table.look(
        symptom("LW101", severity="critical"), symptom("LW301", "httpx", because="LW101"), symptom("LW201")
    )
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    with_pool, alone = caplog.messages
    first, second = with_pool.splitlines()
    assert first.startswith("loopwatch: LW101 critical: app.parse is slow. What to do: be quick. See ")
    assert second.startswith("  LW301 warning: httpx is slow (because of LW101). ")
    assert alone.startswith("loopwatch: LW201 warning")
    table.fake.advance(EVERY)
    table.look(symptom("LW101", severity="critical"), symptom("LW301", "redis", because="LW101"))
    [later] = caplog.messages[2:]
    assert later == (
        "loopwatch: LW301 warning: redis is slow (because of LW101). What to do: be quick. "
        "See docs/rules/LW301.md"
    )


def test_the_log_is_kept_from_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    rules = [(f"LW{number}", 1) for number in range(101, 105)]
    table = Table(*rules)
    table.look(*(symptom(rule, f"f{number}") for rule, _ in rules for number in range(5)))
    assert len(caplog.messages) == BURST
    assert table.findings.log_suppressed == 20 - BURST
    assert len(table.told()) == 20
    table.findings.end()
    assert caplog.messages[BURST:] == ["loopwatch: 10 more findings not logged"]


def test_of_many_things_ten_are_named_and_the_rest_counted() -> None:
    table = Table(("LW101", 1))
    many = [symptom("LW101", f"app.f{number}") for number in range(NAMED + 7)]
    found = table.look(*many)
    assert [one.key[0] for one in found] == [f"app.f{number}" for number in range(NAMED)]
    assert [one.more for one in found] == [7] + [0] * (NAMED - 1)
    assert len(table.told()) == NAMED
    for _ in range(100):  # nothing of the others is kept
        table.fake.advance(EVERY)
        many = [*many[:NAMED], *(symptom("LW101", f"app.g{id(object())}{n}") for n in range(50))]
        found = table.look(*many)
    assert (len(found), found[0].more, table.told()) == (NAMED, 50, [])


def counts(table: Table, *there: Symptom) -> dict[tuple[str, ...], Any]:
    table.there = list(there)
    points = table.findings.seen_in(snapshot(at=table.fake.wall())).points["finding_count"]
    return {point.labels: point.value for point in points}


def test_every_rule_is_counted_and_no_series_goes_away() -> None:
    table = Table(("LW101", 1), ("LW301", 1))
    assert counts(table) == {("LW101", "critical"): 0, ("LW301", "critical"): 0}
    many = [symptom("LW101", f"app.f{number}") for number in range(NAMED + 2)]
    assert counts(table, *many)["LW101", "warning"] == NAMED + 2
    table.fake.advance(CALM)
    assert counts(table) == {
        ("LW101", "critical"): 0,
        ("LW301", "critical"): 0,
        ("LW101", "warning"): 0,
    }


def test_a_rule_that_fails_is_switched_off_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(("LW101", 1), ("LW301", 1))
    asked = 0

    def fails(view: View) -> Iterator[Symptom]:
        nonlocal asked
        asked += 1
        yield symptom("LW201")
        raise ZeroDivisionError

    rules = [Rule("LW201", "Breaks", "warning", fails), *(s.rule for s in table.findings._sightings)]
    findings = Findings(rules, Settings(), table.outbox, table.fake.clock, table.journal)
    table.findings = findings
    for _ in range(3):
        found = table.look(symptom("LW101"), symptom("LW301"))
        table.fake.advance(EVERY)
    assert [one.rule for one in found] == ["LW101", "LW301"]
    assert asked == 1
    assert table.journal.failures() == {COMPONENT: 1}
    assert "loopwatch: rule LW201 (Breaks) is switched off, it failed: ZeroDivisionError()" in caplog.messages


def test_only_what_is_told_is_put_in_words(caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []

    def write(name: str) -> Symptom:
        written.append(name)
        if name == "app.broken":
            raise ZeroDivisionError
        return symptom("LW101", name)

    def look(view: View) -> Iterator[Outline]:
        for name, faint in there.items():
            yield Outline("LW101", (name,), faint, functools.partial(write, name))

    table = Table()
    rule = Rule("LW101", "Many", "critical", look, 1, CALM)
    table.findings = Findings([rule], Settings(), table.outbox, table.fake.clock, table.journal)
    names = [f"app.f{number}" for number in range(256)]
    there = {**dict.fromkeys(names[:100], True), **dict.fromkeys(names[100:], False)}
    found = table.look()
    assert [one.key for one in found] == [(name,) for name in names[100 : 100 + NAMED]]
    assert sum(one.more for one in found) == 156 - NAMED
    assert written == names[100 : 100 + NAMED]

    written.clear()
    there = {**dict.fromkeys(names[:100], True), names[100]: True}  # faint, but a finding that goes on
    table.fake.advance(EVERY)
    assert len(table.look()) == NAMED
    assert written == [names[100]]

    there = {"app.f200": True}
    table.fake.advance(CALM)
    assert table.look() == ()
    there = {"app.broken": False, "app.f0": False}
    assert table.look() == ()
    assert table.look() == ()
    assert written == [names[100], "app.broken"]
    assert table.journal.failures() == {COMPONENT: 1}
    assert "loopwatch: rule LW101 (Many) is switched off, it failed: ZeroDivisionError()" in caplog.messages


def test_whatever_fails_there_is_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(("LW101", 1))
    held = table.look(symptom())
    monkeypatch.setattr(table.findings._telling, "tell", None)  # no function: a fault of ours
    table.fake.advance(CALM)
    assert table.look() == ()
    assert table.journal.failures() == {COMPONENT: 1}
    assert len(held) == 1


def test_what_a_failed_rule_had_found_is_no_longer_held() -> None:
    table = Table(("LW101", 1))
    table.look(symptom())
    table.there = [symptom(), None]  # type: ignore[list-item]
    assert table.look(*table.there) == ()


@pytest.mark.parametrize(
    ("settings", "heard"),
    [
        (Settings(ignore=("LW101",)), ["LW201 app.shop.parse", "LW201 app.startup.load"]),
        (
            Settings(ignore=("LW101:app.startup.*",)),
            ["LW101 app.shop.parse", "LW201 app.shop.parse", "LW201 app.startup.load"],
        ),
        (Settings(allow=("app.startup.*",)), ["LW101 app.shop.parse", "LW201 app.shop.parse"]),
        (Settings(allow=("json.loads",)), ["LW201 app.shop.parse", "LW201 app.startup.load"]),
        (Settings(allow=("startup",)), None),
    ],
)
def test_what_is_meant_to_be_is_not_told(settings: Settings, heard: list[str] | None) -> None:
    table = Table(("LW101", 1), ("LW201", 1), settings=settings)
    there = [
        symptom("LW101", "app.shop.parse", "json.loads"),
        symptom("LW101", "app.startup.load", "json.loads"),
        symptom("LW201", "app.shop.parse"),
        symptom("LW201", "app.startup.load"),
    ]
    everything = [f"{one.rule} {one.key[0]}" for one in there]
    found = sorted(f"{one.rule} {one.key[0]}" for one in table.look(*there))
    assert found == (everything if heard is None else heard)


def test_a_rule_that_is_ignored_is_not_asked_nor_counted() -> None:
    table = Table(("LW101", 1), ("LW201", 1), settings=Settings(ignore=("LW101",)))
    assert counts(table, symptom()) == {("LW201", "critical"): 0}
    assert len(table.views) == 1


def test_a_forked_child_begins_anew() -> None:
    table = Table(("LW101", 1))
    table.look(symptom(), points={("log_suppressed",): 5.0})
    table.findings.clear()
    assert table.look() == ()
    assert counts(table) == {("LW101", "critical"): 0}
    assert table.views[-1].before.points == {}


def test_who_comes_while_another_looks_does_not_wait() -> None:
    table = Table(("LW101", 1))
    looking, go_on = threading.Event(), threading.Event()

    def look(view: View) -> Sequence[Symptom]:
        looking.set()
        assert go_on.wait(30)
        return [symptom()]

    table.findings = Findings(
        [Rule("LW101", "Slow", "critical", look, looks=1)],
        Settings(),
        table.outbox,
        table.fake.clock,
        table.journal,
    )
    thread = threading.Thread(target=table.look)
    thread.start()
    assert looking.wait(30)
    assert table.look() == ()  # what was known before, at once
    go_on.set()
    thread.join(30)
    assert len(table.look()) == 1


class TestTheWatchdogsLooks:
    """Every few seconds, and never more than a share of a core."""

    def test_they_come_every_few_seconds(self) -> None:
        table, taken = Table(), []
        for _ in range(60):
            table.findings.look(lambda: taken.append(table.fake.monotonic()))
            table.fake.advance(1.0)
        assert len(taken) == 60 / EVERY
        assert {later - earlier for earlier, later in pairwise(taken)} == {EVERY}

    @pytest.mark.parametrize("costs", [0.001, 0.035, 0.5])
    def test_however_much_one_costs_they_take_a_share_of_a_core(self, costs: float) -> None:
        table, spent = Table(), 0.0

        def look() -> None:
            nonlocal spent
            table.fake.spend(costs)
            spent += costs

        seconds = 3600
        for _ in range(seconds):
            table.findings.look(look)
            table.fake.advance(1.0)
        assert 0 < spent <= SHARE * seconds + costs


@pytest.mark.parametrize("stem", sorted(BY_FUNCTION))
def test_a_rule_that_asks_for_what_is_not_in_each_snapshot_is_told_so(stem: str) -> None:
    view = View(snapshot(), snapshot())
    for ask in (view.values, view.increases, view.distributions):
        with pytest.raises(ValueError, match=stem):
            ask(stem)


class TestTheMinuteBefore:
    """What rules know of earlier snapshots."""

    def test_at_first_everything_is_new(self) -> None:
        table = Table()
        table.fake.advance(8.0)
        table.look(points={("task_lost", "deadlock"): 3.0})
        view = table.views[-1]
        assert view.increases("task_lost") == {("deadlock",): 3.0}
        assert view.seconds == pytest.approx(8.0)

    def test_then_the_last_minute(self) -> None:
        table = Table()
        for turn in range(60):
            table.look(points={("log_suppressed",): float(turn)})
            view = table.views[-1]
            if turn * EVERY > WINDOW + STEP:
                assert WINDOW <= view.seconds <= WINDOW + STEP
                assert view.increases("log_suppressed") == {(): view.seconds / EVERY}
            table.fake.advance(EVERY)

    def test_a_clock_that_is_set_changes_nothing(self) -> None:
        table = Table()
        for turn in range(20):
            table.look(points={("log_suppressed",): float(turn)})
            table.fake.advance(EVERY)
        table.fake.sleep_machine(3600.0)
        table.look()
        assert WINDOW <= table.views[-1].seconds <= WINDOW + STEP

    def test_counters_and_histograms_are_kept_and_nothing_twice(self) -> None:
        table = Table()
        delay = Distribution(BUCKETS, (1,) * (len(BUCKETS) + 1), 1.0)
        for turn in range(50):
            points = {
                ("log_suppressed",): 1.0,
                ("task_lost", "deadlock"): float(turn),
                ("blocked", "main"): 1.0,
                ("delay", "main"): replace(delay),
            }
            table.look(points=points)
            table.fake.advance(STEP)
        kept = [each.points for each in table.findings._history._kept]
        assert len(kept) <= WINDOW / STEP + 2
        assert {stem for points in kept for stem in points} == {"log_suppressed", "task_lost", "delay"}
        assert len({id(points["delay"]) for points in kept}) == 1
        assert len({id(points["task_lost"]) for points in kept}) == len(kept)
