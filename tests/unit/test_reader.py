"""What is kept becomes points: each with its value, or none where nothing is known."""

import asyncio
import contextlib
import platform
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from dataclasses import replace
from itertools import cycle, pairwise
from typing import Any

import pytest

import loopwatch
from loopwatch import facts
from loopwatch._agent_records import Stall
from loopwatch._collectors.jobs import JobCounts
from loopwatch._collectors.loops import LoopHealth
from loopwatch._collectors.losses import Losses
from loopwatch._collectors.own import Own
from loopwatch._collectors.pools.census import PoolCensus
from loopwatch._collectors.pools.hub import Hub
from loopwatch._collectors.stalls import Stalls
from loopwatch._collectors.tasks import TaskCensus
from loopwatch._context.handover import HANDED, HandOver
from loopwatch._context.lost_contexts import LostContexts
from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal
from loopwatch._probes.tasks import TaskProbe
from loopwatch._reader import Reader
from loopwatch._records import DrainReport, Frame
from loopwatch._rules.rule import BY_FUNCTION
from loopwatch._store.jobs import JOBS
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._store.lost_log import LostLog
from loopwatch._store.pools import Pools
from loopwatch._store.stall_log import StallLog
from loopwatch._store.unread import Unread
from loopwatch.testing import FakeClock
from tests import records


class Desk:
    """A reader over a store that the test fills."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.fake = FakeClock()
        self.states, self.log, self.loop = LoopStates(), StallLog(), loop
        own = Own(
            overhead={"watchdog": lambda: 0.5},
            dropped={"stalls": lambda: 3},
            internal_errors=lambda: {"gc": 2},
            log_suppressed=lambda: 7,
            unwatched=lambda: {"own_time": 1},
        )
        self.journal = Journal()
        contexts = ContextReader(self.journal)
        self.drains: list[DrainReport] = []
        self.lost_log, self.lost_contexts = LostLog(), LostContexts(contexts, self.fake.clock)
        pools = Pools()
        hub = Hub((), pools, lambda file, module: "app", self.fake.clock, Journal())
        self.reader = Reader(
            "shop",
            self.fake.clock,
            self.journal,
            LoopHealth(self.states, self.fake.clock, own_timers=lambda loop: 1),
            Stalls(self.states, self.log, in_progress=list),
            TaskCensus(self.states, contexts, self.fake.clock, Unread(self.journal)),
            Losses(self.states, self.lost_log, self.lost_contexts),
            JobCounts(self.drains),
            PoolCensus(pools, hub, contexts, self.fake.clock),
            (own,),
        )

    def claim(self, *, has_selector: bool = True) -> LoopState:
        state = self.states.claim(self.loop, "asyncio" if has_selector else "uvloop", has_selector)
        assert state is not None
        return state

    def points(self, stem: str) -> dict[tuple[str, ...], Any]:
        return {point.labels: point.value for point in self.reader.snapshot().points.get(stem, ())}


@pytest.fixture
def desk() -> Iterator[Desk]:
    JOBS.clear()  # of jobs and drains of other tests, which are the process's
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        yield Desk(loop)


def stall(seconds: float, function: str | None = "parse") -> Stall:
    return records.stall(seconds, culprit=Frame(function, "shop", "shop.py", 1) if function else None)


def test_without_a_loop_it_tells_of_itself_alone(desk: Desk) -> None:
    snapshot = desk.reader.snapshot()
    assert (snapshot.service_name, snapshot.taken_at) == ("shop", desk.fake.wall())
    assert (snapshot.loops, snapshot.stalls) == ((), ())
    of_process = {"task_count", "task_lost", "task_leaked", "jobs", "drain_status"}
    of_process |= {"drain_finished", "drain_cancelled", "drain_abandoned"}
    of_ourselves = {"overhead", "dropped", "internal_errors", "log_suppressed", "unwatched"}
    assert snapshot.points.keys() == of_process | of_ourselves
    assert desk.points("overhead") == {("watchdog",): 0.5}
    assert desk.points("dropped") == {("stalls",): 3}
    assert desk.points("internal_errors") == {("gc",): 2}
    assert desk.points("log_suppressed") == {(): 7}
    assert desk.points("unwatched") == {("own_time",): 1}


OF_POOLS = ("asyncio.pool.", "asyncio.executor.", "db.client.", "http.client.", "loopwatch.reader.")
"""How facts begin that need a library to be bound to."""


def create_task(desk: Desk, state: LoopState) -> asyncio.Task[Any]:
    """Return a recorded task of the desk's loop. It runs only if that does."""
    probe = TaskProbe(state.tasks, ContextReader(Journal()), desk.fake.clock, Journal())
    task = desk.loop.create_task(asyncio.sleep(0))
    probe.adopt_all(desk.loop)
    return task


def test_tasks_stand_in_the_order_of_their_creation_however_the_clocks_are_read(desk: Desk) -> None:
    state = desk.claim()
    tasks = []
    for _ in range(5):
        tasks.append(create_task(desk, state))
        desk.fake.advance(1e-5)
    errors = cycle((0.0005, 0.0))  # of a reading: from one to the next another thread may run
    clock = replace(desk.fake.clock, wall=lambda: desk.fake.wall() + next(errors))
    found = TaskCensus(desk.states, ContextReader(desk.journal), clock, Unread(desk.journal)).records(10)
    assert [task.name for task in found] == [task.get_name() for task in tasks]
    began = [task.started_at for task in found]
    assert [after - before for before, after in pairwise(began)] == pytest.approx([1e-5] * 4, abs=1e-6)
    desk.loop.run_until_complete(asyncio.gather(*tasks))


def lose_context(losses: LostContexts) -> None:
    """Hand work over to a context that lacks a variable."""
    variable: ContextVar[str] = ContextVar("request_id")
    loopwatch.watch_var(variable)
    place = (lose_context.__code__, 0, __name__)

    def hand_over() -> HandOver | None:
        variable.set("r-1")
        return losses.hand_over(lambda: place, print)

    handed = copy_context().run(hand_over)
    losses.notice(lambda: place, "work", {HANDED: handed}.get)


def test_all_points_have_the_labels_their_fact_declares(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    state = desk.claim()
    task = create_task(desk, state)
    lose_context(desk.lost_contexts)
    desk.lost_log.add(records.lost("unretrieved_exception"))
    monkeypatch.setattr(JOBS, "drain_duration", 1.0)
    state.enter(desk.fake.monotonic(), 0.0)
    state.runqueue_time = 0.5
    state.gc_pause[2] = type(state.delay)()
    state.add_stall(stall(0.5))
    points = desk.reader.snapshot().points
    read = {fact.stem for fact in facts.ALL if not fact.name.startswith(OF_POOLS)}
    assert points.keys() == read - {"worker_up", "finding_count"}  # added by the endpoint, and by the rules
    for stem, found in points.items():
        assert {len(point.labels) for point in found} == {len(facts.BY_STEM[stem].labels)}
    desk.loop.run_until_complete(task)


def test_a_glance_has_all_but_what_is_told_apart_by_function(desk: Desk) -> None:
    state = desk.claim()
    task = create_task(desk, state)
    glance = desk.reader.glance().points
    whole = desk.reader.snapshot().points
    assert whole.keys() - glance.keys() == BY_FUNCTION
    assert glance["task_count"] == whole["task_count"]
    assert [point.value for point in glance["task_count"]] == [1]
    desk.loop.run_until_complete(task)


def test_who_glances_leaves_it_open_which_functions_are_the_largest(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first who reads finds the largest: at the start, they would be the first."""
    desk.claim()
    monkeypatch.setattr(TaskCensus, "_count", None)
    assert "task_count" in desk.reader.glance().points
    assert desk.journal.failures() == {}
    assert "task_count" not in desk.reader.snapshot().points
    assert desk.journal.failures() == {"reader": 1}


def test_a_running_loop_is_shown_as_it_is_now(desk: Desk) -> None:
    state = desk.claim()
    state.cpu_clock = 70
    state.enter(desk.fake.monotonic(), 0.0)
    desk.fake.advance(2.0)
    state.idle_time, state.busy_since = 1.5, desk.fake.monotonic()
    state.iterations = 11
    desk.fake.spend(0.25, clock_id=70)
    desk.fake.advance(0.5)
    desk.loop.call_later(60, print)
    desk.loop.call_soon(print)
    [loop] = desk.reader.loops()
    assert (loop.name, loop.kind, loop.running) == ("main", "asyncio", True)
    assert (loop.blocked, loop.delay_max, loop.iterations) == (0.5, 0.5, 11)
    assert loop.utilization == pytest.approx(1.0 / 2.5)
    assert (loop.ready, loop.timers) == (1, 0)  # one timer is ours
    assert desk.points("loop_time") == {("main", "active"): 1.0, ("main", "idle"): 1.5}
    assert desk.points("cpu_time") == {("main",): 0.25}
    assert desk.points("last_tick") == {("main",): desk.fake.wall() - 2.5}
    assert desk.points("info") == {("main", "asyncio", platform.python_version(), loopwatch.__version__): 1.0}


def test_a_wait_going_on_is_idle_up_to_when_it_is_due(desk: Desk) -> None:
    state = desk.claim()
    state.enter(desk.fake.monotonic(), 0.0)
    state.waiting_since, state.busy_since = desk.fake.monotonic(), desk.fake.monotonic() + 0.05
    desk.fake.advance(0.04)
    assert desk.points("loop_time")["main", "idle"] == pytest.approx(0.04)
    desk.fake.advance(0.06)
    assert desk.points("loop_time")["main", "idle"] == pytest.approx(0.05)
    assert desk.points("loop_time")["main", "active"] == pytest.approx(0.05)
    assert desk.points("blocked") == {("main",): pytest.approx(0.05)}


def test_counters_do_not_fall_when_writers_are_halfway(desk: Desk) -> None:
    state = desk.claim()
    state.enter(desk.fake.monotonic(), 0.0)
    desk.fake.advance(10.0)
    assert desk.points("loop_time")["main", "active"] == 10.0
    state.entered_at = None  # leaving: the run is not booked yet
    assert desk.points("loop_time")["main", "active"] == 10.0
    state.active_time += 10.0
    assert desk.points("loop_time")["main", "active"] == 10.0


def test_a_loop_without_a_selector_shows_what_was_sampled_or_nothing(desk: Desk) -> None:
    state = desk.claim(has_selector=False)
    state.enter(desk.fake.monotonic(), 0.0)
    desk.fake.advance(1.0)
    for _ in range(2):
        assert not {"loop_time", "iterations"} & desk.reader.snapshot().points.keys()
    [loop] = desk.reader.loops()
    assert (loop.utilization, loop.iterations) == (None, None)
    state.active_time, state.idle_time = 0.25, 0.75
    assert desk.points("loop_time") == {("main", "active"): 0.25, ("main", "idle"): 0.75}


def test_a_closed_loop_keeps_its_counters_and_is_not_there(desk: Desk) -> None:
    state = desk.claim()
    state.iterations = 5
    desk.loop.close()
    points = desk.reader.snapshot().points
    assert "info" not in points
    assert desk.points("iterations") == {("main",): 5}


def test_what_the_system_does_not_offer_is_absent(desk: Desk) -> None:
    desk.claim()
    points = desk.reader.snapshot().points
    assert not {"runqueue_time", "last_tick", "gc_pause", "block_time"} & points.keys()


def test_time_lost_is_shown_by_function_up_to_twenty(desk: Desk) -> None:
    state = desk.claim()
    for number in range(25):
        state.add_stall(stall(2.0, f"work{number}"))
    state.add_stall(stall(0.25, None))
    points = desk.points("block_time")
    assert len(points) == facts.TOP + 1
    assert points["main", facts.OTHER, "cpu"] == 10.25
    assert sum(points.values()) == 50.25
    assert desk.points("block_duration")["main",].count == 26


def test_stalls_are_the_last_that_were_told(desk: Desk) -> None:
    for number in range(300):
        desk.log.add(stall(float(number)))
    assert [each.duration for each in desk.reader.stalls()] == [float(number) for number in range(44, 300)]
    desk.log.clear()
    assert desk.reader.stalls() == ()


@pytest.mark.parametrize("collector", [LoopHealth, Stalls, TaskCensus, Losses, JobCounts, Own])
def test_a_collector_that_breaks_hides_nothing_but_its_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, collector: type, caplog: pytest.LogCaptureFixture
) -> None:
    """Halfway through, too: of its facts there are none, rather than some."""
    desk.claim().add_stall(stall(0.5))
    said = {fact for fact, _, _ in sources(desk)[collector].measures(desk.fake.monotonic())}
    before = desk.reader.snapshot().points.keys()
    measures = collector.measures  # type: ignore[attr-defined]

    def broken(self: Any, now: float) -> Iterator[Any]:
        yield next(iter(measures(self, now)))
        raise ZeroDivisionError

    monkeypatch.setattr(collector, "measures", broken)
    assert said
    for _ in range(2):
        assert desk.reader.snapshot().points.keys() == before - said
    assert desk.journal.failures() == {"reader": 2}
    assert len(caplog.records) == 1


def sources(desk: Desk) -> dict[type, Any]:
    return {type(source): source for source in desk.reader._sources}


@pytest.mark.parametrize(
    ("collector", "view"),
    [
        (LoopHealth, "loops"),
        (Stalls, "stalls"),
        (Losses, "lost"),
        (JobCounts, "drains"),
        (TaskCensus, "tasks"),
    ],
)
def test_a_view_that_breaks_is_empty_and_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, collector: type, view: str
) -> None:
    def broken(self: Any, *args: object) -> tuple[Any, ...]:
        raise ZeroDivisionError

    desk.log.add(stall(0.5))
    monkeypatch.setattr(collector, "records", broken)
    asked = getattr(desk.reader, view)
    assert (asked(10) if view == "tasks" else asked()) == ()
    assert desk.journal.failures() == {"reader": 1}
    assert len(desk.reader.snapshot().stalls) == (view != "stalls")
