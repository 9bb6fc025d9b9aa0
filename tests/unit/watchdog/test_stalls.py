"""One loop followed tick by tick, with time turned by hand and frames that stand still."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from loopwatch._agent_records import Stall
from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal
from loopwatch._store.loop_state import NEVER, LoopState
from loopwatch._store.pauses import Pauses
from loopwatch._watchdog.code_owner import CodeOwner
from loopwatch._watchdog.evidence import Evidence, System
from loopwatch._watchdog.lateness import Lateness
from loopwatch._watchdog.stalls import STILL, Tracker, Witness
from loopwatch.testing import FakeClock

CPU_CLOCK = 70


def run_forever(callback: Callable[[], FrameType]) -> FrameType:
    """Stand for the frame that runs the loop."""
    return callback()


def works() -> FrameType:
    return sys._getframe()


def works_too() -> FrameType:
    return sys._getframe()


def waits() -> FrameType:
    return sys._getframe(1)


class Scene:
    """A loop that is said to do things, and a watchdog that looks when told to."""

    def __init__(self, root: Path, loop: asyncio.AbstractEventLoop, *, has_selector: bool) -> None:
        self.fake = FakeClock()
        self.state = LoopState("main")
        self.state.attach(loop, "asyncio" if has_selector else "uvloop", has_selector)
        self.state.cpu_clock = CPU_CLOCK
        self.state.boundary = run_forever.__code__
        self.state.beat_interval = 0.02
        self.told: list[Stall] = []
        self.pauses = Pauses()
        self.lateness = Lateness(self.fake.clock, run_forever.__code__, lambda native_id: None)
        self.system = System(root)
        witness = Witness(
            clock=self.fake.clock,
            threshold=0.1,
            pauses=self.pauses,
            lateness=self.lateness,
            evidence=Evidence(self.fake.clock, self.system),
            owner=CodeOwner(),
            contexts=ContextReader(Journal()),
            tell=self.told.append,
        )
        self.tracker = Tracker(self.state, witness)

    @property
    def now(self) -> float:
        return self.fake.monotonic()

    def enter(self) -> None:
        self.state.enter(self.now, self.fake.thread_cpu())

    def step_begins(self) -> float:
        self.state.busy_since = self.now
        return self.now

    def step_ends(self, *, in_callback: bool = True) -> None:
        self.state.end_stall(self.state.busy_since, self.now, in_callback)
        self.step_begins()

    def tick(
        self,
        doing: Callable[[], FrameType] = works,
        *,
        after: float = 0.0,
        cpu: float = 0.0,
        waited: bool = False,
    ) -> None:
        """Let time pass, of which the loop's thread computes ``cpu``, and look, which ``waited`` or not."""
        self.fake.advance(after)
        self.fake.spend(cpu, clock_id=CPU_CLOCK)
        self.tracker.note()
        self.lateness.waited = waited
        self.tracker.look(self.now, run_forever(doing))
        self.tracker.settle()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def scene(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> Scene:
    scene = Scene(tmp_path, loop, has_selector=True)
    scene.enter()
    return scene


class TestExact:
    """A loop with a selector tells when each step begins and ends."""

    def test_a_long_step_is_sampled_and_told_once_when_it_is_over(self, scene: Scene) -> None:
        scene.tick()
        scene.fake.advance(0.01)
        began = scene.step_begins()
        for _ in range(8):
            scene.tick(after=0.025, cpu=0.025)
        assert scene.told == []
        scene.step_ends()
        scene.tick(after=0.01)
        scene.tick(after=0.01)
        [stall] = scene.told
        assert stall.duration == pytest.approx(0.2)
        assert stall.started_at == pytest.approx(scene.fake.wall() - (scene.now - began))
        assert stall.culprit is not None
        assert (stall.culprit.function, stall.cause) == ("works", "cpu")
        assert [frame.function for frame in stall.stack] == ["works"]
        assert stall.samples == 6  # from half the threshold on
        assert stall.evidence["cpu_s"] == pytest.approx(0.2, abs=0.01)
        assert scene.state.block_duration.read().count == 1

    def test_a_step_below_the_threshold_is_not_told(self, scene: Scene) -> None:
        scene.step_begins()
        for _ in range(3):
            scene.tick(after=0.025)
        scene.step_begins()
        scene.tick(after=0.01)
        assert scene.told == []
        assert scene.tracker.suspicious is None

    def test_a_suspicion_is_looked_at_more_often(self, scene: Scene) -> None:
        assert scene.tracker.suspicious is None
        scene.step_begins()
        scene.tick(after=0.06)
        assert scene.tracker.suspicious == 0.01
        for _ in range(60):
            scene.tick(after=0.25)
        assert scene.tracker.suspicious == 0.25

    def test_a_sample_belongs_to_the_step_it_was_asked_for(self, scene: Scene) -> None:
        """The loop went on while the watchdog got hold of the frames: they show something else."""
        scene.step_begins()
        scene.fake.advance(0.2)
        scene.tracker.note()
        scene.step_ends()
        scene.tracker.look(scene.now, run_forever(works_too))
        scene.tracker.settle()
        [stall] = scene.told
        assert (stall.samples, stall.culprit, stall.stack) == (0, None, ())
        assert stall.duration == pytest.approx(0.2)

    def test_one_that_ended_since_the_last_look_keeps_its_samples(self, scene: Scene) -> None:
        scene.step_begins()
        scene.tick(after=0.06)
        scene.tick(after=0.06)
        scene.fake.advance(0.06)
        scene.step_ends()
        scene.tracker.settle()
        [stall] = scene.told
        assert (stall.samples, stall.duration) == (2, pytest.approx(0.18))

    def test_stalls_one_after_the_other_are_kept_apart(self, scene: Scene) -> None:
        for doing in (works, works_too):
            scene.step_begins()
            for _ in range(5):
                scene.tick(doing, after=0.04)
            scene.step_ends()
        scene.tick(after=0.01)
        assert [stall.culprit and stall.culprit.function for stall in scene.told] == ["works", "works_too"]
        assert [stall.samples for stall in scene.told] == [4, 4]

    def test_the_function_that_took_most_of_the_time_is_named(self, scene: Scene) -> None:
        scene.step_begins()
        scene.tick(works_too, after=0.06)
        for _ in range(6):
            scene.tick(works, after=0.03)
        scene.tick(works_too, after=0.03)
        scene.step_ends()
        scene.tick(after=0.01)
        assert scene.told[0].culprit is not None
        assert scene.told[0].culprit.function == "works"

    def test_samples_are_bounded(self, scene: Scene) -> None:
        scene.step_begins()
        for _ in range(2_000):
            scene.tick(after=0.3)
        scene.step_ends()
        scene.tick()
        assert scene.told[-1].samples == 200
        assert scene.told[-1].duration == pytest.approx(600.0)

    def test_a_late_wake_up_blames_nobody(self, scene: Scene) -> None:
        scene.state.waiting_since = scene.now
        scene.state.busy_since = scene.now + 0.05  # when select is to return
        scene.tick(after=0.3)
        scene.state.waiting_since = 0.0
        scene.step_ends(in_callback=False)
        scene.tick(after=0.01)
        [stall] = scene.told
        assert stall.culprit is None
        assert stall.duration == pytest.approx(0.25)

    def test_a_late_wake_up_began_after_the_stall_before(self, scene: Scene) -> None:
        """Though the watchdog could not run since then: between the two the loop was in service."""
        began = scene.step_begins()
        scene.tick()
        scene.fake.advance(0.2)
        scene.step_ends()
        scene.state.waiting_since = scene.now
        scene.state.busy_since = scene.now + 0.01
        scene.fake.advance(0.2)
        scene.state.waiting_since = 0.0
        scene.step_ends(in_callback=False)
        scene.lateness.look(began + 0.1, scene.now, {}, 0)
        scene.lateness.settle()
        scene.tick()
        step, wait = scene.told
        assert step.duration == pytest.approx(0.2)
        assert wait.duration == pytest.approx(0.2)
        assert wait.started_at == pytest.approx(step.started_at + step.duration)


class TestInProgress:
    """A stall that is not over yet."""

    def test_it_shows_once_over_the_threshold_and_grows(self, scene: Scene) -> None:
        scene.step_begins()
        scene.tick(after=0.06)
        scene.tick(after=0.03)
        assert scene.tracker.in_progress(scene.now) is None
        scene.tick(after=0.03)
        stall = scene.tracker.in_progress(scene.now)
        assert stall is not None
        assert (stall.in_progress, stall.duration) == (True, pytest.approx(0.12))
        assert stall.culprit is not None
        scene.fake.advance(1.0)
        later = scene.tracker.in_progress(scene.now)
        assert later is not None
        assert later.duration == pytest.approx(1.12)
        assert later.started_at == pytest.approx(stall.started_at)

    def test_it_is_gone_the_moment_its_step_ends(self, scene: Scene) -> None:
        scene.step_begins()
        for _ in range(4):
            scene.tick(after=0.05)
        scene.step_ends()
        assert scene.tracker.in_progress(scene.now) is None
        scene.tick(after=0.01)
        assert scene.tracker.in_progress(scene.now) is None
        assert len(scene.told) == 1

    def test_one_that_goes_on_is_told_once_before_its_end(self, scene: Scene) -> None:
        scene.step_begins()
        for _ in range(40):
            scene.tick(after=0.25)
        [still] = scene.told
        assert (still.in_progress, still.duration) == (True, pytest.approx(STILL, abs=0.3))
        assert scene.state.block_duration.read().count == 0
        scene.step_ends()
        scene.tick(after=0.01)
        assert [stall.in_progress for stall in scene.told] == [True, False]


class TestRuns:
    """Between two runs a loop owes nothing."""

    def test_a_loop_that_does_not_run_is_never_suspected(self, scene: Scene) -> None:
        scene.tick(after=0.01)
        scene.state.leave(scene.now, 0.0)
        for _ in range(10):
            scene.tick(after=1.0)
        assert (scene.told, scene.tracker.suspicious, scene.state.busy_since) == ([], None, NEVER)

    def test_the_last_step_is_told_after_the_loop_has_left(self, scene: Scene) -> None:
        scene.step_begins()
        scene.tick(after=0.06)
        scene.fake.advance(0.14)
        scene.step_ends()
        scene.state.leave(scene.now, 0.0)
        scene.tick(after=0.01)
        [stall] = scene.told
        assert (stall.duration, stall.samples) == (pytest.approx(0.2), 1)

    def test_clocks_of_an_earlier_run_are_no_evidence(self, scene: Scene) -> None:
        """The loop may have moved to another thread, whose CPU clock is another."""
        scene.tick(after=0.01, cpu=0.01)
        scene.state.leave(scene.now, 0.0)
        scene.tick(after=0.05)
        scene.fake.spend(500.0, clock_id=CPU_CLOCK)
        scene.fake.advance(0.05)
        scene.enter()
        scene.tick(after=0.01)
        scene.step_begins()
        for _ in range(8):
            scene.tick(after=0.025)
        scene.step_ends()
        scene.tick(after=0.01)
        assert scene.told[0].evidence["cpu_s"] == 0.0

    def test_one_attached_in_mid_run_is_let_go_when_it_no_longer_runs(self, scene: Scene) -> None:
        scene.state.leaves_unseen = True
        scene.step_begins()
        for _ in range(5):
            scene.tick(after=0.1)
        assert scene.told == []
        assert not scene.state.running
        assert scene.state.blocked(scene.now) == 0.0


class TestBlind:
    """Without a selector a stall is known from a late beat, and its beginning from ticks."""

    @pytest.fixture
    def scene(self, tmp_path: Path, loop: asyncio.AbstractEventLoop) -> Scene:
        scene = Scene(tmp_path, loop, has_selector=False)
        scene.enter()
        scene.state.busy_since = scene.now + 0.02
        return scene

    def beat(self, scene: Scene) -> None:
        scene.state.busy_since = scene.now + 0.02

    def test_looks_and_the_cpu_clock_split_time_into_active_and_idle(self, scene: Scene) -> None:
        """A quarter is computed, of which looks that wait see nothing; the others see half the rest block."""
        for _ in range(200):
            for doing, waited in ((waits, False), (works, False), (waits, True), (waits, True)):
                scene.tick(doing, after=0.025, cpu=0.00625, waited=waited)
                self.beat(scene)
        assert scene.state.active_time == pytest.approx(20.0 * (0.25 + 0.75 / 2), rel=0.05)
        assert scene.state.active_time + scene.state.idle_time == pytest.approx(20.0)

    def test_where_it_is_not_seen_what_runs_the_loop_nothing_is_counted(self, scene: Scene) -> None:
        scene.state.boundary = None
        scene.tick(waits, after=0.025)
        assert (scene.state.active_time, scene.state.idle_time) == (0.0, 0.0)

    @pytest.mark.parametrize(
        ("ticks", "began"),
        [
            ([], -0.010),  # somewhere since the beat before
            ([(-0.015, waits)], -0.0075),  # after it was seen idle
            ([(-0.015, waits), (-0.005, works)], -0.010),  # and before it was seen busy
            ([(-0.030, waits), (-0.015, works)], -0.0175),
            ([(-0.030, works), (-0.015, works)], -0.010),  # busy with something else before
        ],
        ids=["unseen", "idle", "idle and busy", "idle long before", "busy long before"],
    )
    def test_its_beginning_is_the_middle_of_what_is_known(
        self, scene: Scene, ticks: list[tuple[float, Callable[[], FrameType]]], began: float
    ) -> None:
        due = scene.now + 0.2
        scene.state.busy_since = due
        during = [(0.06 + number * 0.03, works) for number in range(6)] if ticks else []
        for at, doing in (*ticks, *during):
            scene.tick(doing, after=due + at - scene.now)
        end = due + 0.25
        scene.fake.advance(end - scene.now)
        scene.state.end_stall(due, scene.now, True)
        self.beat(scene)
        scene.tick(waits, after=0.01)
        [stall] = scene.told
        assert stall.duration == pytest.approx(0.25 - began, abs=0.001)

    def test_a_suspicion_that_was_too_short_after_all_is_dropped(self, scene: Scene) -> None:
        scene.tick(waits, after=0.02)
        due = scene.now + 0.001
        scene.state.busy_since = due
        scene.tick(works, after=0.085)
        scene.state.end_stall(due, scene.now, True)
        self.beat(scene)
        scene.tick(waits, after=0.01)
        assert scene.told == []


def test_run_queue_time_adds_up_while_the_loop_runs(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    scene = Scene(tmp_path, loop, has_selector=True)
    scene.state.native_id = 7
    schedstat = tmp_path / "proc/self/task/7/schedstat"
    schedstat.parent.mkdir(parents=True)
    scene.enter()
    for waited in (1.0, 1.5, 3.0):
        schedstat.write_text(f"1 {int(waited * 1e9)} 1\n")
        scene.step_begins()
        scene.tick(after=0.2)
        scene.step_begins()
    assert scene.state.runqueue_time == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("before", "during", "cause"),
    [(0.08, 0.0, "blocking"), (0.0, 0.0, "blocking"), (0.08, 0.12, "starved"), (0.0, 0.12, "starved")],
)
def test_waits_for_a_cpu_before_a_stall_are_no_part_of_it(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, before: float, during: float, cause: str
) -> None:
    """A stall of 0.15 s after 0.2 s of short steps, in which nobody looked at the run queue."""
    schedstat = tmp_path / "proc/self/task/7/schedstat"
    schedstat.parent.mkdir(parents=True)
    scene = Scene(tmp_path, loop, has_selector=True)
    scene.state.native_id = 7
    scene.enter()

    def waits(seconds: float) -> None:
        schedstat.write_text(f"1 {int((1.0 + seconds) * 1e9)} 1\n")

    waits(0.0)
    scene.tick()
    for number in range(1, 9):
        scene.step_begins()
        waits(before * number / 8)
        scene.tick(after=0.025)
    scene.step_begins()
    for number in range(1, 7):
        waits(before + during * number / 6)
        scene.tick(after=0.025)
    scene.step_ends()
    scene.tick(after=0.01)
    [stall] = scene.told
    assert stall.duration == pytest.approx(0.15)
    assert stall.cause == cause
    assert stall.evidence["runqueue_s"] == pytest.approx(during, abs=0.075 / 2)  # it looks after 75 ms


class TestKeptFromTheGil:
    """A watchdog that opens a file gets the GIL back when whoever held it lets go, and looks right then."""

    @pytest.fixture
    def scene(self, tmp_path: Path, loop: asyncio.AbstractEventLoop) -> Scene:
        (tmp_path / "proc/self/task/7").mkdir(parents=True)
        (tmp_path / "proc/self/task/7/schedstat").write_text("0 0 0\n")
        scene = Scene(tmp_path, loop, has_selector=True)
        scene.state.native_id = 7
        scene.enter()
        scene.tick()
        return scene

    @staticmethod
    def hold(scene: Scene, holder: Callable[[], FrameType], then: Callable[[], object] = int) -> None:
        """Let the first file that is read from now on take as long as ``holder`` computes: 0.3 s."""

        def came_back() -> None:
            scene.system.came_back = int
            scene.fake.advance(0.3)
            scene.fake.spend(0.3, clock_id=CPU_CLOCK)
            scene.tracker.note()
            scene.tracker.look(scene.now, run_forever(holder))
            then()

        scene.system.came_back = came_back

    def test_who_held_it_is_named_and_not_who_ran_afterwards(self, scene: Scene) -> None:
        scene.step_begins()
        scene.tick(works, after=0.06, cpu=0.06)
        self.hold(scene, works_too)
        scene.tick(works, after=0.01, cpu=0.01)
        scene.tick(works, after=0.02, cpu=0.02)
        scene.step_ends()
        scene.tick(works)
        [stall] = scene.told
        assert stall.duration == pytest.approx(0.39)
        assert (stall.cause, stall.samples) == ("cpu", 4)
        assert stall.culprit is not None
        assert stall.culprit.function == "works_too"

    def goes_on_and_tells_of_the_held_step(self, scene: Scene) -> None:
        scene.tick(works, after=0.04, cpu=0.04)  # too soon to suspect it
        scene.step_begins()
        scene.tick(works, after=0.01)
        [stall] = scene.told
        assert (stall.duration, stall.samples) == (pytest.approx(0.34), 1)
        assert stall.culprit is not None
        assert stall.culprit.function == "works_too"

    def test_a_step_that_ends_right_then_keeps_what_was_seen_of_it(self, scene: Scene) -> None:
        scene.fake.advance(Evidence.SYSTEM_EVERY)  # so that the files are read, though all seems well
        scene.step_begins()
        self.hold(scene, works_too, then=scene.step_ends)
        self.goes_on_and_tells_of_the_held_step(scene)

    def test_so_does_one_after_which_another_is_suspected_at_once(self, scene: Scene) -> None:
        def another() -> None:
            scene.step_ends()
            scene.fake.advance(0.06)
            scene.tracker.note()
            scene.tracker.look(scene.now, run_forever(works))

        scene.fake.advance(Evidence.SYSTEM_EVERY)
        scene.step_begins()
        self.hold(scene, works_too, then=another)
        self.goes_on_and_tells_of_the_held_step(scene)


def test_of_a_starved_loop_the_function_that_computed_is_named(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    """One function computes for 0.4 s, then the thread has no CPU for 1.2 s, wherever it stands by then."""
    schedstat = tmp_path / "proc/self/task/7/schedstat"
    schedstat.parent.mkdir(parents=True)
    schedstat.write_text(f"1 {10**9} 1\n")
    scene = Scene(tmp_path, loop, has_selector=True)
    scene.state.native_id = 7
    scene.enter()
    scene.tick()
    scene.step_begins()
    for _ in range(4):
        scene.tick(works, after=0.1, cpu=0.1)
    schedstat.write_text(f"1 {int(2.2 * 1e9)} 1\n")
    scene.tick(works_too, after=1.2, cpu=0.001)
    scene.step_ends()
    scene.tick()
    [stall] = scene.told
    assert (stall.cause, stall.samples) == ("starved", 5)
    assert stall.evidence["runqueue_s"] == pytest.approx(1.2, abs=0.01)
    assert stall.culprit is not None
    assert stall.culprit.function == "works"


def test_of_a_loop_that_slept_the_function_that_waited_is_named(scene: Scene) -> None:
    scene.tick()
    scene.step_begins()
    scene.tick(works, after=0.1, cpu=0.1)
    for _ in range(3):
        scene.tick(works_too, after=0.2, cpu=0.01)
    scene.step_ends()
    scene.tick()
    [stall] = scene.told
    assert stall.culprit is not None
    assert (stall.cause, stall.culprit.function) == ("blocking", "works_too")


QUOTA = "nr_throttled 1\nthrottled_usec {}\n"


@pytest.mark.parametrize(
    ("waited", "state", "cause"),
    [
        (0.0, "S", "blocking"),  # others used up the quota while this thread slept
        (0.38, "R", "starved"),
        (None, "S", "blocking"),  # a kernel that books no run-queue time
        (None, "R", "starved"),
    ],
)
def test_only_who_wants_the_cpu_is_starved_of_it(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, waited: float | None, state: str, cause: str
) -> None:
    """The quota of the cgroup is used up for 0.4 s of a stall of 0.5 s."""
    task, cpu_stat = tmp_path / "proc/self/task/7", tmp_path / "sys/fs/cgroup/cpu.stat"
    task.mkdir(parents=True)
    cpu_stat.parent.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (task / "stat").write_text(f"7 (python) {state} 1 7")
    cpu_stat.write_text(QUOTA.format(0))

    def books(seconds: float) -> None:
        if waited is not None:
            (task / "schedstat").write_text(f"1 {int((1.0 + seconds) * 1e9)} 1\n")

    books(0.0)
    scene = Scene(tmp_path, loop, has_selector=True)
    scene.state.native_id = 7
    scene.enter()
    scene.step_begins()
    scene.tick()
    scene.step_begins()
    for _ in range(4):
        scene.tick(after=0.125)
    cpu_stat.write_text(QUOTA.format(400_000))
    books(waited or 0.0)
    scene.step_ends()
    scene.tick()
    [stall] = scene.told
    assert stall.duration == pytest.approx(0.5)
    assert stall.cause == cause


@pytest.mark.parametrize(("seen", "cause"), [("R", "unknown"), ("RS", "blocking"), ("S", "blocking")])
def test_who_was_only_seen_running_is_not_called_asleep(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, seen: str, cause: str
) -> None:
    task = tmp_path / "proc/self/task/7"
    task.mkdir(parents=True)
    (task / "schedstat").write_text("1 1000000000 1\n")
    scene = Scene(tmp_path, loop, has_selector=True)
    scene.state.native_id = 7
    scene.enter()
    scene.step_begins()
    for number in range(6):
        (task / "stat").write_text(f"7 (python) {seen[number % len(seen)]} 1 7")
        scene.tick(after=0.05)
    scene.step_ends()
    scene.tick()
    [stall] = scene.told
    assert stall.cause == cause
