"""Pools as rules judge them: short, refusing, held on to, made anew for each request."""

from __future__ import annotations

from typing import Any

import pytest

from loopwatch._agent_records import Borrower, Pool
from loopwatch._collectors.pools.catalogue import READERS
from loopwatch._rules.libraries import JOB_RUNNERS, LIBRARIES
from loopwatch._rules.rule import Symptom
from loopwatch.facts import NOBODY, OTHER
from tests.looks import NOW, borrower, frame, lost, pool, snapshot, stall, symptoms, waiter, waits

HTTP = ("app.clients:42", "httpcore")


def full(kind: str = "httpcore", label: str = "app.clients:42", **more: Any) -> Pool:
    return pool(
        kind, label, **{"used": 10, "pending": 87, "oldest_wait": 3.0, "borrowers": (borrower(),), **more}
    )


def seen(
    *pools: Pool, before: dict[Any, Any] | None = None, points: Any = None, **more: Any
) -> list[Symptom]:
    return symptoms(
        snapshot(pools=pools, points=points, **more), snapshot(at=NOW - 60, points=before) if before else None
    )


def one(found: list[Symptom], rule: str) -> Symptom:
    assert [symptom.rule for symptom in found] == [rule], found
    return found[0]


class TestSaturated:
    def test_it_says_how_full_who_waits_who_holds_and_what_to_raise(self) -> None:
        points = {("pool_wait", *HTTP): waits(*[0.0005] * 50, *[4.0] * 60)}
        found = one(seen(full(max=100, used=100), points=points), "LW301")
        assert found.key == ("httpcore", "app.clients:42")
        assert found.summary == (
            "the httpx pool `app.clients:42` is full: 100 of 100 connections are in use, and 87 "
            "callers wait, "
            "p99 5.0 s; held longest by `analyse`, for 2.0 s, which stands at `analyse` (app.py:42), "
            "waiting for "
            "StreamReader.read"
        )
        assert found.fix == (
            "raise max_connections above 100 (limits=httpx.Limits(max_connections=...)), or bound the "
            "jobs that "
            "want a connection at once: 87 wait, p99 5.0 s"
        )
        assert found.evidence == {
            "used": 100,
            "max": 100,
            "pending": 87,
            "oldest_wait_s": 3.0,
            "wait_p99_s": pytest.approx(4.96, abs=0.05),
            "slow_waits": 60,
            "oldest_held_s": 2.0,
        }
        assert (found.count, found.because) == (60, None)

    @pytest.mark.parametrize("kind", sorted({reader.kind for reader in READERS} - JOB_RUNNERS))
    def test_the_fix_is_in_the_words_of_the_library(self, kind: str) -> None:
        [found] = seen(full(kind))
        library = LIBRARIES[kind]
        assert library.limit.split(" ")[0] in f"{library.written} {found.fix}"
        assert "above 10" in found.fix or "more than 10" in found.fix
        assert found.rule == ("LW306" if kind in ("thread_pool", "process_pool", "anyio") else "LW301")

    def test_a_server_that_does_not_answer_is_no_matter_of_the_limit(self) -> None:
        opening = full("psycopg_pool", "db:5432/shop", used=0, connecting=10, borrowers=())
        points = {("database_timeouts", "db:5432/shop"): 3}
        for found in seen(opening, points=points):
            assert found.evidence["connecting"] == 10
            assert found.fix.startswith("find out why no connection opens: whether the server is up")
            assert found.fix.endswith("Raising max_size does not help")
        assert [found.rule for found in seen(opening, points=points)] == ["LW301", "LW302"]
        one_open = full("psycopg_pool", "db:5432/shop", used=1, connecting=9)
        assert "raise max_size above 10" in one(seen(one_open), "LW301").fix
        left = full(used=0, connecting=10, borrowers=(borrower(gone=True),))  # what httpcore may leave behind
        assert "raise max_connections above 10" in one(seen(left), "LW301").fix

    def test_of_pools_of_several_sizes_no_one_size_is_named(self) -> None:
        even = full("asyncpg", "db", instances=2)
        assert "raise max_size above 5 in each of the 2 pools" in one(seen(even), "LW301").fix
        uneven = full("asyncpg", "db", instances=3)
        assert "raise max_size in each of the 3 pools" in one(seen(uneven), "LW301").fix

    def test_job_runners_are_full_on_purpose(self) -> None:
        assert seen(*(full(kind) for kind in JOB_RUNNERS)) == []

    def test_of_a_reader_that_is_not_ours(self) -> None:
        assert "the oracle pool `x` is full" in one(seen(full("oracle", "x")), "LW301").summary

    @pytest.mark.parametrize(
        "healthy",
        [
            {"pending": 0, "oldest_wait": 0.0},  # full, and nobody waits
            {"oldest_wait": 0.9},  # full for a moment
            {"used": 9},  # one is about to be given out
            {"max": None},  # no limit
            {"used": None},  # not known
            {"pending": None},
            {"label": OTHER},  # many pools added up
        ],
    )
    def test_a_well_used_pool_is_not_short(self, healthy: dict[str, Any]) -> None:
        assert seen(full("asyncpg", **{"label": "db", **healthy})) == []

    def test_a_queue_of_short_waits_is_a_busy_pool(self) -> None:
        """It is full at each look, but nobody waits for as long as a user would notice."""
        quick = {("pool_wait", *HTTP): waits(*[0.02] * 5_000, *[0.3] * 9)}
        assert seen(full(oldest_wait=0.05), points=quick) == []
        few = {("pool_wait", *HTTP): waits(*[0.02] * 5_000, *[0.3] * 200)}
        assert seen(full(oldest_wait=0.05), points=few) == []
        slow = {("pool_wait", *HTTP): waits(*[0.02] * 5_000, *[0.3] * 300)}
        assert one(seen(full(oldest_wait=0.05), points=slow), "LW301").evidence["slow_waits"] == 300

    def test_only_waits_in_the_window_count(self) -> None:
        waited = {("pool_wait", *HTTP): waits(*[4.0] * 60)}
        assert seen(full(oldest_wait=0.05), points=waited, before=waited) == []

    def test_waits_of_databases_go_by_another_name(self) -> None:
        points = {("database_wait", "db:5432/shop"): waits(*[4.0] * 60)}
        found = one(seen(full("asyncpg", "db:5432/shop", oldest_wait=0.5), points=points), "LW301")
        assert found.evidence["slow_waits"] == 60

    def test_waits_longer_than_the_histogram_tells(self) -> None:
        points = {("pool_wait", *HTTP): waits(*[60.0] * 60)}
        found = one(seen(full(oldest_wait=55.0), points=points), "LW301")
        assert "the oldest for 55 s" in found.summary  # who waits still has waited for longer
        assert found.severity == "critical"
        assert "p99 over 10 s" in one(seen(full(oldest_wait=9.0), points=points), "LW301").summary

    def test_a_library_read_without_its_waits(self) -> None:
        unknown = {"oldest_wait": None, "wait_count": None, "wait_sum": None, "timeouts": None}
        assert seen(full("asyncmy", pending=9, **unknown)) == []
        found = one(seen(full("asyncmy", pending=10, **unknown)), "LW301")
        assert "for how long is not known" in found.summary
        assert "oldest_wait_s" not in found.evidence

    def test_connections_being_opened_are_taken(self) -> None:
        found = one(seen(full("asyncpg", used=7, connecting=3)), "LW301")
        assert "7 of 10 connections are in use and 3 being opened" in found.summary
        assert seen(full("asyncpg", used=6, connecting=3)) == []

    def test_several_pools_added_up(self) -> None:
        found = one(seen(full("asyncpg", used=20, max=20, instances=2)), "LW301")
        assert "(2 pools together)" in found.summary
        assert "raise max_size above 10 in each of the 2 pools" in found.fix
        part = one(seen(full("asyncpg", used=11, max=20, instances=2, oldest_wait=5.0)), "LW301")
        assert "has 11 of 20 connections in use, yet one of its 2 pools is full" in part.summary

    def test_aiohttp_bounds_each_host_too(self) -> None:
        found = one(seen(full("aiohttp", max=100, used=2, pending=3, oldest_wait=5.0)), "LW301")
        assert "has 2 of 100 connections in use, yet the limit for one host is full" in found.summary
        assert found.fix.startswith("raise limit_per_host (connector=aiohttp.TCPConnector(limit=...")
        assert (
            "any number of" in one(seen(full("aiohttp", max=None, used=2, oldest_wait=5.0)), "LW301").summary
        )

    def test_a_pool_without_a_name(self) -> None:
        assert (
            "a redis pool that is not known by name is full"
            in one(seen(full("redis", NOBODY)), "LW301").summary
        )

    def test_holders_that_all_wait_for_a_second_connection(self) -> None:
        stand = (frame("handle", 30), frame("asks", 90))
        people = {
            "borrowers": tuple(borrower(task_name=f"t{n}", await_stack=stand) for n in range(2)),
            "waiters": tuple(waiter(task_name=f"t{n}", await_stack=stand) for n in range(2)),
        }
        found = one(seen(full(max=2, used=2, pending=2, **people)), "LW301")
        assert "every holder waits for a second connection of it" in found.summary
        assert (found.severity, found.evidence["holders_that_wait"]) == ("critical", 2)
        works = (*people["borrowers"], borrower(task_name="t3"))
        assert "every holder" not in one(seen(full(**{**people, "borrowers": works})), "LW301").summary


class TestRoots:
    def roots(self, *borrowers: Borrower, used: int = 2, **more: Any) -> str | None:
        found = seen(full(max=used, used=used, borrowers=borrowers), **more)
        return next(one for one in found if one.rule == "LW301").because

    def test_a_loop_that_stands_still(self) -> None:
        assert self.roots(borrower()) is None
        assert self.roots(borrower(), stalls=(stall(2.5),)) == "LW101"
        assert self.roots(borrower(), stalls=(stall(2.5, "gil"),)) == "LW106"
        assert self.roots(borrower(), stalls=(stall(1.0),)) is None  # of three seconds waited

    def test_nobody_gives_back(self) -> None:
        gone = borrower(gone=True, held=20.0)
        assert self.roots(gone, borrower()) == "LW305"
        assert self.roots(gone, borrower(), borrower(), used=3) is None

    def test_holders_in_a_deadlock(self) -> None:
        ends = tuple(lost("deadlock", "analyse", leak="deadlock", task_name=name) for name in ("a", "b"))
        holders = (borrower(task_name="a"), borrower(task_name="b"))
        points = {("task_leaked", "deadlock"): 2.0}
        assert self.roots(*holders, lost=ends, points=points) == "LW205"

    def test_held_for_too_long(self) -> None:
        assert self.roots(borrower(held=90.0, overdue=True), borrower()) == "LW304"


class TestRefusals:
    def test_timeouts_in_the_window(self) -> None:
        before, now = {("pool_timeouts", *HTTP): 7}, {("pool_timeouts", *HTTP): 12}
        found = one(seen(pool(used=4), points=now, before=before), "LW302")
        assert found.count == found.evidence["timeouts"] == 5
        assert "5 callers of the httpx pool `app.clients:42` gave up waiting" in found.summary
        assert "max_connections above 10" in found.fix
        assert found.because is None
        assert seen(pool(), points=now, before=now) == []

    def test_a_counter_that_begins_in_the_window_counts_whole(self) -> None:
        now = {("pool_timeouts", *HTTP): 3}
        other = {("pool_timeouts", "app.other:1", "httpcore"): 1}
        assert one(seen(pool(), points=now, before=other), "LW302").count == 3

    def test_a_pool_that_is_gone_is_not_judged(self) -> None:
        assert seen(points={("pool_timeouts", *HTTP): 3}) == []

    def test_of_a_database_by_whose_library_timed_out(self) -> None:
        points = {("database_timeouts", "db:5432/shop"): 2}
        pools = (pool("asyncpg", "db:5432/shop"), pool("sqlalchemy", "db:5432/shop", timeouts=2))
        found = one(seen(*pools, points=points), "LW302")
        assert found.key == ("sqlalchemy", "db:5432/shop")

    def test_a_full_pool_is_the_reason(self) -> None:
        both = seen(full(), points={("pool_timeouts", *HTTP): 12})
        assert [(one.rule, one.because) for one in both] == [("LW301", None), ("LW302", "LW301")]
        full_again = pool(used=10)  # all who waited have given up
        assert one(seen(full_again, points={("pool_timeouts", *HTTP): 12}), "LW302").because == "LW301"
        blocked = seen(pool(), points={("pool_timeouts", *HTTP): 1}, stalls=(stall(2.0, "blocking"),))
        assert one(blocked, "LW302").because == "LW102"

    def test_which_limit_of_aiohttp_was_reached_is_not_known_later(self) -> None:
        points = {("pool_timeouts", "app:1", "aiohttp"): 2}
        later = one(seen(pool("aiohttp", "app:1", max=100), points=points), "LW302")
        assert "raise limit or limit_per_host (" in later.fix
        still = one(seen(pool("aiohttp", "app:1", max=10, used=10), points=points), "LW302")
        assert "raise limit above 10 (" in still.fix

    def test_in_plain_words_of_a_reader_that_is_not_ours(self) -> None:
        points = {("pool_rejected", "x", "oracle"): 1, ("pool_timeouts", "x", "oracle"): 1}
        for found in seen(pool("oracle", "x"), points=points):
            assert found.fix.startswith("raise its limit above 10, bound the jobs")

    def test_callers_turned_away(self) -> None:
        redis = pool("redis", "cache:6379/0", max=100, used=100)
        found = one(seen(redis, points={("pool_rejected", "cache:6379/0", "redis"): 4}), "LW303")
        assert (
            "turned callers away 4 times in the last minute, since all of its 100 connections"
            in found.summary
        )
        assert "raise max_connections above 100" in found.fix
        assert "BlockingConnectionPool" in found.fix
        assert seen(redis, points={("pool_rejected", "cache:6379/0", "redis"): 0}) == []


class TestHolders:
    def test_held_too_long_by_coroutine(self) -> None:
        people = (
            borrower("listen", 95.0, overdue=True),
            borrower("report", 70.0, overdue=True),
            borrower("listen", 61.0, overdue=True),
            borrower("listen", 3.0),
        )
        listen, report = seen(pool("asyncpg", "db", used=4, borrowers=people))
        assert (listen.rule, listen.count, report.count) == ("LW304", 2, 1)
        assert listen.key == ("asyncpg", "db", "listen")
        assert listen.evidence == {"connections": 2, "held_s": 95.0, "pending": 0, "max": 10}
        assert (
            "2 connections of the asyncpg pool `db` held for too long, longest by `listen`, for 95 s"
            in listen.summary
        )
        assert "hold_threshold" in listen.fix

    def test_what_is_meant_to_be_held_is_not_overdue(self) -> None:
        assert seen(pool("asyncpg", "db", used=1, borrowers=(borrower(held=9_000.0),))) == []

    def test_held_by_nobody(self) -> None:
        gone = borrower("fetch", 70.0, gone=True, overdue=True, await_stack=(), waiting_on=None)
        found = one(seen(pool("asyncpg", "db", used=1, borrowers=(gone,))), "LW305")
        assert (
            "1 connection of the asyncpg pool `db` held by nobody who could give them back: acquired "
            "by `fetch`, "
            "created by `start` (app.py:10), for 70 s; that task has ended" in found.summary
        )
        assert found.severity == "warning"
        assert found.fix.startswith("acquire with `async with`")

    def test_missed_sooner_where_others_wait(self) -> None:
        gone = borrower("fetch", 12.0, gone=True, await_stack=())
        assert seen(pool(used=1, borrowers=(gone,))) == []
        nobody = next(one for one in seen(full(borrowers=(gone,))) if one.rule == "LW305")
        assert nobody.severity == "critical"
        assert "close every response" in nobody.fix
        soon = borrower("fetch", 9.0, gone=True, await_stack=())
        assert [one.rule for one in seen(full(borrowers=(soon,)))] == ["LW301"]

    def test_code_outside_of_tasks(self) -> None:
        found = one(seen(pool(borrowers=(borrower(None, 70.0, overdue=True),))), "LW304")
        assert found.key[-1] == "code outside of tasks"

    def test_threads_of_executors_may_work_for_long(self) -> None:
        assert seen(pool("thread_pool", "jobs", borrowers=(borrower(held=900.0, overdue=True),))) == []


class TestClients:
    def made(self, count: float, uses: int, at: str = "app.clients:42", kind: str = "httpcore") -> Any:
        return {("pool_created", at, kind): count, ("pool_wait", at, kind): waits(*[0.0005] * uses)}

    def test_one_for_each_request(self) -> None:
        found = one(seen(pool(created=60, instances=1), points=self.made(60, 60)), "LW307")
        assert (
            "60 of httpx.AsyncClient were made (app.clients:42) in the last minute, for 60 uses"
            in found.summary
        )
        assert "make one httpx.AsyncClient when the program starts" in found.fix
        assert found.evidence == {"created": 60, "uses": 60, "instances": 1}

    @pytest.mark.parametrize(("created", "uses"), [(19, 19), (60, 181)])
    def test_few_or_well_used(self, created: int, uses: int) -> None:
        assert seen(pool(created=created), points=self.made(created, uses)) == []

    def test_clients_that_stay_are_a_start_up_until_more_come(self) -> None:
        stays = pool(created=60, instances=60, wait_count=60)
        assert seen(stays, points=self.made(60, 60)) == []
        before = self.made(10, 10)
        found = one(seen(stays, points=self.made(60, 60), before=before), "LW307")
        assert found.count == 50
        assert "60 of all so far are open still" in found.summary

    def test_what_costs_nothing_or_is_made_by_asyncio(self) -> None:
        for kind, label in (("anyio", "x"), ("thread_pool", "default"), ("arq", "x"), ("httpcore", OTHER)):
            points = {("pool_created", label, kind): 60}
            assert seen(pool(kind, label, created=60), points=points) == []

    def test_an_executor_for_each_call(self) -> None:
        points = {
            ("pool_created", "app.resize:7", "thread_pool"): 30,
            ("executor_wait", "app.resize:7"): waits(*[0.1] * 30),
        }
        found = one(seen(pool("thread_pool", "app.resize:7", created=30), points=points), "LW307")
        assert "30 of ThreadPoolExecutor were made" in found.summary


class TestStreams:
    def test_callers_wait_though_the_pool_is_not_full(self) -> None:
        found = one(seen(full(max=100, used=1, pending=7, borrowers=(borrower(),) * 3)), "LW308")
        assert "though only 1 of 100 connections are open" in found.summary
        assert "http2=False" in found.fix
        assert found.evidence["streams_at_least"] == 3

    def test_it_may_be_something_else(self) -> None:
        assert seen(full(used=1)) == []  # no more requests are under way than there are connections
        shared = (borrower(), borrower())
        opened = {("pool_wait", *HTTP): waits(*[4.0] * 60)}
        assert seen(full(used=1, oldest_wait=0.9, borrowers=shared), points=opened) == []  # a moment
        half_open = full(used=1, connecting=2, borrowers=(*shared, borrower(gone=True)))
        assert "LW308" not in [symptom.rule for symptom in seen(half_open)]
        assert seen(full(used=11, max=20, instances=2, oldest_wait=4.9), points=opened) == []
        assert one(seen(full(used=11, max=20, instances=2, oldest_wait=5.0)), "LW301")  # one of two is full
        assert seen(full("asyncpg", "db", used=1)) == []
