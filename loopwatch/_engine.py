"""The one place that wires: settings in, parts built, attached, started; and all of it undone in reverse."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable

from ._clock import SYSTEM, Clock
from ._collectors.jobs import JobCounts
from ._collectors.leaks.finder import LeakFinder
from ._collectors.leaks.found import Found
from ._collectors.loops import LoopHealth
from ._collectors.losses import Losses
from ._collectors.own import COMPONENTS, Own
from ._collectors.pools.catalogue import READERS
from ._collectors.pools.census import PoolCensus
from ._collectors.pools.hub import Hub
from ._collectors.pools.overdue import Overdue
from ._collectors.pools.saturation import Saturation
from ._collectors.stalls import Stalls
from ._collectors.tasks import TaskCensus
from ._context.backing import Backing, lean_on
from ._context.handover import LostContexts
from ._context.reader import ContextReader
from ._errors import LoopwatchError
from ._jobs.signals import DrainSignals
from ._journal import Journal
from ._pace import Pace
from ._probes.attach import BOUNDARY, Attach
from ._probes.gc import GcProbe
from ._probes.handovers import HandOverProbe
from ._probes.probe import Probe
from ._probes.unawaited import UnawaitedProbe
from ._reader import Reader
from ._records import DrainReport, Stall
from ._rules.catalogue import RULES
from ._rules.findings import Findings
from ._settings import Settings
from ._store.jobs import JOBS
from ._store.loop_state import LoopStates
from ._store.lost_log import LostLog
from ._store.outbox import Outbox
from ._store.pauses import Pauses
from ._store.pools import Pools
from ._store.stall_log import StallLog
from ._threads import WITHIN, OwnThread, await_end
from ._watchdog.code_owner import CodeOwner
from ._watchdog.evidence import Evidence, System
from ._watchdog.hold_dump import HoldDump
from ._watchdog.lateness import Lateness
from ._watchdog.loss_report import LossReport
from ._watchdog.lost import LostTasks
from ._watchdog.report import StallReport
from ._watchdog.stalls import Tracker, Witness
from ._watchdog.thread import Watchdog, tick_for
from .exporters.exports import Exports

WRITTEN = 0.15
"""Seconds the log's handlers may take to write what a drain says."""
DRAINS = 16
"""Reports of drains that are kept. Mostly there is one, at the end."""


class Engine:
    """All parts of one agent, and their life. Starts threads with the first loop that runs, not before."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM) -> None:
        self.settings = settings
        self.installed = False
        self._started = False
        self._starting = threading.RLock()  # loops begin to run at once, signal handlers uninstall
        self._starting_held = False
        self._forks = threading.RLock()  # one at a time, or one within another, in a signal's handler
        self._clock = clock
        self._journal = Journal(clock)
        self._contexts = ContextReader(self._journal)
        self._pauses = Pauses()
        self._states = LoopStates(self._pauses)
        self._stall_log, self._lost_log = StallLog(), LostLog()
        self._pools = Pools()
        self._outbox = Outbox(is_open=settings.otlp, takes_jobs=settings.job_spans)
        self._owner = CodeOwner(settings.app_packages)
        self._drains: deque[DrainReport] = deque(maxlen=DRAINS)
        self._build_probes()
        self._build_watchdog()
        self._build_reader()

    def _build_probes(self) -> None:
        """Build what sits in the program."""
        contexts, clock, journal = self._contexts, self._clock, self._journal
        self._lost_contexts = LostContexts(contexts, clock)
        self._unawaited = UnawaitedProbe(contexts, journal)
        self._handovers = HandOverProbe(contexts, self._lost_contexts, journal)
        self._attach = Attach(self._states, self.settings, contexts, clock, journal, self)
        self._gc = GcProbe(self._states, self._pauses, clock, journal)
        self._hub = Hub(READERS, self._pools, self._owner.of, clock, journal)
        self._probes: dict[str, Probe] = {
            "gc": self._gc,
            "unawaited": self._unawaited,
            "handovers": self._handovers,
            "attach": self._attach,
            "pools": self._hub,
        }
        self._signals = DrainSignals(self.settings.drain_timeout, journal)

    def _build_watchdog(self) -> None:
        """Build what looks from outside: at long steps, at losses, and at tasks that will never end."""
        settings, contexts, clock, journal = self.settings, self._contexts, self._clock, self._journal
        owner, system = self._owner, System()
        lateness = Lateness(clock, BOUNDARY, system.runqueue)
        self._report = StallReport(clock, journal)
        witness = Witness(
            clock=clock,
            threshold=settings.stall_threshold,
            pauses=self._pauses,
            lateness=lateness,
            evidence=Evidence(clock, system),
            owner=owner,
            contexts=contexts,
            tell=self._tell,
        )
        self._losses = LossReport(self._lost_log, contexts, owner, self._outbox, clock, journal)
        self._lost_tasks = LostTasks(
            self._states, self._unawaited.dropped, self._lost_contexts, owner, self._losses.tell
        )
        self._found = Found(contexts, self._lost_log, self._losses)
        leaks = LeakFinder(self._states, self._found, clock)
        self._pool_pace = Pace(clock)
        pools, hub, outbox, pace = self._pools, self._hub, self._outbox, self._pool_pace
        overdue = Overdue(pools, hub, contexts, settings.hold_threshold, pace.admit, outbox, clock, journal)
        self._pool_census = PoolCensus(pools, hub, contexts, clock)
        self._saturation = Saturation(pools, hub, self._pool_census, outbox, clock)
        self._findings = Findings(RULES, settings, outbox, clock, journal)
        self._hold_dump = HoldDump(settings.hold_dump, journal)
        self._watchdog = Watchdog(
            states=self._states,
            make_tracker=lambda state: Tracker(state, witness),
            lateness=lateness,
            tick=tick_for(settings.stall_threshold),
            clock=clock,
            journal=journal,
            chores=(
                self._rearm_dump,
                contexts.refresh,
                self._handovers.refresh,
                self._gc.check,
                self._lost_tasks.collect,
                leaks.look,
                overdue.look,
                self._saturation.look,
                lambda: self._findings.look(self.reader.glance),
                self._refresh_exports,
            ),
        )

    def _build_reader(self) -> None:
        """Build what tells of all that."""
        states, clock = self._states, self._clock
        self._census = TaskCensus(states, self._contexts, clock)
        self.reader = Reader(
            self.settings.service_name,
            clock,
            self._journal,
            LoopHealth(states, clock, self._attach.own_timers),
            Stalls(states, self._stall_log, self._watchdog.in_progress),
            self._census,
            Losses(states, self._lost_log, self._lost_contexts),
            JobCounts(self._drains),
            self._pool_census,
            (self._own(),),
            self._findings.seen_in,
        )
        self._exports = Exports(
            self.settings, self.reader.snapshot, self._outbox.take, self._pools.ignored, self._journal, clock
        )
        self.metrics, self.otel = self._exports.metrics, self._exports.otel

    def _own(self) -> Own:
        states = self._states
        return Own(
            overhead={
                "watchdog": lambda: self._watchdog.cpu_time,
                "journal": lambda: self._journal.cpu_time,
                "heartbeat": lambda: sum(state.heartbeat_time for state in states.all()),
                "endpoint": lambda: self.metrics.cpu_time,
                "otlp": lambda: self.otel.cpu_time,
            },
            dropped={
                "stalls": lambda: sum(state.ended_dropped for state in states.all()),
                "tasks": lambda: sum(state.tasks.untold.total() for state in states.all()),
                "journal": lambda: self._journal.dropped,
                "context": lambda: self._contexts.unshown_dropped,
                "outbox": lambda: self._outbox.dropped,
                "otlp": lambda: self.otel.dropped,
            },
            internal_errors=lambda: dict.fromkeys(COMPONENTS, 0) | self._journal.failures(),
            log_suppressed=lambda: (
                sum(each.log_suppressed for each in (self._report, self._losses, self._findings))
                + self._pool_pace.suppressed
            ),
            unwatched=self._attach.unwatched.copy,
        )

    def install(self) -> None:
        """Begin to watch."""
        self.installed = True
        lean_on(Backing(self._journal, self._contexts, self._states, self._drains, self._outbox, self._flush))
        for component, probe in self._probes.items():
            if not self._done(component, probe.install):
                self._done(component, probe.remove)
        self._done("hold_dump", self._hold_dump.notice)
        atexit.register(self.uninstall)
        with contextlib.suppress(RuntimeError):  # none runs here
            loop = asyncio.get_running_loop()
            self._done("attach", lambda: self._attach.watch(loop))

    def _done(self, component: str, step: Callable[[], object]) -> bool:
        """Take a step, and return whether it was done. If not, that is counted, and others can be taken."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - it is not to reach the program, nor to stop us halfway
            self._journal.failure(component, error)
            return False
        return True

    def uninstall(self) -> None:
        """Undo all that was installed and started, last first. Does nothing when nothing is installed."""
        with self._starting:  # a loop may begin to run in another thread
            if not self.installed:
                return
            self.installed = False
        self.undo()

    def undo(self) -> None:
        """Take out of the program whatever was put in, however far that went."""
        self.installed = False
        atexit.unregister(self.uninstall)
        self._done("signals", self._signals.remove)
        for component, probe in reversed(self._probes.items()):
            self._done(component, probe.remove)
        lean_on(None)
        if self._started:
            self._started = False
            self._done("endpoint", self.metrics.stop)
            self._done("watchdog", self._watchdog.stop)
        self._done("hold_dump", self._hold_dump.stop)  # whose file the watchdog looks at
        self._done("watchdog", self._lost_tasks.collect)
        for told in (self._report, self._losses, self._findings):
            told.end()
        self._done("otlp", self._stop_export)
        self._journal.stop(timeout=1.0)

    def _stop_export(self) -> None:
        with contextlib.suppress(RuntimeError):  # as it is at exit
            if self._outbox.waits:
                self.otel.start()
        self.otel.stop()
        self._outbox.close()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Attach to a loop that runs already, here or elsewhere. Raises RuntimeError if it is closed."""
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._attach.watch(loop)
        else:
            loop.call_soon_threadsafe(self._attach.watch, loop, True)

    def before_run(self) -> None:
        """Start what needs a thread: with the first loop that runs, so that importing starts none."""
        if not self._started:
            with self._starting:
                if self.installed and not self._started:
                    self._started = True  # also if it fails: not to be tried at each run of a loop
                    self._start()

    def loop_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        """See that it is looked at, and that signals find us."""
        self._watchdog.nudge()
        if self.installed:
            self._signals.enter(loop)

    def loop_left(self) -> None:
        """Leave the signals alone between two runs. May raise what a signal's handler raises."""
        if self.installed:
            self._signals.leave()

    def task_fell(self) -> None:
        """See that it is told of."""
        self._watchdog.nudge()

    def loop_beats(self) -> None:
        """See to what others may undo: our signal handlers, the watchdog's thread."""
        self._signals.check()
        if self._watchdog.alive:
            return
        with self._starting:  # two loops may beat at once
            if not self._watchdog.alive:
                self._journal.failure("watchdog", LoopwatchError("the watchdog's thread was killed"))
                try:
                    self._watchdog.start()
                except RuntimeError as error:  # no thread can be had now: the next heartbeat tries again
                    self._journal.failure("watchdog", error)

    def _start(self) -> None:
        """Start each part for itself: what one of them lacks is no reason to do without the others."""
        parts: dict[str, Callable[[], None]] = {
            "journal": self._journal.start,
            "hold_dump": self._start_dump,
            "watchdog": self._watchdog.start,
            "endpoint": self.metrics.start,
        }
        for component, start in parts.items():
            self._done(component, start)

    def _start_dump(self) -> None:
        try:
            self._hold_dump.start()
        except OSError as error:
            self._journal.say(
                logging.WARNING, "loopwatch: long holds of the GIL will not be dumped: %s", error
            )

    def _tell(self, stall: Stall) -> None:
        if not stall.in_progress:
            self._stall_log.add(stall)
            self._outbox.put(stall)
            self.otel.start()  # now: the program may be over soon, and at exit no thread can be had
        self._report.tell(stall)

    def _flush(self) -> None:
        self._done("rules", self.reader.glance)  # of a drain that left work there may be no later look
        self._journal.flush(WRITTEN)
        self.otel.flush()

    def _rearm_dump(self) -> None:
        self._hold_dump.chore(needed=any(state.running for state in self._states.all()))

    def _refresh_exports(self) -> None:
        self._exports.refresh(loops_run=any(state.heartbeat_time for state in self._states.all()))

    def _threads(self) -> dict[str, OwnThread]:
        """All that run for long, by the component that counts their failures."""
        return {
            "watchdog": self._watchdog.thread,
            "journal": self._journal.thread,
            **self._exports.threads(),
        }

    def before_fork(self) -> None:
        """Take back what a child must not inherit, and end all threads of ours."""
        self._forks.acquire()
        self._starting_held = self._starting.acquire(timeout=WITHIN)  # else half a start is inherited
        ending = [ended for thread in self._threads().values() if (ended := thread.pause()) is not None]
        self._exports.before_fork()
        await_end(ending, self._hold_dump.before_fork, self._clock)
        self._signals.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on, unless uninstalled meanwhile."""
        self._hold_dump.after_fork_in_parent()
        self._exports.after_fork_in_parent()
        for component, thread in self._threads().items():
            self._done(component, thread.resume)
        if self.installed:
            self._signals.after_fork_in_parent()
        if self._starting_held:
            self._starting.release()
        self._forks.release()

    def after_fork_in_child(self) -> None:
        """Start afresh in a forked child, where the parent's threads and loops do not run."""
        self._starting, self._starting_held = threading.RLock(), False
        if not self.installed:
            for thread in self._threads().values():
                thread.forget()
            self.after_fork_in_parent()
            return
        self._forks = threading.RLock()
        self._started = False
        self._pauses.running_since = None  # a thread that collected does not run here
        kept = self._states, self._census, self._stall_log, self._lost_log, self._lost_contexts, self._found
        counted = self._unawaited.dropped, self._pools, JOBS, self._drains
        told = self._report, self._losses, self._pool_pace, self._saturation, self._findings, self._outbox
        for each in (*kept, *counted, *told):
            each.clear()
        self._signals.after_fork_in_child()
        self._attach.forget()
        self._journal.forget_thread()
        self._watchdog.forget_thread()
        self._hold_dump.forget()
        self._exports.forget()
