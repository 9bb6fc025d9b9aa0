"""Executors whose work waits."""

from __future__ import annotations

from typing import Any

import pytest

from loopwatch._rules.rule import Symptom
from tests.looks import borrower, pool, snapshot, stall, symptoms, waits


def look(
    kind: str = "thread_pool", label: str = "default", points: Any = None, stalls: Any = (), **more: Any
) -> list[Symptom]:
    given = {"max": 8, "used": 8, "pending": 23, "oldest_wait": 4.2, "borrowers": (borrower(held=12.0),)}
    return symptoms(snapshot(pools=(pool(kind, label, **{**given, **more}),), points=points, stalls=stalls))


def test_the_default_executor_holds_up_the_dns() -> None:
    [found] = look()
    assert found.rule == "LW306"
    assert found.summary == (
        "all 8 threads of the executor `default` are at work and 23 calls wait, the oldest for 4.2 "
        "s, DNS look-ups "
        "of all clients among or behind them; the longest at work is for `analyse`, for 12 s, "
        "which stands at "
        "`analyse` (app.py:42), waiting for StreamReader.read"
    )
    assert "more than 8 threads" in found.fix
    assert found.evidence == {
        "used": 8,
        "max": 8,
        "pending": 23,
        "oldest_wait_s": 4.2,
        "slow_waits": 0,
        "oldest_held_s": 12.0,
    }
    assert found.severity == "warning"
    assert look(oldest_wait=5.0)[0].severity == "critical"
    assert look(label="resize", oldest_wait=60.0)[0].severity == "warning"


@pytest.mark.parametrize(
    "healthy", [{"pending": 0}, {"used": 7}, {"oldest_wait": 0.5}, {"used": None}, {"max": None}]
)
def test_a_busy_executor_is_not_starved(healthy: dict[str, Any]) -> None:
    assert look(**healthy) == []


def test_waits_in_the_window() -> None:
    points = {("executor_wait", "default"): waits(*[0.8] * 40)}
    [found] = look(oldest_wait=0.5, points=points)
    assert "p99 " in found.summary
    assert found.count == found.evidence["slow_waits"] == 40


def test_a_burst_that_no_look_has_seen() -> None:
    """Rules look every five seconds, and it may be over by then."""
    over: dict[str, Any] = {"used": 0, "pending": 0, "oldest_wait": 0.0, "borrowers": ()}
    quick = [0.001] * 150
    [found] = look(label="resize", points={("executor_wait", "resize"): waits(*[4.0] * 10, *quick)}, **over)
    assert found.rule == "LW306"
    assert found.summary.startswith(
        "all 8 threads of the executor `resize` were at work now and then: 10 callers waited for more than "
        "250 ms in the last minute, p99 4."
    )
    assert found.fix == "raise max_workers above 8, or bound the work"
    assert found.count == 10
    for kind, ended in (
        ("thread_pool", [*[4.0] * 9, *quick]),
        ("thread_pool", [*[4.0] * 10, *quick * 2]),
        ("process_pool", [*[4.0] * 10, *quick]),  # they may have been started
    ):
        assert look(kind, "resize", points={("executor_wait", "resize"): waits(*ended)}, **over) == []


@pytest.mark.parametrize(
    ("kind", "words", "remedy"),
    [
        ("thread_pool", "8 threads of the executor `resize`", "raise max_workers above 8"),
        ("process_pool", "8 processes of the executor `resize`", "if there are CPUs for more"),
        ("anyio", "8 threads of the anyio limiter `resize`", "raise total_tokens above 8"),
    ],
)
def test_the_words_for_each_kind(kind: str, words: str, remedy: str) -> None:
    [found] = look(kind, "resize")
    assert words in found.summary
    assert "DNS" not in found.summary
    assert remedy in found.fix


@pytest.mark.parametrize(
    ("kind", "cause", "because"),
    [
        ("process_pool", "starved", "LW107"),
        ("process_pool", "gil", None),
        ("thread_pool", "starved", "LW107"),
        ("thread_pool", "gil", "LW106"),
        ("thread_pool", "cpu", "LW101"),
        ("thread_pool", "blocking", None),  # of the loop's own thread alone
    ],
)
def test_workers_that_get_no_cpu_or_no_gil(kind: str, cause: Any, because: str | None) -> None:
    [found] = look(kind, "resize", stalls=(stall(4.0, cause),))
    assert found.because == because
    [found] = look(kind, "resize", stalls=(stall(2.0, cause),))  # of the 4.2 s waited
    assert found.because is None


@pytest.mark.parametrize(
    ("kind", "queued", "because"),
    [
        ("process_pool", 5.9, None),
        ("process_pool", 6.0, "LW107"),
        ("thread_pool", 29.9, None),
        ("thread_pool", 30.0, "LW107"),
    ],
)
def test_workers_of_a_machine_that_is_too_busy(kind: str, queued: float, because: str | None) -> None:
    """Of the last minute, for how long the loop was ready but had no CPU, though it does not stand still."""
    found = look(kind, "resize", points={("runqueue_time", "main"): queued})
    assert [one.because for one in found if one.rule == "LW306"] == [because]
