"""Stalls, as rules tell of them: by cause and culprit, if there are enough, with what to do about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest

from loopwatch import Cause, Frame, Stall
from loopwatch._rules.loop import LOOP
from loopwatch._rules.roots import OF_STALLS
from loopwatch._rules.rule import Symptom
from loopwatch._rules.stall_groups import KEPT, LONG, MANY, YOUNG
from loopwatch._rules.stalls import STALLS
from loopwatch._store.stall_log import StallLog
from loopwatch.facts import NOBODY
from tests import records
from tests.looks import NOW, empty, snapshot
from tests.looks import symptoms as symptoms_of

PARSE = Frame("parse", "app.answers", "/srv/app/answers.py", 42)


def stall(cause: Cause = "cpu", duration: float = 0.2, *, ago: float = 5.0, **more: Any) -> Stall:
    """Return a stall that ended ``ago`` seconds before ``NOW``."""
    given: dict[str, Any] = {
        "culprit": PARSE,
        "call": "json.loads",
        "stack": (Frame("run", "app", "/srv/app/main.py", 7), PARSE),
        "task_name": "Task-1",
        "coroutine": "handle",
        "samples": 5,
    }
    return records.stall(duration, started_at=NOW - ago - duration, cause=cause, **{**given, **more})


def symptoms(*stalls: Stall, lived: float = 300.0, points: Any = None) -> list[Symptom]:
    now = snapshot(stalls=stalls, points=points)
    return symptoms_of(now, empty(NOW - lived), rules=(*STALLS, *LOOP))


def test_a_healthy_program() -> None:
    points = {("loop_time", "main", "active"): 3.0, ("loop_time", "main", "idle"): 57.0}
    assert symptoms(points=points) == []
    assert symptoms() == []


def test_a_snapshot_has_as_many_stalls_as_the_rule_believes() -> None:
    assert StallLog.KEPT == KEPT


def test_the_rules_of_all_causes_exist() -> None:
    assert set(OF_STALLS) == set(get_args(Cause))
    assert set(OF_STALLS.values()) <= {rule.id for rule in (*STALLS, *LOOP)}


@pytest.mark.parametrize("cause", get_args(Cause))
def test_each_cause_has_its_rule(cause: Cause) -> None:
    assert symptoms(*[stall(cause)] * (MANY - 1)) == []
    [found] = symptoms(*[stall(cause)] * MANY)
    assert found.rule == OF_STALLS[cause]
    assert found.count == MANY
    if cause != "gc":  # of which all collections are the evidence
        assert (found.evidence["stalls"], found.evidence["worst_s"]) == (MANY, 0.2)
        assert found.evidence["total_s"] == pytest.approx(MANY * 0.2)
    assert "200 ms" in found.summary


@pytest.mark.parametrize("cause", get_args(Cause))
def test_one_long_stall_is_enough(cause: Cause) -> None:
    assert symptoms(stall(cause, LONG * 0.9)) == []
    [found] = symptoms(stall(cause, LONG * 1.1))
    assert (found.rule, found.count) == (OF_STALLS[cause], 1)
    assert found.severity == ("info" if cause == "unknown" else "warning")


def test_it_says_who_how_often_and_how_long() -> None:
    stalls = [stall(duration=duration, ago=ago) for duration, ago in ((0.2, 50), (0.612, 30), (0.3, 3))]
    [found] = symptoms(*stalls)
    assert found.summary == (
        "`json.loads` in `parse` (answers.py:42) blocked the event loop 3 times in the last minute, "
        "worst 612 ms"
    )
    assert found.key == ("app.answers.parse", "json.loads")
    assert found.evidence["window_s"] == 60.0


@pytest.mark.parametrize(
    ("call", "module", "remedy"),
    [
        ("hashlib.pbkdf2_hmac", "app.users", "await it in a thread"),
        ("bcrypt.checkpw", "app.users", "await it in a thread"),
        ("context.verify", "argon2._password_hasher", "await it in a thread"),
        ("json.loads", "app.users", "move it to a process pool, or do it in pieces"),
        (None, "app.users", "move it to a process pool, or do it in pieces"),
    ],
)
def test_a_thread_helps_what_computes_without_the_gil(call: str | None, module: str, remedy: str) -> None:
    inner = Frame("verify", module, "/srv/verify.py", 7)
    told = [replace(stall(call=call), stack=(inner,))] * 3
    [found] = symptoms(*told)
    assert found.fix.startswith(remedy)
    [held] = symptoms(*[replace(one, evidence={**one.evidence, "watchdog_late_s": 0.2}) for one in told])
    assert "a thread does not help" in held.fix


def test_stalls_of_more_than_a_minute_ago_do_not_count() -> None:
    assert symptoms(*[stall(ago=61.0)] * 10, stall(), stall()) == []


def test_in_the_first_minute_it_says_over_which_time() -> None:
    [found] = symptoms(*[stall()] * 3, lived=12.0)
    assert "3 times in the last 12 s" in found.summary
    assert found.evidence["window_s"] == 12.0


def test_where_more_happened_than_is_kept_it_says_over_which_time() -> None:
    stalls = [stall(ago=20.0 * (KEPT - number) / KEPT) for number in range(KEPT)]
    [found] = symptoms(*stalls)
    assert f"{KEPT} times in the last 20 s" in found.summary


def test_culprits_are_told_apart_the_worst_first() -> None:
    other = Frame("merge", "app.answers", "/srv/app/answers.py", 60)
    found = symptoms(*[stall()] * 3, *[stall(culprit=other, call=None, duration=0.4)] * 3)
    assert [one.key for one in found] == [("app.answers.merge",), ("app.answers.parse", "json.loads")]
    assert found[0].summary.startswith("`merge` (answers.py:60) blocked")


def test_nobody_is_blamed_for_what_was_not_seen() -> None:
    [found] = symptoms(*[stall(culprit=None, call=None, samples=0)] * 3)
    assert found.key == (NOBODY,)
    assert found.summary.startswith("code that was not seen blocked")


@pytest.mark.parametrize(
    ("stalls", "lived", "severity"),
    [
        ([stall(duration=1.5)] * 4, 300.0, "critical"),  # 6 s of a minute
        ([stall(duration=1.4)] * 4, 300.0, "warning"),
        ([stall(duration=8.0)] * 2, 300.0, "warning"),  # an accident
        ([stall(duration=0.6)] * 4, YOUNG, "critical"),
        ([stall(duration=0.3)] * 4, 5.0, "warning"),  # young, and it is little
    ],
)
def test_it_is_critical_when_users_notice(stalls: Sequence[Stall], lived: float, severity: str) -> None:
    assert [one.severity for one in symptoms(*stalls, lived=lived)] == [severity]


class TestInProgress:
    """A stall is told of while it lasts."""

    def test_a_long_one(self) -> None:
        [found] = symptoms(stall("blocking", 6.24, ago=0.0, call="time.sleep", in_progress=True))
        assert found.severity == "critical"
        assert found.summary == (
            "`time.sleep` in `parse` (answers.py:42) made the event loop wait since 6.2 s ago, "
            "and does so still"
        )
        assert found.evidence["in_progress_s"] == pytest.approx(6.24)

    def test_after_others(self) -> None:
        going_on = stall(duration=2.0, ago=0.0, in_progress=True)
        [found] = symptoms(stall(duration=0.5), going_on)
        assert (
            "twice in the last minute, worst 2.0 s, and does so right now, for 2.0 s so far" in found.summary
        )

    def test_a_short_one_does_not_make_it_critical(self) -> None:
        going_on = stall(duration=0.15, ago=0.0, in_progress=True)
        [found] = symptoms(*[stall()] * 3, going_on)
        assert found.severity == "warning"

    def test_what_is_not_known_yet_is_not_told_as_unknown(self) -> None:
        assert symptoms(stall("unknown", 5.0, ago=0.0, in_progress=True)) == []


@pytest.mark.parametrize(
    ("cause", "held", "advice"),
    [
        ("cpu", True, "move it to a process pool: a thread does not help, the GIL is held"),
        ("cpu", False, "in a thread it would take turns with the loop at the GIL"),
        ("blocking", True, "a thread does not help, it waits without letting go of the GIL"),
        ("blocking", False, "asyncio.to_thread"),
    ],
)
def test_a_thread_is_advised_only_where_it_helps(cause: Cause, held: bool, advice: str) -> None:
    late = {"watchdog_late_s": 0.15 if held else 0.02, "watchdog_runqueue_s": 0.01}
    [found] = symptoms(*[stall(cause, evidence=late, call="spam")] * 3)
    assert advice in found.fix
    assert ("while holding the GIL" in found.summary) is held


class TestComputedOnABusyMachine:
    """Half computing, half waiting for a CPU: the half that computes is enough for a stall."""

    HALVES = {"cpu_s": 0.4, "runqueue_s": 0.5}  # noqa: RUF012

    @pytest.mark.parametrize("cause", ["starved", "unknown"])
    def test_who_computes_is_named_with_the_part_that_is_his(self, cause: Cause) -> None:
        stalls = [stall(cause, 0.9, evidence=self.HALVES)] * 4
        found = symptoms(*stalls)
        assert [one.rule for one in found] == ["LW101"] + ["LW107"] * (cause == "starved")
        assert found[0].evidence["total_s"] == pytest.approx(1.6)
        assert "4 times in the last minute, worst 400 ms" in found[0].summary

    @pytest.mark.parametrize(
        "changes",
        [
            {"evidence": HALVES | {"cpu_s": 0.09}},
            {"culprit": None},
            {"evidence": HALVES | {"samples_of_new_callbacks": 4.0}},
            {"in_progress": True, "ago": 0.0},
            {"evidence": HALVES | {"importing": 1.0}},
        ],
        ids=["little", "not seen", "many callbacks", "not over", "import"],
    )
    def test_but_not_on_less_evidence(self, changes: dict[str, Any]) -> None:
        stalls = [stall("starved", 0.9, **({"evidence": self.HALVES} | changes))] * 3
        assert [one.rule for one in symptoms(*stalls)] == ["LW107"]

    def test_nor_is_it_who_slept_for_most_of_it(self) -> None:
        stalls = [stall("unknown", 0.9, call="time.sleep", evidence={"cpu_s": 0.2, "runqueue_s": 0.2})] * 4
        assert [one.rule for one in symptoms(*stalls)] == ["LW109"]


class TestCallsInPythonCode:
    """Python code is nearly always seen in a call of C, which has no frame: long or short, one or many."""

    ON_TIME = {"cpu_s": 0.2, "watchdog_late_s": 0.02, "watchdog_runqueue_s": 0.02}  # noqa: RUF012

    def test_that_may_be_many_are_the_functions(self) -> None:
        calls = ("dict", "str", "rows.append", "dict", None)
        [found] = symptoms(*[stall(call=call, evidence=self.ON_TIME) for call in calls])
        assert found.key == ("app.answers.parse",)
        assert found.summary.startswith("`parse` (answers.py:42) blocked the event loop 5 times")
        assert found.evidence["total_s"] == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("changes", "advice"),
        [
            ({"evidence": ON_TIME | {"watchdog_late_s": 0.15}}, "the GIL is held"),
            ({"call": "zlib.compress"}, "it computes without the GIL"),
            ({"call": "db.execute"}, "it computes without the GIL"),
            (
                {"stack": (PARSE, Frame("loads", "json", "/lib/json/__init__.py", 346))},
                "in a thread it would",
            ),
        ],
        ids=["others waited for the GIL", "known to let go of it", "a database's", "with a frame"],
    )
    def test_that_is_known_to_be_one_is_named(self, changes: dict[str, Any], advice: str) -> None:
        one = stall(**({"call": "work", "evidence": self.ON_TIME} | changes))
        [found] = symptoms(*[one] * 3)
        assert found.key == ("app.answers.parse", one.call)
        assert advice in found.fix

    def test_collections_that_others_waited_for_are_no_call(self) -> None:
        waited = {"cpu_s": 0.2, "gc_s": 0.08, "watchdog_late_s": 0.1, "watchdog_runqueue_s": 0.01}
        [found] = symptoms(*[stall(call="dict", evidence=waited)] * 3)
        assert found.key == ("app.answers.parse",)

    def test_of_a_database_in_python_a_thread_is_no_remedy(self) -> None:
        deeper = (PARSE, Frame("Session.execute", "sqlalchemy.orm", "/lib/orm.py", 7))
        [found] = symptoms(*[stall(call="session.execute", stack=deeper, evidence=self.ON_TIME)] * 3)
        assert found.fix.startswith("move it to a process pool")


def test_a_watchdog_without_a_cpu_says_nothing_about_the_gil() -> None:
    late = {"watchdog_late_s": 0.18, "watchdog_runqueue_s": 0.17}
    [found] = symptoms(*[stall(evidence=late)] * 3)
    assert "GIL" not in found.summary


@pytest.mark.parametrize(
    ("call", "modules", "advice"),
    [
        ("time.sleep", (), "await asyncio.sleep"),
        ("sleep", (), "await asyncio.sleep"),
        ("requests.get", ("requests.api", "urllib3.connectionpool", "socket"), "httpx.AsyncClient"),
        ("self.session.post", ("requests.sessions", "requests.adapters", "http.client"), "httpx.AsyncClient"),
        ("subprocess.run", ("subprocess",), "create_subprocess_exec"),
        ("socket.getaddrinfo", ("socket",), "loop.getaddrinfo"),
        ("cursor.execute", (), "driver"),
        ("self._lock.acquire", (), "asyncio's own Lock"),
        ("future.result", ("concurrent.futures._base", "threading"), "wrap_future"),
        ("handle.read", (), "files are read and written synchronously"),
        ("open", (), "files are read and written synchronously"),
        ("reopen", (), "call its asynchronous version"),
        (None, (), "call its asynchronous version"),
    ],
)
def test_the_advice_fits_the_call(call: str | None, modules: Sequence[str], advice: str) -> None:
    inner = tuple(Frame("f", module, "/lib.py", 1) for module in modules)
    [found] = symptoms(*[stall("blocking", call=call, stack=(PARSE, *inner))] * 3)
    assert advice in found.fix


def test_a_flood_says_how_many_were_ready() -> None:
    [found] = symptoms(*[stall("flood", evidence={"ready_callbacks": 900.0 + n}) for n in range(3)])
    assert "up to 902 ready at once" in found.summary
    assert found.evidence["ready_callbacks"] == 902
    assert found.key == ("main",)


def test_the_hog_of_the_gil_is_named() -> None:
    [found] = symptoms(*[stall("gil", call="re.sub")] * 3)
    assert found.summary.startswith("`re.sub` in `parse` (answers.py:42), in another thread, held the GIL")


class TestStarved:
    """No CPU, by whose doing."""

    @pytest.mark.parametrize("throttled", [True, False])
    def test_throttled_or_not(self, throttled: bool) -> None:
        evidence = {"runqueue_s": 0.19, "throttled_s": 0.18 if throttled else 0.02}
        [found] = symptoms(*[stall("starved", evidence=evidence)] * 3)
        assert ("quota" in found.summary) is throttled
        assert ("CPU limit" in found.fix) is throttled
        assert "parse" not in found.summary  # it is not at fault
        assert found.evidence["runqueue_s"] == pytest.approx(0.57)

    @pytest.mark.parametrize(("seconds", "told"), [(5.9, False), (6.5, True)])
    def test_in_pieces_too_short_for_a_stall(self, seconds: float, told: bool) -> None:
        found = symptoms(points={("runqueue_time", "main"): seconds}, lived=60.0)
        assert [one.rule for one in found] == ["LW107"] * told

    @pytest.mark.parametrize(("queued", "stalled"), [(2.9, False), (3.1, True)])
    def test_in_a_stall_that_is_told_for_what_it_computed(self, queued: float, stalled: bool) -> None:
        long = stall("cpu", 12.0, evidence={"cpu_s": 8.0, "runqueue_s": queued})
        found = symptoms(long, points={("runqueue_time", "main"): 6.1}, lived=60.0)
        [starved] = [one for one in found if one.rule == "LW107"]
        assert ("most of it in stalls" in starved.summary) is stalled
        assert ("too short" in starved.summary) is not stalled
        assert ("is not at fault" in starved.fix) is not stalled  # of that code LW101 tells

    def test_a_collection_that_waited_for_a_cpu(self) -> None:
        [found] = symptoms(*[stall("gc", evidence={"runqueue_s": 0.15})] * 3)
        assert found.rule == "LW107"

    def test_both_are_told_once(self) -> None:
        found = symptoms(*[stall("starved")] * 3, points={("runqueue_time", "main"): 30.0})
        assert len(found) == 1


def test_a_stopped_process_is_told_once_for_all_its_loops() -> None:
    stalls = [stall("suspended", 3.0, loop_name=name, culprit=None) for name in ("main", "worker")]
    [found] = symptoms(*stalls)
    assert (found.key, found.severity) == ((), "warning")


def test_a_loop_that_was_stopped_for_longest_but_once_hides_no_other() -> None:
    """A loop that has ended since was not there for the others."""
    [found] = symptoms(stall("suspended", 0.9, loop_name="worker"), *[stall("suspended", 0.2)] * 3)
    assert (found.rule, found.count) == ("LW108", 3)


def test_short_imports_are_no_finding() -> None:
    assert symptoms(*[stall(evidence={"importing": 1.0})] * 4) == []


@pytest.mark.parametrize("cause", ["cpu", "blocking", "unknown"])
def test_imports_are_told_as_such(cause: Cause) -> None:
    [found] = symptoms(stall(cause, 2.5, evidence={"importing": 1.0}))
    assert (found.rule, found.severity) == ("LW110", "info")
    assert "imports blocked the event loop once in the last minute, for 2.5 s" in found.summary


def test_a_loop_in_another_thread_is_named() -> None:
    [found] = symptoms(*[stall(loop_name="worker")] * 3)
    assert "blocked the event loop 'worker' 3 times" in found.summary


@pytest.mark.parametrize(
    ("evidence", "why", "fix"),
    [
        (
            {"cpu_s": 0.09, "runqueue_s": 0.09},
            "it computed for 270 ms of that and had no CPU for 270 ms",
            "give",
        ),
        ({"cpu_s": 0.09, "runqueue_s": 0.03}, "the numbers do not say why", "read stack and evidence"),
        ({}, "the numbers do not say why", "read stack and evidence"),
    ],
)
def test_of_what_is_unknown_the_halves_are_told(evidence: dict[str, float], why: str, fix: str) -> None:
    many = {"samples_of_new_callbacks": 4.0}
    [found] = symptoms(*[stall("unknown", evidence=evidence | many)] * 3)
    assert (found.rule, found.severity) == ("LW109", "info")
    assert why in found.summary
    assert found.fix.startswith(fix)
