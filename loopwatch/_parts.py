"""What one agent is made of: builds the parts from the settings and wires them. Nothing is started here."""

from __future__ import annotations

from collections import deque

from ._agent_records import Stall
from ._clock import Clock
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
from ._collectors.pressure import Pressure
from ._collectors.stalls import Stalls
from ._collectors.tasks import TaskCensus
from ._console.service import Console
from ._context.lost_contexts import LostContexts
from ._context.reader import ContextReader
from ._jobs.signals import DrainSignals
from ._journal import Journal
from ._pace import Pace
from ._probes.attach import BOUNDARY, Attach, Host
from ._probes.gc import GcProbe
from ._probes.handovers import HandOverProbe
from ._probes.probe import Probe
from ._probes.unawaited import UnawaitedProbe
from ._reader import Reader
from ._records import DrainReport
from ._rules.catalogue import RULES
from ._rules.findings import Findings
from ._settings import Settings
from ._store.loop_state import LoopStates
from ._store.lost_log import LostLog
from ._store.outbox import Outbox
from ._store.pauses import Pauses
from ._store.pools import Pools
from ._store.stall_log import StallLog
from ._store.unread import Unread
from ._threads import Imports
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

DRAINS = 16
"""Drain reports that are kept. Usually there is one, at the end."""


class Parts:
    """All parts of one agent. The loops notify ``host`` of what they do."""

    def __init__(self, settings: Settings, clock: Clock, host: Host) -> None:
        self.settings = settings
        self._clock = clock
        self._journal = Journal(clock)
        self._contexts = ContextReader(self._journal)
        self._unread = Unread(self._journal)
        self._pauses = Pauses()
        self._states = LoopStates(self._pauses)
        self._stall_log, self._lost_log = StallLog(), LostLog()
        self._pools = Pools()
        self._outbox = Outbox(is_open=settings.otlp, takes_jobs=settings.job_spans)
        self._owner = CodeOwner(settings.app_packages)
        self._drains: deque[DrainReport] = deque(maxlen=DRAINS)
        self._build_probes(host)
        self._build_watchdog()
        self._build_reader()

    def _build_probes(self, host: Host) -> None:
        """Build what sits inside the program."""
        contexts, clock, journal = self._contexts, self._clock, self._journal
        self._lost_contexts = LostContexts(contexts, clock)
        self._unawaited = UnawaitedProbe(contexts, journal)
        self._handovers = HandOverProbe(contexts, self._lost_contexts, journal)
        self._attach = Attach(self._states, self.settings, contexts, clock, journal, host)
        self._gc = GcProbe(self._states, self._pauses, clock, journal, self._unread)
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
        """Build what watches from outside: long steps, losses, and tasks that will never end."""
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
        self._found = Found(contexts, self._lost_log, self._losses, self._unread)
        self._leaks = LeakFinder(self._states, self._found, clock, self._unread)
        self._pool_pace = Pace(clock)
        pools, hub, outbox, pace = self._pools, self._hub, self._outbox, self._pool_pace
        overdue = Overdue(pools, hub, contexts, settings.hold_threshold, pace.admit, outbox, clock, journal)
        self._pool_census = PoolCensus(pools, hub, contexts, clock)
        self._saturation = Saturation(pools, hub, self._pool_census, outbox, clock)
        self._health = LoopHealth(self._states, clock, self._attach.own_timers)
        self.pressure = Pressure(self._states, self._health, settings.stall_threshold, clock)
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
                self._leaks.look,
                overdue.look,
                self._saturation.look,
                self.pressure.look,
                lambda: self._findings.look(self.reader.glance),
                self._refresh_exports,
            ),
        )
        system.came_back = self._watchdog.look_again

    def _build_reader(self) -> None:
        """Build what reports all of that."""
        states, clock = self._states, self._clock
        self._census = TaskCensus(states, self._contexts, clock, self._unread)
        self.reader = Reader(
            self.settings.service_name,
            clock,
            self._journal,
            self._health,
            Stalls(states, self._stall_log, self._watchdog.in_progress),
            self._census,
            Losses(states, self._lost_log, self._lost_contexts),
            JobCounts(self._drains),
            self._pool_census,
            (self._own(),),
            self._findings.seen_in,
            self.settings.stall_threshold,
        )
        settings, journal, ignored = self.settings, self._journal, self._pools.ignored
        imports = self._imports = Imports()
        self._exports = Exports(settings, self.reader, self._outbox.take, ignored, imports, journal, clock)
        self.metrics, self.otel = self._exports.metrics, self._exports.otel
        self.console = Console(settings, self.reader, states.looked_at, ignored, imports, journal, clock)

    def _own(self) -> Own:
        states = self._states
        return Own(
            overhead={
                "watchdog": lambda: self._watchdog.cpu_time,
                "journal": lambda: self._journal.cpu_time,
                "heartbeat": lambda: sum(state.heartbeat_time for state in states.all()),
                "endpoint": lambda: self.metrics.cpu_time,
                "otlp": lambda: self.otel.cpu_time,
                "console": lambda: self.console.cpu_time,
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

    def _tell(self, stall: Stall) -> None:
        if not stall.in_progress:
            self._stall_log.add(stall)
            self._outbox.put(stall)
            self.otel.start()  # now: the program may be over soon, and at exit no thread can be started
        self._report.tell(stall)

    def _rearm_dump(self) -> None:
        self._hold_dump.chore(needed=any(state.running for state in self._states.all()))

    def _refresh_exports(self) -> None:
        self._exports.refresh(loops_run=any(state.heartbeat_time for state in self._states.all()))
