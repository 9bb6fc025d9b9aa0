"""What each command says, and that no line, name or width makes one say anything else."""

from __future__ import annotations

import logging
import random
from dataclasses import replace

import pytest

from loopwatch._console.looks import APART
from loopwatch._console.options import MOST
from loopwatch._console.tasks import FIRST, LOOKED_AT
from loopwatch._measures import Distribution, Point
from loopwatch._records import Frame

from .conftest import FINDING, HANDLE, LOADS, LOST, PARSE, POOL, STALL, TASK, WAITING, Desk, Many

NAMES = ("worker-1", "young", "daemon")
EVERY = (
    "loop",
    "stalls",
    "stall",
    "tasks",
    "task worker-1",
    "tree",
    "tree of=creators",
    "waits",
    "leaks",
    "leaks 1",
    "pools",
    "pool",
    "findings",
    "top",
    "jobs",
    "drain",
    "help",
    *(f"help {name}" for name in ("loop", "tasks", "tree", "leaks", "top")),
    "tasks by=site",
    "tasks state=any sort=name",
)


class TestLines:
    """One line in, text out, whatever the line."""

    @pytest.mark.parametrize("width", [1, 60, 80, 200, 100_000])
    @pytest.mark.parametrize("line", EVERY)
    def test_every_answer_fits(self, desk: Desk, line: str, width: int) -> None:
        desk.commands.run(line, width)
        desk.fill()
        desk.commands.run("leaks")
        answer = desk.commands.run(line, width)
        assert answer
        assert max(map(len, answer.split("\n"))) <= max(width, 60)
        assert desk.journal.failures() == {}

    def test_an_empty_line_has_an_empty_answer(self, desk: Desk) -> None:
        assert [desk.ask(line) for line in ("", "   ", "\t")] == ["", "", ""]

    def test_what_is_no_command_is_said_shortly(self, desk: Desk) -> None:
        assert desk.ask("reboot now") == "'reboot' is no command. `help` lists all."
        assert len(desk.ask("x" * 5000)) < 100

    def test_a_command_may_be_begun(self, full: Desk) -> None:
        assert desk_lines(full, "le") == desk_lines(full, "leaks")
        assert full.ask("t") == "'t' may be tasks or task or tree or top. `help` lists all."
        assert full.ask("task") == full.ask("task ")  # and is no beginning of another

    def test_random_lines_are_answered(self, full: Desk) -> None:
        """None is an exception, nor says a control character."""
        chance = random.Random(6)
        words = [
            *full.commands.names,
            "1",
            "99",
            "-1",
            "limit=",
            "limit=5",
            "sort=",
            "sort=age",
            "by=site",
            "=",
        ]
        words += [
            "\x1b[2J",
            "\u202e",
            "é" * 300,
            "9" * 40,
            "state=any",
            "of=creators",
            "²",
            "\ud800",
            "*",
            "%s",
        ]
        for _ in range(2000):
            full.ask(" ".join(chance.choices(words, k=chance.randrange(5))), chance.choice([60, 80, 120]))
        assert full.journal.failures() == {}

    def test_names_cannot_control_the_terminal(self, full: Desk) -> None:
        evil = "\x1b]0;owned\x07\n\r\x9b2J\u202e\u2028\ud800"
        frame = replace(HANDLE, function=evil, module=evil, file=f"/{evil}")
        full.source.tasks_ = [
            replace(TASK, name=evil, coroutine=evil, waiting_on=evil, site=frame, context={evil: evil}),
        ]
        full.source.stalls_ = [replace(STALL, culprit=frame, stack=(frame,), call=evil, loop_name=evil)]
        full.source.lost_ = [replace(LOST, site=frame, coroutine=evil, exception=evil)]
        full.source.pools_ = [replace(POOL, kind=evil, label=evil)]
        full.source.waits_ = [replace(WAITING, tasks=(evil,), owners=(evil,), site=frame)]
        full.source.findings_ = [replace(FINDING, summary=evil, fix=evil)]
        for line in (
            "tasks",
            "task 1",
            "leaks",
            "leaks 1",
            "stalls",
            "stall",
            "pools",
            "pool",
            "waits",
            *EVERY,
        ):
            full.ask(line, 200)
        assert r"\x1b]0;owned\x07\n\r\x9b2J\u202e\u2028\ud800" in full.ask("task 1", 400)

    def test_a_command_that_fails_says_so_and_is_counted(
        self, full: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> None:
            raise KeyError("x")

        monkeypatch.setattr(full.source, "loops", fail)
        assert full.ask("loop") == "loop failed: KeyError. The log has the details."
        assert full.journal.failures() == {"console": 1}
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    def test_words_are_completed(self, desk: Desk) -> None:
        complete = desk.commands.complete
        assert complete("st") == ["stalls", "stall"]
        assert complete("") == list(desk.commands.names)
        assert complete("help dr") == ["drain"]
        assert complete("help drain x") == complete("nothing x") == complete("zzz") == []
        assert complete("tasks sort=n") == ["sort=new", "sort=name"]
        assert complete("tasks foo state=e") == ["state=ended", "state=error"]
        assert [name for name in desk.commands.names if not desk.commands.summary(name)] == []

    def test_it_knows_its_commands(self, desk: Desk) -> None:
        known = ["loop", "stalls x", "dr"]
        assert [line for line in (*known, "t", "", "GET / HTTP/1.1") if desk.commands.knows(line)] == known


def desk_lines(desk: Desk, line: str) -> list[str]:
    return desk.rows(line)


class TestLoops:
    """Loops and stalls."""

    def test_loop(self, full: Desk) -> None:
        heading, row = full.rows("loop")
        assert heading.split() == [
            "loop",
            "kind",
            "busy",
            "p50",
            "p99",
            "max",
            "60s",
            "blocked",
            "ready",
            "timers",
            "turns",
        ]
        assert row.split() == [
            "main",
            "asyncio",
            "42%",
            "0.4",
            "ms",
            "12",
            "ms",
            "350",
            "ms",
            "no",
            "3",
            "7",
            "1234",
        ]

    def test_a_stall_going_on_is_told_with_the_loop(self, full: Desk) -> None:
        full.source.loops_ = [replace(full.source.loops_[0], blocked=2.5)]
        full.source.stalls_ += [replace(STALL, in_progress=True, duration=2.5, id=2)]
        assert "2.50 s" in full.rows("loop")[1]
        assert full.rows("loop")[2] == (
            "stall 1: main has been stalled for 2.50 s, cpu: shop.answers.parse in json.loads"
        )

    def test_stalls_newest_first_and_those_going_on_before_all(self, full: Desk) -> None:
        older = replace(STALL, started_at=999_000.0, cause="gc", culprit=None, call=None, id=2)
        going_on = replace(STALL, started_at=900_000.0, duration=100_000.0, in_progress=True, id=3)
        full.source.stalls_ = [older, STALL, going_on]
        _, *rows, foot = full.rows("stalls")
        assert [row.split()[0] for row in rows] == ["1", "2", "3"]
        assert rows[0].split()[1:6] == ["27h", "46m", "ago", "27h", "46m+"]
        assert "10.00 s ago    612 ms  cpu    shop.answers.parse" in rows[1]
        assert "(no application code seen)" in rows[2]
        assert foot == "+ goes on right now. `stall N` shows the stack."
        assert full.ask("stall 2").startswith("stall 2: main was stalled for 612 ms, cpu: shop.answers.parse")

    def test_stalls_are_filtered(self, full: Desk) -> None:
        full.source.stalls_ = [replace(STALL, id=at, cause="gc" if at % 3 else "cpu") for at in range(30)]
        assert len(full.rows("stalls cause=cpu")) == 1 + 10
        assert full.rows("stalls")[-1] == "... and 10 more stalls; limit=N shows up to N, words filter"
        assert len(full.rows("stalls limit=30")) == 1 + 30
        assert full.ask("stalls PARSE r-9 nowhere") == "No stall is like that."
        assert len(full.rows("stalls PARSE r-9 limit=30")) == 1 + 30

    def test_stall(self, full: Desk) -> None:
        full.ask("stalls")
        answer = full.ask("stall 1")
        for said in (
            "began       10.00 s ago",
            "culprit     shop.answers.parse at shop/answers.py:7",
            "task        Task-7 (Service.handle)",
            "context     request_id=r-9 trace=4bf92f",
            "evidence    cpu 600 ms, 60 stacks taken",
        ):
            assert f"  {said}\n" in answer
        stack = [line.split() for line in answer.split("\n")[-3:]]
        assert stack == [
            ["shop.service.Service.handle", "shop/service.py:42"],
            [">", "shop.answers.parse", "shop/answers.py:7"],
            ["json.loads", "json/__init__.py:346"],
        ]

    def test_a_number_stays_with_its_stall(self, full: Desk) -> None:
        """When it is over, and when others have come before it in the list."""
        full.source.stalls_ = [replace(STALL, in_progress=True)]
        full.ask("stalls")
        newer = replace(STALL, id=2, started_at=999_999.0, loop_name="other")
        full.source.stalls_ = [replace(STALL, duration=0.7), newer]
        assert full.ask("stall 1").startswith("stall 1: main was stalled for 700 ms")
        assert full.ask("stall").startswith("stall 2: other was stalled")
        full.source.stalls_ = [newer]
        assert full.ask("stall 1") == "There is no stall 1 (any more). `stalls` lists them."

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("stall x", "x is no number: give that of a stall, as `stalls` shows it."),
            ("stall 1 2", "One at a time: stall N."),
            ("stall 7", "There is no stall 7 (any more). `stalls` lists them."),
            ("stalls cause=bad", "cause=bad is none of any, cpu, blocking, flood, gc, gil, starved"),
            ("stalls limit=0", f"limit=0 is no number of rows: give 1 to {MOST}."),
            ("stalls limit=x", f"limit=x is no number of rows: give 1 to {MOST}."),
        ],
    )
    def test_wrong_use(self, full: Desk, line: str, said: str) -> None:
        assert full.ask(line).startswith(said)


class TestTasks:
    """Tasks, trees, waits, leaks."""

    def test_tasks(self, full: Desk) -> None:
        daemon = replace(TASK, daemon=True, age=5000.0, name="daemon", id=12)
        full.source.tasks_ = [daemon, replace(TASK, age=1.0, name="young", id=13), TASK]
        _, *rows = full.rows("tasks")
        assert [name for row in rows for name in NAMES if f" {name} " in row] == list(NAMES)
        for said in ("1m 40s", "Service.work", "Queue.get", "shop/service.py:42", "Service.handle"):
            assert said in rows[0]
        assert full.source.asked_for == [FIRST]

    def test_tasks_that_ended(self, full: Desk) -> None:
        ended = replace(TASK, state="error", duration=2.0, waiting_on=None, await_stack=(), id=12)
        ended = replace(ended, exception="KeyError", unretrieved=True)
        full.source.tasks_ = [
            replace(ended, state="ok", exception=None, id=13, unretrieved=False),
            ended,
            TASK,
        ]
        assert [row.split()[1] for row in full.rows("tasks state=any")[1:]] == ["waits", "ok", "error!"]
        assert [row.split()[1] for row in full.rows("tasks state=error")[1:]] == ["error!"]
        assert "KeyError" in full.ask("tasks state=error")
        assert full.ask("tasks state=cancelled") == "No task is like that."

    def test_tasks_are_filtered_sorted_and_bounded(self, full: Desk, many: Many) -> None:
        full.source.tasks_ = many(5000)
        _, *rows, foot, last = full.rows("tasks")
        assert len(rows) == 20
        assert "worker-0 " in rows[0]
        assert foot == "... and 980 more tasks; limit=N shows up to N, words filter"
        assert last == "Only the 1000 oldest live tasks were looked at."
        assert "worker-4999 " in full.rows("tasks sort=new")[1]
        assert len(full.rows("tasks WORKER-49 limit=1000")) == 1 + 111
        assert len(full.rows("tasks worker-1 queue.get r-1 limit=1000")) == 1 + 1000 + 1

    def test_tasks_by_site(self, full: Desk, many: Many) -> None:
        elsewhere = [replace(task, site=PARSE, id=task.id + 9000) for task in many(3)]
        full.source.tasks_ = [*elsewhere, *many(7)]
        _, first, second = full.rows("tasks by=site", 120)
        assert first.split()[0] == "7"
        assert "shop.service.Service.handle (shop/service.py:42)" in first
        assert second.split()[0] == "3"
        assert "shop.answers.parse (shop/answers.py:7)" in second
        number = first.split()[5]
        assert full.ask(f"task {number}").startswith(f"task {number}: worker-0,")

    def test_a_number_stays_with_its_task(self, full: Desk, many: Many) -> None:
        full.source.tasks_ = many(10)
        rows = {row.split()[0]: row for row in full.rows("tasks")[1:]}
        full.source.tasks_ = list(reversed(many(10)[5:]))
        for number, row in rows.items():
            name = next(word for word in row.split() if word.startswith("worker-"))
            answer = full.ask(f"task {number}")
            if int(name.removeprefix("worker-")) >= 5:
                assert answer.startswith(f"task {number}: {name},")
            else:
                assert answer.startswith(f"Task {number} has ended, and so many others")

    def test_task(self, full: Desk) -> None:
        other = replace(TASK, name="waiter", id=12, awaits=(11,))
        full.source.tasks_ = [replace(TASK, job=True, daemon=True), other]
        answer = full.ask("task worker-1")
        for said in (
            "task 1: worker-1, waits, 1m 40s old",
            "  coroutine   Service.work",
            "  created by  shop.service.Service.handle at shop/service.py:42",
            "  is          a daemon, a job of spawn()",
            "  context     request_id=r-1",
            "  waits for   Queue.get",
            "  awaited by  #2 waiter",
        ):
            assert f"{said}\n" in answer
        assert [line.split() for line in answer.split("\n")[-2:]] == [
            [">", "shop.service.Service.handle", "shop/service.py:42"],
            ["asyncio.queues.Queue.get", "asyncio/queues.py:158"],
        ]
        assert "  awaits      #1 worker-1\n" in full.ask("task 2")

    def test_a_task_that_is_not_among_the_oldest_is_found(self, full: Desk, many: Many) -> None:
        full.source.tasks_ = many(5000)
        full.ask("tasks worker-4999")
        del full.source.asked_for[:]
        assert full.ask("task 1").startswith("task 1: worker-4999,")
        assert full.source.asked_for == [FIRST, LOOKED_AT]
        assert full.ask("task worker-3000").startswith("task 2: worker-3000,")
        assert full.ask("task worker-9999").startswith("No task is called worker-9999, or it has ended.")

    def test_a_name_that_several_have_is_no_name(self, full: Desk, many: Many) -> None:
        full.source.tasks_ = [replace(task, name="worker") for task in many(3)]
        assert full.ask("task worker").startswith("3 tasks are called that.")

    def test_a_tree_of_awaits(self, full: Desk, many: Many) -> None:
        """What is alike is one line; a task that several await is below each of them."""
        leaves = [replace(task, coroutine="leaf") for task in many(5)]
        middle = replace(TASK, coroutine="middle", id=50, awaits=tuple(leaf.id for leaf in leaves))
        tops = [replace(TASK, coroutine=name, id=at, awaits=(50,)) for at, name in ((60, "one"), (61, "two"))]
        full.source.tasks_ = [*leaves, middle, *tops, replace(TASK, id=70)]
        said = [line.partition("  [")[0] for line in full.rows("tree")]
        below = ["  middle  Queue.get", "    5 x leaf  Queue.get"]
        alone = "1 tasks await no task and are awaited by none: see `tasks`, `waits`."
        assert said == ["one  Queue.get", *below, "two  Queue.get", "  middle  Queue.get", alone]
        assert full.rows("tree")[4].endswith("(as above)")

    def test_a_tree_shows_cycles(self, full: Desk) -> None:
        full.source.tasks_ = [
            replace(TASK, coroutine="a", id=1, awaits=(2,)),
            replace(TASK, coroutine="b", id=2, awaits=(1,)),
        ]
        assert [line.split()[0] for line in full.rows("tree")[:3]] == ["a", "b", "a"]
        assert full.rows("tree")[2].endswith("<- a cycle: it waits for itself")

    def test_a_tree_is_bounded(self, full: Desk) -> None:
        """Where each of a row of tasks awaits two of the next, paths are many."""
        full.source.tasks_ = [
            replace(TASK, coroutine=f"c{at}-{side}", id=at * 2 + side, awaits=(at * 2 + 2, at * 2 + 3))
            for at in range(40)
            for side in (0, 1)
        ]
        rows = full.rows("tree")
        assert len(rows) == 42
        assert rows[-2].startswith("... and ")

    def test_a_tree_of_creators(self, full: Desk, many: Many) -> None:
        main = replace(TASK, coroutine="main", parent=None, id=1)
        full.source.tasks_ = [
            main,
            *(replace(task, coroutine="child", parent="main") for task in many(3)),
            replace(TASK, coroutine="orphan", parent="gone", id=2),
            replace(TASK, coroutine="self", parent="self", id=3),
        ]
        said = [line.partition("  [")[0] for line in full.rows("tree of=creators")]
        by = "created by Service.handle:42"
        assert said == [
            "code outside of tasks",
            f"  main  {by}",
            f"    3 x child  {by}",
            "gone  (ended)",
            f"  orphan  {by}",
            "self",
            f"  self  {by}",
        ]

    def test_waits(self, full: Desk) -> None:
        assert full.rows("waits") == [
            "   12 wait in Lock.acquire, at shop.answers.parse (shop/answers.py:7)",
            "  held by     task 'c' (work)",
            "  waiting     task 'a' (work), task 'b' (work), and 10 more",
        ]
        assert (
            full.ask("waits nobody")
            == "No task waits for a lock, semaphore, condition, event or queue like that."
        )

    def test_leaks(self, full: Desk) -> None:
        newer = replace(
            LOST, lost_at=1_000_000.0, reason="never_awaited", age=0.0, leak=None, coroutine="dropped"
        )
        full.source.lost_ = [LOST, newer]
        _, first, second = full.rows("leaks")
        assert first.split()[1:5] == ["now", "never_awaited", "-", "dropped"]
        assert second.split()[1:7] == ["1.00", "s", "ago", "leaked", "10m", "00s"]
        full.source.lost_ = [LOST, newer, replace(LOST, lost_at=1_000_001.0)]
        answer = full.ask("leaks 2")
        assert answer.startswith("loss 2: leaked (never_wakes) Service.poll\n")
        assert "  waited for  Event.wait\n" in answer
        assert "  evidence    ages 10m 00s\n" in answer
        assert len(full.rows("leaks reason=never_awaited")) == 2
        assert full.ask("leaks 9") == "There is no loss 9 (any more). `leaks` lists them."


class TestPools:
    """Pools and executors."""

    def test_pools_the_worst_first(self, full: Desk) -> None:
        calm = replace(POOL, label="calm", pending=0, oldest_wait=0.0, timeouts=0, wait_sum=1.0, max=None)
        full.source.pools_ = [calm, POOL]
        _, first, second = full.rows("pools")
        assert first.split() == [
            "1",
            "asyncpg",
            "db:5432/shop",
            "5",
            "5",
            "0",
            "87",
            "4.20",
            "s",
            "2000",
            "3.90",
            "s",
            "3",
        ]
        assert second.split() == ["2", "asyncpg", "calm", "5", "-", "0", "0", "-", "2000", "3.90", "s", "0"]
        full.source.pools_ = [replace(calm, pending=500, oldest_wait=60.0), POOL]
        assert full.ask("pool 1").startswith("pool 1: asyncpg db:5432/shop\n")
        assert full.ask("pool").startswith("pool 2: asyncpg calm\n")

    def test_pool(self, full: Desk) -> None:
        answer = full.ask("pool")
        for said in (
            "  in use      5 of 5, 0 idle",
            "  waiting     87, the longest for 4.20 s",
            "  acquires    2000, waited 50 ms on average, p99 3.90 s, 3 timeouts, 1 cancelled",
        ):
            assert f"{said}\n" in answer
        rows = answer.split("\n")
        held = rows.index("  who has them, longest first")
        assert rows[held + 2].split() == (
            ["12.00", "s", "Task-7", "Service.work", "sleep", "shop/service.py:42", "request_id=r-9"]
        )
        assert "task has ended" in rows[held + 3]
        waits = rows.index("  who waits, longest first")
        assert rows[waits + 2].split()[:3] == ["4.20", "s", "Task-7"]


class TestRest:
    """Findings, changes, jobs, drains."""

    def test_findings(self, full: Desk) -> None:
        full.source.findings_ = [replace(FINDING, because="LW102")]
        assert full.rows("findings", 120) == [
            "LW101 critical: `json.loads` in `parse` (answers.py:7) blocked the loop 14 times, worst 612 ms.",
            "  evidence    stalls 14, worst 612 ms",
            "  fix         Move it to a process pool: a thread does not help, since the GIL is held.",
            "  because of  LW102, mend that first",
            "  seen        14 times, first 1m 00s ago, last 1.00 s ago",
            "  docs        https://example.org/rules/LW101",
        ]
        full.source.findings_ = [replace(FINDING, count=1, last_seen=1_000_000.0)]
        assert full.rows("findings", 120)[-2] == "  seen        once, first 1m 00s ago, last now"
        assert full.ask("findings severity=info") == "No finding is like that."

    def test_top_is_about_the_time_since_the_last_one(self, desk: Desk) -> None:
        def count(created: float, blocked: float, late: int, waits: int) -> None:
            desk.source.points = {
                "loop_time": (Point(("main", "active"), created), Point(("main", "idle"), 3 * created)),
                "delay": (Point(("main",), Distribution((0.01, 0.1), (late, 10, 0), 1.0)),),
                "block_time": (Point(("main", "shop.parse", "cpu"), blocked),),
                "task_created": (Point(("shop.handle",), created),),
                "task_finished": (Point(("ok", "shop.handle"), created / 2),),
                "task_site_count": (Point(("shop.handle",), created / 2),),
            }
            desk.source.pools_ = [replace(POOL, wait_count=waits, wait_sum=waits / 10)]

        count(100, 2.0, 5, 50)
        desk.time.advance(10)
        answer = desk.ask("top")
        assert answer.startswith("Changes in 10.00 s, since loopwatch was installed;")
        assert "main   25%" in answer
        count(400, 2.5, 5, 70)
        desk.time.advance(20)
        rows = [row.split() for row in desk.rows("top")]
        assert desk.rows("top")[0].startswith("Changes in 20.00 s, since an earlier look;")
        assert ["500", "ms", "2%", "cpu", "shop.parse", "main"] in rows
        assert ["15", "7.5", "0", "0", "200", "+150", "shop.handle"] in rows
        assert ["1", "2.00", "s", "100", "ms", "0", "asyncpg", "db:5432/shop"] in rows
        assert "main   25%" not in desk.ask("top")  # nothing of its delay was counted since
        assert desk.ask("top 30").startswith("Changes in 30.00 s, since loopwatch was installed;")
        assert "shop.handle" not in desk.ask("top parse")

    def test_looks_are_bounded_and_not_too_close(self, desk: Desk) -> None:
        for _ in range(200):
            desk.commands.look()
            desk.time.advance(APART / 2)
        desk.time.advance(1)
        assert desk.ask("top 1000000").startswith("Changes in 1m 41s, since loopwatch was installed;")
        assert desk.ask("top 40").startswith("Changes in 30.00 s, since an earlier look;")

    @pytest.mark.parametrize("line", ["top 0", "top 1x", "top 9e99", "top 1e999"])
    def test_top_of_no_time(self, desk: Desk, line: str) -> None:
        assert desk.ask(line) in (
            "top [SECONDS] [TEXT], such as `top 60`.",
            "That is no number of seconds: give 1 or more.",
        )

    def test_jobs(self, full: Desk) -> None:
        full.source.points = {"jobs": (Point(("running",), 1.0), Point(("ok",), 7.0))}
        assert full.ask("jobs") == "1 running, 7 ok"
        full.source.tasks_ = [TASK, replace(TASK, job=True, name="job", id=12)]
        assert "job" in full.rows("jobs")[2]
        assert len(full.rows("jobs")) == 3

    def test_drain_shows_and_drains_nothing(self, full: Desk) -> None:
        full.source.points = {
            "drain_status": (Point(("serving",), 0.0), Point(("draining",), 0.0), Point(("forced",), 1.0))
        }
        rows = full.rows("drain")
        assert rows[:3] == [
            "The process is forced.",
            "the last drain: 0 finished, 1 cancelled, 0 abandoned, in 8.00 s of 8.00 s",
            "cancelled:",
        ]
        assert rows[4].split()[:4] == ["-", "1m", "40s", "left"]


def test_frames_around_the_culprit_are_shown_and_the_others_counted(full: Desk) -> None:
    library = tuple(Frame(f"deep_{depth}", "library", "/lib/library.py", depth) for depth in range(40))
    full.source.stalls_ = [replace(STALL, stack=(*library, PARSE, LOADS))]
    rows = full.rows("stall")
    assert "  (7 of 42 frames; innermost last)" in rows
    assert rows[-2].split()[:2] == [">", "shop.answers.parse"]
