"""What hovers about a bound is told once, not each time it crosses it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest

from loopwatch import Cause, Stall
from loopwatch._events import Found
from loopwatch._journal import Journal
from loopwatch._rules.catalogue import RULES
from loopwatch._rules.course import EVERY
from loopwatch._rules.findings import Findings
from loopwatch._rules.roots import OF_STALLS
from loopwatch._rules.stall_groups import BAD, KEPT, MANY
from loopwatch._settings import Settings
from loopwatch._store.outbox import Outbox
from loopwatch.testing import FakeClock
from tests.looks import pool, snapshot, waits

from .test_stalls import stall

pytestmark = pytest.mark.alike

LONG_ENOUGH = 40 * 60.0

Look = Callable[[float], dict[str, Any]]
"""Returns what a snapshot has, so many seconds after the start."""


def changes(look: Look, seconds: float = LONG_ENOUGH) -> dict[tuple[str, str], int]:
    """Look for as long as that; return how often which rule told of what."""
    fake = FakeClock()
    outbox = Outbox(is_open=True)
    findings = Findings(RULES, Settings(), outbox, fake.clock, Journal(fake.clock))
    start = fake.wall()
    told: Counter[tuple[str, str]] = Counter()
    while fake.wall() - start < seconds:
        fake.advance(EVERY)
        now = fake.wall()
        findings.seen_in(snapshot(at=now, **look(now - start)))
        events = (event for event in outbox.take() if isinstance(event, Found))
        told.update((event.finding.rule, event.change) for event in events)
    return dict(told)


def stalls_of(cause: Cause, new: Callable[[float], Iterator[float]]) -> Look:
    """Return looks at stalls that ended just before, of as many seconds as ``new`` yields for each look."""
    kept: list[Stall] = []

    def look(at: float) -> dict[str, Any]:
        now = FakeClock().wall() + at
        kept.extend(replace(stall(cause, one), started_at=now - 0.1 - one) for one in new(at))
        del kept[:-KEPT]
        return {"stalls": tuple(kept)}

    return look


def waves(
    mean: float, swing: float, period: float, duration: float = 0.25
) -> Callable[[float], Iterator[float]]:
    """Return stalls that take a share of the time which rises and falls."""
    owed = 0.0

    def new(at: float) -> Iterator[float]:
        nonlocal owed
        owed += EVERY * (mean + swing * math.sin(2 * math.pi * at / period))
        while owed >= duration:
            owed -= duration
            yield duration

    return new


@pytest.mark.parametrize("period", [120.0, 180.0, 300.0])
@pytest.mark.parametrize("cause", [cause for cause in get_args(Cause) if cause not in ("gc", "suspended")])
def test_a_share_about_the_bound_of_what_users_notice(cause: Cause, period: float) -> None:
    rule = OF_STALLS[cause]
    told = changes(stalls_of(cause, waves(BAD, 0.2 * BAD, period)))
    assert told == {(rule, "began"): 1, (rule, "rose"): 1}


def test_a_share_that_comes_by_chance() -> None:
    """It is the bound on the average, so by chance half of all minutes are above."""
    chance = random.Random(7)

    def new(at: float) -> Iterator[float]:
        yield from (0.25 for _ in range(int(EVERY)) if chance.random() < BAD / 0.25)

    told = changes(stalls_of("cpu", new))
    assert told.pop(("LW101", "began")) == 1
    assert sum(told.values()) <= 6  # each time that it has been a third less for half a minute


def test_it_falls_when_it_is_clearly_less() -> None:
    def new(at: float) -> Iterator[float]:
        return busy(at) if at < LONG_ENOUGH / 2 else quiet(at)

    busy, quiet = waves(1.5 * BAD, 0.0, 60.0), waves(0.5 * BAD, 0.0, 60.0)
    told = changes(stalls_of("blocking", new))
    assert told == {("LW102", "began"): 1, ("LW102", "rose"): 1, ("LW102", "fell"): 1}


def test_as_many_as_it_takes_and_one_less() -> None:
    """Three in a minute, then two, then three: a finding as long as there are any."""

    def new(at: float) -> Iterator[float]:
        every = 20.0 if (at // 120) % 2 else 30.0
        if at % every < EVERY:
            yield 0.15

    assert changes(stalls_of("cpu", new)) == {("LW101", "began"): 1}
    few = changes(stalls_of("cpu", lambda at: iter([0.15] if at % 31 < EVERY else [])))
    assert few == {}, f"fewer than {MANY} a minute are never told of"


def test_a_hang_now_and_then() -> None:
    """Of two seconds each minute one look in five falls into: critical at the first of them, and stays so."""

    def look(at: float) -> dict[str, Any]:
        now = FakeClock().wall() + at
        began = [60.0 * minute for minute in range(max(0, int(at // 60) - 2), int(at // 60) + 1)]
        ended = [one for one in began if one + 2.0 <= at]
        stalls = [replace(stall("blocking", 2.0), started_at=now - (at - one)) for one in ended]
        if at % 300 < EVERY and at > 300:  # then it goes on as somebody looks
            stalls.append(replace(stall("blocking", 1.2, in_progress=True), started_at=now - 1.2))
        return {"stalls": tuple(stalls)}

    assert changes(look) == {("LW102", "began"): 1, ("LW102", "rose"): 1}


def busy_for(share: Callable[[float], float]) -> Look:
    """Return looks at a loop that is busy for a share of the time."""
    active = 0.0

    def look(at: float) -> dict[str, Any]:
        nonlocal active
        active += EVERY * share(at)
        return {
            "points": {
                ("loop_time", "main", "active"): active,
                ("loop_time", "main", "idle"): at - active,
            }
        }

    return look


def test_a_loop_that_is_nearly_saturated() -> None:
    told = changes(busy_for(lambda at: 0.9 + 0.04 * math.sin(2 * math.pi * at / 240)))
    assert told == {("LW103", "began"): 1}
    told = changes(busy_for(lambda at: 0.95 if at < LONG_ENOUGH / 2 else 0.8))
    assert told == {("LW103", "began"): 1, ("LW103", "over"): 1}


def test_a_loop_that_is_nearly_short_of_cpu() -> None:
    queued = 0.0

    def look(at: float) -> dict[str, Any]:
        nonlocal queued
        queued += EVERY * (0.1 + 0.02 * math.sin(2 * math.pi * at / 240))
        return {"points": {("runqueue_time", "main"): queued}}

    assert changes(look) == {("LW107", "began"): 1}


@pytest.mark.parametrize(
    ("rule", "kind", "label", "fact"),
    [
        ("LW301", "httpcore", "app.clients:42", ("pool_wait", "app.clients:42", "httpcore")),
        ("LW301", "asyncpg", "db", ("database_wait", "db")),
        ("LW306", "thread_pool", "default", ("executor_wait", "default")),
    ],
)
def test_a_pool_that_is_full_now_and_then(rule: str, kind: str, label: str, fact: tuple[str, ...]) -> None:
    """In every other minute, at two looks of three; one caller in ten waits for a second all the time."""
    ended: list[float] = []

    def look(at: float) -> dict[str, Any]:
        ended.extend([1.0, *[0.001] * 9] if at < LONG_ENOUGH / 2 else [0.001] * 10)
        is_full = at < LONG_ENOUGH / 2 and at % 120 < 60 and at % 15 < 2 * EVERY
        now = {"used": 10, "pending": 5, "oldest_wait": 1.5} if is_full else {"used": 4}
        return {"pools": (pool(kind, label, **now),), "points": {fact: waits(*ended)}}

    assert changes(look) == {(rule, "began"): 1, (rule, "over"): 1}
