"""What ``loopwatch demo`` prints for what an agent says. The agent here is a stand-in with a script."""

import dataclasses
import io
import threading

import pytest
from rich.console import Console

from loopwatch import _words
from loopwatch._agent_records import Finding, Loop, Lost, Pool, Snapshot, Stall
from loopwatch._cli import demo_text
from loopwatch._cli.demo_view import STATUS_EVERY, View
from loopwatch._clock import Clock
from loopwatch._measures import Distribution, Point
from loopwatch._records import DrainReport, Frame
from tests.records import borrower, lost, pool, stall, task

LOOP = Loop(
    name="main",
    kind="asyncio",
    running=True,
    delay_p50=0.0012,
    delay_p99=0.25,
    delay_max=1.5,
    utilization=0.42,
    iterations=100,
    blocked=0.0,
    ready=3,
    timers=5,
)
HANDLE = Frame("Handle._run", "asyncio.events", "/usr/lib/python3/asyncio/events.py", 88)
WORK = Frame("Service.work", "shop.service", "/srv/shop/service.py", 40)
PARSE = Frame("parse", "shop.answers", "/srv/shop/answers.py", 12)
LOADS = Frame("loads", "json", "/usr/lib/python3/json/__init__.py", 346)
METRICS = "   0.0 s  metrics at http://127.0.0.1:9/metrics\n"
STALL = stall(
    0.312,
    started_at=1000.0,
    culprit=PARSE,
    call="json.loads",
    stack=(HANDLE, WORK, PARSE, LOADS),
    task_name="Task-7",
    coroutine="Service.work",
    evidence={"cpu_s": 0.31, "gc_s": 0.0, "late_s": 0.0001},
    samples=14,
)


SPAWN = Frame("Service.spawn", "shop.service", "/srv/shop/service.py", 60)
LOST = lost(
    "unretrieved_exception",
    site=SPAWN,
    coroutine="Service.work",
    age=2.5,
    lost_at=1000.0,
    exception="KeyError",
    context={"request_id": "r-1"},
    trace_id="4bf92f",
    span_id="00f067",
    await_stack=(WORK, PARSE, LOADS),
    task_name="Task-9",
)
CONTEXT = dataclasses.replace(
    LOST, reason="context_lost", exception=None, missing=("request_id",), await_stack=(WORK,), task_name=None
)
LEFT = task(
    12.0,
    site=SPAWN,
    coroutine="Service.work",
    name="Task-11",
    started_at=990.0,
    context={"request_id": "r-2"},
    await_stack=(WORK, LOADS),
    waiting_on="Lock.acquire",
)
POOL = pool(
    "httpcore",
    "shop.llm:7",
    max=5,
    used=5,
    pending=87,
    oldest_wait=4.2,
    wait_count=120,
    wait_sum=200.0,
    wait_p99=4.5,
    timeouts=13,
    borrowers=(
        borrower(
            12.0,
            task_name="Task-7",
            coroutine="Service.work",
            site=WORK,
            context={"request_id": "r-9"},
            await_stack=(WORK,),
        ),
    ),
)


class ScriptedAgent:
    """Says what the test told it to."""

    prometheus_url: str | None = "http://127.0.0.1:9/metrics"

    def __init__(self) -> None:
        self.said: list[Stall] = []
        self.watched: list[Loop] = [LOOP]
        self.told_lost: list[Lost] = []
        self.drained: list[DrainReport] = []
        self.pooled: list[Pool] = []
        self.points: dict[str, tuple[Point, ...]] = {}
        self.found: list[Finding] = []

    def loops(self) -> list[Loop]:
        return self.watched

    def stalls(self) -> list[Stall]:
        return self.said

    def lost(self) -> list[Lost]:
        return self.told_lost.copy()

    def drains(self) -> list[DrainReport]:
        return self.drained

    def pools(self) -> list[Pool]:
        return self.pooled

    def snapshot(self) -> Snapshot:
        return Snapshot(
            0.0,
            "shop",
            self.points,
            tuple(self.watched),
            tuple(self.said),
            tuple(self.told_lost),
            findings=tuple(self.found),
        )


class Screen:
    """A view, its scripted agent, its clock, and what it has printed."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.now = 0.0
        self.agent = ScriptedAgent()
        self._file = io.StringIO()
        console = Console(file=self._file, width=120, force_terminal=terminal, color_system=None)
        self.view = View(self.agent, console, Clock(monotonic=lambda: self.now))

    @property
    def text(self) -> str:
        return self._file.getvalue()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_first_of_a_kind_comes_with_its_stack(screen: Screen) -> None:
    """The culprit is marked, the loop's own frames are left out, the evidence is there."""
    screen.now = 4.2
    screen.agent.said = [STALL]
    screen.view.step()
    assert "   4.2 s  main stalled 312 ms  cpu  shop.answers.parse in json.loads\n" in screen.text
    assert "> shop.answers.parse         shop/answers.py:12" in screen.text
    assert "  shop.service.Service.work  shop/service.py:40" in screen.text
    assert "Handle._run" not in screen.text
    assert "task Task-7, coroutine Service.work" in screen.text
    assert "evidence: cpu 310 ms, 14 stacks taken" in screen.text


def test_each_stall_is_told_once_and_the_next_of_its_kind_in_a_line(screen: Screen) -> None:
    """A look at the same stalls prints nothing; a second one of the same culprit has no stack."""
    screen.agent.said = [STALL]
    screen.view.step()
    before = screen.text
    screen.view.step()
    assert screen.text == before
    screen.agent.said.append(dataclasses.replace(STALL, started_at=1001.0, duration=0.4))
    screen.view.step()
    assert screen.text.removeprefix(before).count("\n") == 1


def test_stall_in_progress_is_told_of_once_for_each_culprit(screen: Screen) -> None:
    """It shows before it ends, and again with what is known then."""
    screen.agent.said = [dataclasses.replace(STALL, in_progress=True, duration=0.2)]
    screen.view.step()
    screen.view.step()
    line = "   0.0 s  main has been stalled for 200 ms  cpu  shop.answers.parse in json.loads\n"
    assert screen.text.removeprefix(METRICS) == line
    screen.agent.said = [STALL, dataclasses.replace(STALL, in_progress=True, started_at=1001.0)]
    screen.view.step()
    assert "main stalled 312 ms" in screen.text
    assert screen.text.count("has been stalled") == 1


def test_pool_that_falls_short_is_told_once_with_who_has_it(screen: Screen) -> None:
    """Not while callers only just miss each other; in the summary, with those that gave up."""
    screen.agent.pooled = [dataclasses.replace(POOL, oldest_wait=0.01)]
    screen.view.step()
    assert screen.text == METRICS
    screen.agent.pooled = [POOL]
    screen.view.step()
    screen.view.step()
    assert screen.text.removeprefix(METRICS).split("\n", 1)[0] == (
        "   0.0 s  httpcore pool shop.llm:7: 5 of 5 used, 87 wait, the oldest for 4.20 s"
    )
    told = "held for 12.00 s by task Task-7, Service.work, request_id r-9, stands at shop/service.py:40"
    assert " ".join(screen.text.split()).count(told) == 1
    screen.view.summary()
    row = next(line for line in screen.text.splitlines() if line.startswith("  shop.llm:7"))
    assert row.split() == ["shop.llm:7", "httpcore", "5", "5", "87", "120", "4.50", "s", "13"]


def test_health_is_told_now_and_then(screen: Screen) -> None:
    """Piped, a line on the loops and the clients comes every few seconds, and not more often."""
    screen.view.hear("7 sent")
    screen.view.step()
    assert screen.text == METRICS
    screen.now = STATUS_EVERY
    screen.view.step()
    screen.view.step()
    line = "   5.0 s  main: delay p50 1.2 ms, p99 250 ms, max 1.50 s, 42% busy (clients: 7 sent)\n"
    assert screen.text.removeprefix(METRICS) == line


def test_summary_counts_by_culprit(screen: Screen) -> None:
    """Stalls with function, call and cause in common are one row, the costliest first."""
    sleep = dataclasses.replace(STALL, started_at=1002.0, cause="blocking", call="time.sleep", duration=2.0)
    screen.agent.said = [STALL, dataclasses.replace(STALL, started_at=1001.0, duration=0.4), sleep]
    screen.view.summary()
    rows = [line.split() for line in screen.text.splitlines() if line.startswith("  shop.answers.parse")]
    assert rows == [
        ["shop.answers.parse", "12", "time.sleep", "blocking", "1", "2.00", "s", "2.00", "s"],
        ["shop.answers.parse", "12", "json.loads", "cpu", "2", "712", "ms", "400", "ms"],
    ]


def test_first_loss_of_a_kind_comes_with_its_stack_and_others_are_counted(screen: Screen) -> None:
    """Whose it was, its age and where it stood are there, the program's own frame marked."""
    screen.now = 4.2
    screen.agent.told_lost = [LOST]
    screen.view.step()
    told = (
        "   4.2 s  lost unretrieved_exception  Service.work created by shop.service.Service.spawn: KeyError\n"
    )
    assert told in screen.text
    whose = "created at shop/service.py:60, 2.50 s before, task Task-9, request_id r-1, trace 4bf92f"
    assert whose in screen.text
    assert "> shop.answers.parse         shop/answers.py:12" in screen.text
    before = screen.text
    screen.view.step()
    screen.agent.told_lost += [dataclasses.replace(LOST, age=float(age)) for age in range(199)]
    screen.view.step()
    del screen.agent.told_lost[:100]  # the agent keeps but the last
    screen.agent.told_lost.append(dataclasses.replace(LOST))
    screen.view.step()
    assert screen.text == before
    screen.view.summary()
    (row,) = [line.split() for line in screen.text.splitlines() if line.startswith("  Service.work")]
    assert row == ["Service.work", "unretrieved_exception", "KeyError", "Service.spawn", "60", "201"]


def test_count_is_marked_where_the_agent_counted_more(screen: Screen) -> None:
    """Of a burst it keeps but the last."""
    screen.agent.told_lost = [LOST]
    screen.agent.points = {"task_lost": (Point(("unretrieved_exception",), 97),)}
    screen.view.summary()
    (row,) = [line.split() for line in screen.text.splitlines() if line.startswith("  Service.work")]
    assert row[-1] == "1+"
    assert "  lost in all: 97 unretrieved_exception\n" in screen.text


def test_contexts_lost_are_told_by_who_handed_over_and_counted_by_the_agent(screen: Screen) -> None:
    seen_elsewhere = dataclasses.replace(CONTEXT, coroutine="Order", await_stack=(PARSE,))
    screen.agent.told_lost = [CONTEXT, seen_elsewhere]
    screen.agent.points = {
        "task_lost": (Point(("context_lost",), 2), Point(("leaked",), 0)),
        "task_context_lost": (Point(("shop.service.Service.spawn",), 60),),
    }
    screen.now = STATUS_EVERY
    screen.view.step()
    line = "Service.work runs without request_id, handed over by shop.service.Service.spawn"
    assert screen.text.count("lost context_lost  ") == screen.text.count(line) == 1
    assert "; lost so far: 60 context_lost\n" in screen.text
    screen.view.summary()
    (row,) = [line.split() for line in screen.text.splitlines() if line.startswith("  Service.work")]
    assert row == ["Service.work", "context_lost", "request_id", "Service.spawn", "60", "60"]
    assert "  lost in all: 60 context_lost\n" in screen.text


def test_summary_counts_tasks_by_who_created_them(screen: Screen) -> None:
    """Those that created most, ten of them live."""
    few = Point(("shop.app.start",), 1)
    spawned = "shop.service.Service.spawn"
    screen.agent.points = {
        "task_created": (few, Point((spawned,), 500)),
        "task_site_count": (few, Point((spawned,), 10)),
        "task_finished": (Point(("ok", spawned), 480), Point(("error", spawned), 10)),
        "task_duration": (Point((spawned,), Distribution((0.1, 1.0), (490, 0, 0), 9.8)),),
    }
    screen.view.summary()
    rows = [line.split() for line in screen.text.splitlines() if line.startswith("  shop.")]
    assert rows == [
        [spawned, "10", "500", "480", "10", "0", "99", "ms"],
        ["shop.app.start", "1", "1", "0", "0", "0", "-"],
    ]


def test_summary_names_what_a_drain_left(screen: Screen) -> None:
    """Tasks alike are one line, with where they stood and whose the oldest is; of none left it says so."""
    younger = dataclasses.replace(LEFT, age=1.0, context={"request_id": "r-3"})
    screen.agent.drained = [
        DrainReport(finished=(LEFT,), cancelled=(), abandoned=(), duration=0.2, timeout=8.0),
        DrainReport(finished=(), cancelled=(LEFT,), abandoned=(LEFT, younger), duration=8.0, timeout=8.0),
    ]
    screen.view.summary()
    assert "  at shutdown no work was left: 1 finished in 200 ms\n" in screen.text
    left = "  at shutdown, after 8 s for it to end, work was left: 0 finished, 1 cancelled, 2 abandoned\n"
    assert left in screen.text
    line = (
        "    2 abandoned  Service.work created by shop.service.Service.spawn, stood at shop/service.py:40, "
        "the oldest for 12.00 s: task Task-11, request_id r-2\n"
    )
    assert line in screen.text
    assert line.replace("2 abandoned", "1 cancelled") in screen.text


def test_summary_of_a_good_run_and_of_no_agent(screen: Screen) -> None:
    """Nothing found differs from nothing watched."""
    screen.view.summary()
    assert "no stall, and nothing was lost" in screen.text
    assert screen.text.endswith("What is wrong, and what to do:\n  nothing was found\n")
    screen.agent.watched = []
    screen.view.summary()
    assert screen.text.endswith("watches no event loop\n")


FOUND = Finding(
    rule="LW101",
    severity="critical",
    summary="`json.loads` in `parse` blocked the event loop 14 times",
    evidence={"stalls": 14.0, "worst_s": 0.612, "gc_s": 0.0},
    fix="move it to a process pool",
    first_seen=1.0,
    last_seen=2.0,
    count=14,
    docs_url="docs/rules/LW101.md",
    key=("shop.answers.parse", "json.loads"),
)
POOL_FOUND = dataclasses.replace(
    FOUND, rule="LW301", severity="warning", summary="the pool is full", key=("httpx",), because="LW101"
)
LOST_FOUND = dataclasses.replace(POOL_FOUND, rule="LW201", summary="a task was lost", because=None, more=2)


def test_a_finding_is_told_once_as_it_begins(screen: Screen) -> None:
    screen.now = 6.0
    screen.agent.found = [FOUND]
    screen.view.step()
    assert (
        "   6.0 s  LW101 critical  `json.loads` in `parse` blocked the event loop 14 times\n" in screen.text
    )
    before = screen.text
    screen.now = 12.0
    screen.agent.found = [dataclasses.replace(FOUND, count=20), POOL_FOUND]
    screen.view.step()
    told = [line for line in screen.text.removeprefix(before).splitlines() if "LW" in line]
    assert told == ["  12.0 s  LW301 warning  the pool is full"]


def test_the_summary_ends_with_what_is_wrong_in_order(screen: Screen) -> None:
    screen.agent.found = [FOUND, POOL_FOUND, LOST_FOUND]
    screen.view.summary()
    assert screen.text.partition("What is wrong, and what to do:\n")[2].splitlines() == [
        "   1. LW101 critical  `json.loads` in `parse` blocked the event loop 14 times",
        "      stalls 14, worst 612 ms",
        "      what to do: move it to a process pool (docs/rules/LW101.md)",
        "      because of that: LW301 warning  the pool is full",
        "      stalls 14, worst 612 ms",
        "      what to do: move it to a process pool (docs/rules/LW101.md)",
        "   2. LW201 warning  a task was lost (and 2 more like it)",
        "      stalls 14, worst 612 ms",
        "      what to do: move it to a process pool (docs/rules/LW101.md)",
    ]


def test_terminal_gets_a_live_table() -> None:
    """It shows loops, what is stalled right now, and who did it so far; the end takes it away."""
    screen = Screen(terminal=True)
    ended = Ends(after=2)
    screen.agent.said = [STALL, dataclasses.replace(STALL, started_at=1001.0, in_progress=True, call=None)]
    screen.view.run(ended)
    assert "blocked now" in screen.text
    assert "main has been stalled for 312 ms  cpu  shop.answers.parse\n" in screen.text
    assert "stalled by" in screen.text


class Ends(threading.Event):
    """Is set at the given look."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        self._left -= 1
        return self._left < 0


def test_long_stack_is_cut_around_the_culprit() -> None:
    """What called it and what it called stay, however deep the library below it is."""
    library = [Frame(f"deep_{depth}", "library", "/lib/library.py", depth) for depth in range(40)]
    shown = _words.frames_shown((*library, WORK, PARSE, LOADS, *library), PARSE)
    assert len(shown) == _words.STACK_SHOWN
    assert {WORK, PARSE, LOADS} <= set(shown)
    assert _words.frames_shown((WORK, *library), None)[-1] == library[-1]


def test_what_is_not_known_is_a_dash() -> None:
    """No delay yet, no culprit seen, no ready count: none of them turns into a number."""
    assert _words.span(None) == "-"
    unseen = dataclasses.replace(STALL, culprit=None, call=None, stack=(), samples=0)
    assert "(no application code seen)" in demo_text.headline(unseen).plain
    loop = dataclasses.replace(LOOP, delay_p50=None, utilization=None, ready=None, timers=None)
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as captured:
        console.print(demo_text.loops_table([loop]))
    assert captured.get().splitlines()[-1].split() == [
        "main", "asyncio", "-", "-", "250", "ms", "1.50", "s", "no", "-", "-",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0012, "1.2 ms"), (0.0123, "12 ms"), (0.999, "999 ms"), (1.5, "1.50 s")]
)
def test_spans_are_short(seconds: float, text: str) -> None:
    assert _words.span(seconds) == text
