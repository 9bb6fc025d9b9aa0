"""The one place that wires: settings in, parts built, attached, started; and all of it undone in reverse."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING

from . import _settings
from ._clock import SYSTEM, Clock
from ._collectors.jobs import JobCounts
from ._collectors.leaks import LeakFinder
from ._collectors.loops import LoopHealth
from ._collectors.losses import Losses
from ._collectors.own import Own
from ._collectors.stalls import Stalls
from ._collectors.tasks import TaskCensus
from ._context.backing import Backing, lean_on
from ._context.handover import LostContexts
from ._context.reader import ContextReader
from ._errors import LoopwatchError
from ._jobs.signals import DrainSignals
from ._journal import Journal
from ._probes.attach import BOUNDARY, Attach
from ._probes.gc import GcProbe
from ._probes.handovers import HandOverProbe
from ._probes.unawaited import UnawaitedProbe
from ._reader import Reader
from ._records import Stall
from ._settings import Settings
from ._store.jobs import JOBS
from ._store.loop_state import LoopStates
from ._store.lost_log import LostLog
from ._store.pauses import Pauses
from ._store.stall_log import StallLog
from ._watchdog.code_owner import CodeOwner
from ._watchdog.evidence import Evidence, System
from ._watchdog.hold_dump import HoldDump
from ._watchdog.lateness import Lateness
from ._watchdog.loss_report import LossReport
from ._watchdog.lost import LostTasks
from ._watchdog.report import StallReport
from ._watchdog.stalls import Tracker, Witness
from ._watchdog.thread import Watchdog

if TYPE_CHECKING:
    from .exporters.endpoint import Endpoint
    from .exporters.kept import KeptCollector

COMPONENTS = (
    *(
        "attach",
        "context",
        "endpoint",
        "exceptions",
        "gc",
        "handovers",
        "heartbeat",
        "journal",
        "prometheus",
        "show",
        "tasks",
    ),
    *("unawaited", "watchdog"),
)
"""Parts that may fail. Each shows as zero until it does, or its first failure would be no increase."""

LOOKS = 3
"""How often the watchdog looks within the length of the shortest stall, of which it suspects the second half:
so each is sampled at least once before it counts. Each look more costs an idle process 0.1 % of a core."""
SHORTEST_TICK = 0.005
"""Seconds between two looks of the watchdog, however low the threshold: it costs some 20 us each."""


class Engine:
    """All parts of one agent, and their life. Starts threads with the first loop that runs, not before."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM) -> None:
        self.settings = settings
        self._clock = clock
        self._journal = Journal(clock)
        self._contexts = ContextReader(self._journal)
        self._states = LoopStates()
        self._stall_log = StallLog()
        self._lost_log = LostLog()
        self._unawaited = UnawaitedProbe(self._contexts, self._journal)
        self._lost_contexts = LostContexts(self._contexts, clock)
        self._handovers = HandOverProbe(self._contexts, self._lost_contexts, self._journal)
        self._owner = CodeOwner(settings.app_packages)
        losses = LossReport(self._lost_log, self._contexts, clock, self._journal)
        self._lost_tasks = LostTasks(
            self._states,
            self._unawaited.dropped,
            self._lost_contexts,
            self._owner,
            losses.tell,
        )
        self._leaks = LeakFinder(self._states, self._contexts, clock, self._lost_log, losses.tell)
        self._build_watchdog()
        self._attach = Attach(
            self._states,
            settings.stall_threshold,
            clock,
            self._journal,
            self._start_once,
            self._loop_runs,
            self._loop_left,
            self._check,
            self._contexts,
        )
        timeout = settings.drain_timeout
        self._signals = None if timeout is None else DrainSignals(timeout, self._journal)
        self._census = TaskCensus(self._states, self._contexts, clock)
        self.reader = Reader(
            settings.service_name,
            clock,
            LoopHealth(self._states, clock, self._attach.own_timers),
            Stalls(self._states, self._stall_log, self._watchdog.in_progress),
            self._census,
            Losses(self._states, self._lost_log, self._lost_contexts),
            (JobCounts(), self._own()),
        )
        self._kept: KeptCollector | None = None
        self._endpoint: Endpoint | None = None
        self._endpoint_time = 0.0
        self.installed = False
        self._started = False
        self._starting = threading.RLock()  # loops begin to run at once, signal handlers uninstall

    def _build_watchdog(self) -> None:
        settings, clock = self.settings, self._clock
        pauses = Pauses()
        self._gc_probe = GcProbe(self._states, pauses, clock, self._journal)
        self._report = StallReport(clock, self._journal)
        self._hold_dump = HoldDump(settings.hold_dump, self._journal)
        system = System()
        lateness = Lateness(clock, BOUNDARY, system.runqueue)
        witness = Witness(
            clock=clock,
            threshold=settings.stall_threshold,
            pauses=pauses,
            lateness=lateness,
            evidence=Evidence(clock, system),
            owner=self._owner,
            contexts=self._contexts,
            tell=self._tell,
        )
        self._watchdog = Watchdog(
            states=self._states,
            make_tracker=lambda state: Tracker(state, witness),
            lateness=lateness,
            tick=max(settings.stall_threshold / LOOKS, SHORTEST_TICK),
            clock=clock,
            journal=self._journal,
            chores=(
                self._rearm_dump,
                self._refresh_kept,
                self._contexts.refresh,
                self._handovers.refresh,
                self._lost_tasks.collect,
                self._leaks.look,
            ),
        )

    def _own(self) -> Own:
        states = self._states
        return Own(
            overhead={
                "watchdog": lambda: self._watchdog.cpu_time,
                "journal": lambda: self._journal.cpu_time,
                "heartbeat": lambda: sum(state.heartbeat_time for state in states.all()),
                "endpoint": lambda: self._endpoint_time,
            },
            dropped={
                "stalls": lambda: sum(state.ended_dropped for state in states.all()),
                "tasks": lambda: sum(state.tasks.untold.total() for state in states.all()),
                "journal": lambda: self._journal.dropped,
            },
            internal_errors=lambda: dict.fromkeys(COMPONENTS, 0) | self._journal.failures(),
            log_suppressed=lambda: self._report.log_suppressed,
            unwatched=self._attach.unwatched.copy,
        )

    def install(self) -> None:
        """Begin to watch."""
        self.installed = True
        lean_on(Backing(self._journal, self._contexts, self._states))
        self._gc_probe.install()
        self._unawaited.install()
        self._handovers.install()
        self._attach.install()
        self._hold_dump.notice()
        atexit.register(self.uninstall)
        with contextlib.suppress(RuntimeError):  # none runs here
            self._attach.watch(asyncio.get_running_loop())

    def uninstall(self) -> None:
        """Undo all that was installed and started, last first."""
        with self._starting:  # a loop may begin to run in another thread
            if not self.installed:
                return
            self.installed = False
        atexit.unregister(self.uninstall)
        if self._signals is not None:
            self._signals.remove()
        self._attach.remove()
        self._gc_probe.remove()
        self._unawaited.remove()
        self._handovers.remove()
        lean_on(None)
        if self._started:
            self._started = False
            if self._endpoint is not None:
                self._endpoint.stop()
                self._endpoint = None
            self._watchdog.stop()
        self._hold_dump.stop()  # whose file the watchdog looks at
        self._lost_tasks.collect()
        self._journal.stop(timeout=1.0)

    @property
    def prometheus_url(self) -> str | None:
        """Where ``/metrics`` is served; None while it is not."""
        return self._endpoint.url if self._endpoint is not None else None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Attach to a loop that runs already, here or in another thread."""
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._attach.watch(loop)
        else:
            loop.call_soon_threadsafe(self._attach.watch, loop, True)

    def _start_once(self) -> None:
        """Start what needs a thread: with the first loop that runs, so that importing starts none."""
        if not self._started:
            with self._starting:
                if self.installed and not self._started:
                    self._started = True  # also if it fails: not to be tried at each run of a loop
                    self._start()

    def _loop_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watchdog.nudge()
        if self._signals is not None and self.installed:
            self._signals.enter(loop)

    def _loop_left(self) -> None:
        """Leave the signals alone between two runs. May raise what a signal's handler raises."""
        if self._signals is not None and self.installed:
            self._signals.leave()

    def _start(self) -> None:
        self._journal.start()
        try:
            self._hold_dump.start()
        except OSError as error:
            self._journal.say(
                logging.WARNING, "loopwatch: long holds of the GIL will not be dumped: %s", error
            )
        self._watchdog.start()
        if self.settings.prometheus_port is not None:
            self._serve(self.settings.prometheus_host, self.settings.prometheus_port)

    def _serve(self, host: str, port: int) -> None:
        from .exporters.endpoint import Endpoint
        from .exporters.prometheus import SnapshotCollector, registry_of

        try:
            registry = registry_of(SnapshotCollector(self.reader.snapshot, self._journal))
            endpoint = Endpoint(
                host, port, registry, self._journal, clock=self._clock, on_cost=self._endpoint_cost
            )
        except OSError as error:
            # Under ``loopwatch run`` the holder is a process of the same program, or has been complained of.
            level = logging.DEBUG if _settings.RUN in os.environ else logging.WARNING
            self._journal.say(
                level,
                "loopwatch: no /metrics endpoint, since %s:%d cannot be had: %s. Everything else works; give "
                "prometheus_port=0 for any free port, or None for no endpoint.",
                host,
                port,
                error,
            )
            return
        endpoint.start()
        self._endpoint = endpoint

    def _endpoint_cost(self, seconds: float) -> None:
        self._endpoint_time += seconds

    def _tell(self, stall: Stall) -> None:
        if not stall.in_progress:
            self._stall_log.add(stall)
        self._report.tell(stall)

    def _check(self) -> None:
        """See to what others may undo: our signal handlers, the watchdog's thread. At each heartbeat."""
        if self._signals is not None:
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

    def _rearm_dump(self) -> None:
        self._hold_dump.chore(needed=any(state.running for state in self._states.all()))

    def _refresh_kept(self) -> None:
        if self._kept is not None:
            self._kept.refresh()

    def kept_collector(self) -> KeptCollector:
        """Return the renderings kept ready for the program's own registry and service."""
        if self._kept is None:
            from .exporters.kept import KeptCollector

            self._kept = KeptCollector(self.reader.snapshot, self._journal)
        return self._kept

    def before_fork(self) -> None:
        """Take back what a child must not inherit."""
        self._hold_dump.before_fork()
        if self._signals is not None:
            self._signals.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._hold_dump.after_fork_in_parent()
        if self._signals is not None:
            self._signals.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Start afresh in a forked child, where the parent's threads and loops do not run."""
        self._states.clear()
        self._census.clear()
        JOBS.clear()
        if self._signals is not None:
            self._signals.after_fork_in_child()
        self._stall_log.clear()
        self._attach.forget()
        self._started = False
        self._starting = threading.RLock()
        self._journal.forget_thread()
        self._watchdog.forget_thread()
        self._hold_dump.forget()
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
