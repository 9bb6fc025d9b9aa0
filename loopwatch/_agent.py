"""The one place that wires: settings in, parts built, attached, started; and all of it undone in reverse."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from . import _settings
from ._clock import SYSTEM, Clock
from ._errors import LoopwatchError
from ._journal import Journal
from ._probes.attach import BOUNDARY, Attach
from ._probes.gc import GcProbe
from ._reader import Own, Reader
from ._records import Loop, Snapshot, Stall
from ._settings import UNSET, Settings, Unset
from ._store.loop_state import LoopStates
from ._store.pauses import Pauses
from ._store.stall_log import StallLog
from ._watchdog.code_owner import CodeOwner
from ._watchdog.evidence import Evidence, System
from ._watchdog.hold_dump import HoldDump
from ._watchdog.lateness import Lateness
from ._watchdog.report import StallReport
from ._watchdog.stalls import Tracker, Witness
from ._watchdog.thread import Watchdog

if TYPE_CHECKING:
    from .exporters.endpoint import Endpoint
    from .exporters.kept import KeptCollector

logger = logging.getLogger("loopwatch")

SHORTEST_TICK = 0.005
"""Seconds between two looks of the watchdog, however low the threshold: it costs some 20 us each."""


class Agent:
    """Watches this process. Made by ``install()``; its views may be asked from any thread."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM) -> None:
        self._settings = settings
        self._clock = clock
        self._journal = Journal(clock)
        self._states = LoopStates()
        self._stall_log = StallLog()
        self._build_watchdog()
        self._attach = Attach(
            self._states, settings.stall_threshold, clock, self._journal, self._loop_runs, self._check
        )
        self._reader = Reader(
            settings.service_name, self._states, self._stall_log, self._watchdog, self._own(), clock
        )
        self._kept: KeptCollector | None = None
        self._endpoint: Endpoint | None = None
        self._endpoint_time = 0.0
        self._installed = False
        self._started = False
        self._starting = threading.Lock()  # two loops may begin to run at once; never taken afterwards

    def _build_watchdog(self) -> None:
        settings, clock = self._settings, self._clock
        pauses = Pauses()
        self._gc_probe = GcProbe(self._states, pauses, clock, self._journal)
        self._report = StallReport(clock, self._journal)
        self._hold_dump = HoldDump(settings.hold_dump, self._journal)
        lateness = Lateness(clock, BOUNDARY)
        witness = Witness(
            clock=clock,
            threshold=settings.stall_threshold,
            pauses=pauses,
            lateness=lateness,
            evidence=Evidence(clock, System()),
            owner=CodeOwner(settings.app_packages),
            boundary=BOUNDARY,
            tell=self._tell,
        )
        self._watchdog = Watchdog(
            states=self._states,
            make_tracker=lambda state: Tracker(state, witness),
            lateness=lateness,
            tick=max(settings.stall_threshold / 4, SHORTEST_TICK),
            clock=clock,
            journal=self._journal,
            chores=(self._rearm_dump, self._refresh_kept),
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
                "journal": lambda: self._journal.dropped,
            },
            internal_errors=self._journal.failures,
            log_suppressed=lambda: self._report.log_suppressed,
            unwatched=self._attach.unwatched.copy,
            own_timers=self._attach.own_timers,
        )

    # What users ask.

    def snapshot(self) -> Snapshot:
        """Return everything known now, as one immutable record."""
        return self._reader.snapshot()

    def loops(self) -> tuple[Loop, ...]:
        """Return the health of each event loop seen so far."""
        return self._reader.loops()

    def stalls(self) -> tuple[Stall, ...]:
        """Return the last 256 stalls, oldest first; after them the one going on in each loop, if any."""
        return self._reader.stalls()

    @property
    def prometheus_url(self) -> str | None:
        """Where ``/metrics`` is served; None without an endpoint, and before the first loop runs."""
        return self._endpoint.url if self._endpoint is not None else None

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    # Life.

    def _install(self) -> None:
        self._installed = True
        self._gc_probe.install()
        self._attach.install()
        atexit.register(self._uninstall)
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._attach.watch(running)

    def _uninstall(self) -> None:
        """Undo all that ``_install`` and ``_start`` did, last first."""
        if not self._installed:
            return
        self._installed = False
        atexit.unregister(self._uninstall)
        self._attach.remove()
        self._gc_probe.remove()
        if self._started:
            self._started = False
            self._hold_dump.stop()
            self._watchdog.stop()
            self._journal.stop(timeout=1.0)
            if self._endpoint is not None:
                self._endpoint.stop()
                self._endpoint = None

    def _loop_runs(self) -> None:
        """Start what needs a thread: with the first loop that runs, so that importing starts none."""
        if not self._started:
            with self._starting:
                if not self._started:
                    self._start()
                    self._started = True
        self._watchdog.nudge()

    def _start(self) -> None:
        self._journal.start()
        try:
            self._hold_dump.start()
        except OSError as error:
            self._journal.say(
                logging.WARNING, "loopwatch: long holds of the GIL will not be dumped: %s", error
            )
        self._watchdog.start()
        if self._settings.prometheus_port is not None:
            self._serve(self._settings.prometheus_host, self._settings.prometheus_port)

    def _serve(self, host: str, port: int) -> None:
        from .exporters.endpoint import Endpoint
        from .exporters.prometheus import SnapshotCollector, registry_of

        try:
            registry = registry_of(SnapshotCollector(self.snapshot, self._journal))
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
        """Start the watchdog again if something killed it. Asked at each heartbeat."""
        if not self._watchdog.alive:
            self._journal.failure(
                "watchdog", LoopwatchError("the watchdog's thread was killed; started anew")
            )
            self._watchdog.start()

    def _rearm_dump(self) -> None:
        self._hold_dump.chore(needed=any(state.running for state in self._states.all()))

    def _refresh_kept(self) -> None:
        if self._kept is not None:
            self._kept.refresh()

    def _kept_collector(self) -> KeptCollector:
        if self._kept is None:
            from .exporters.kept import KeptCollector

            self._kept = KeptCollector(self.snapshot, self._journal)
        return self._kept

    def _forget_parent(self) -> None:
        """Start afresh in a forked child, where the parent's threads and loops do not run."""
        self._states.clear()
        self._attach.forget()
        self._started = False
        self._starting = threading.Lock()
        self._journal.forget_thread()
        self._watchdog.forget_thread()
        self._hold_dump.forget()
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None


_agent: Agent | None = None
_installing = threading.Lock()


def install(
    *,
    service_name: str | Unset = UNSET,
    stall_threshold: float | Unset = UNSET,
    prometheus_port: int | Unset | None = UNSET,
    prometheus_host: str | Unset = UNSET,
    app_packages: tuple[str, ...] | list[str] | Unset = UNSET,
    hold_dump: bool | str | Unset = UNSET,
) -> Agent:
    """Watch every event loop of this process, those already made and those to come.

    Call it once, as early as you like: before any loop exists, or inside a running one. A second call
    returns the same agent. Every argument is also ``LOOPWATCH_<NAME>`` in the environment; the argument wins.

    - ``service_name``: else ``OTEL_SERVICE_NAME``, else the program's name.
    - ``stall_threshold``: seconds a loop may be busy before it is a stall; 0.005 to 60, default 0.1.
    - ``prometheus_port``: of the ``/metrics`` endpoint; default 9464, 0 for any free one, None for none.
    - ``prometheus_host``: address it binds; default ``127.0.0.1``.
    - ``app_packages``: names of modules that are application code though installed like a library.
    - ``hold_dump``: where the stacks of a hold of the GIL longer than 5 s go: True (default) a file in the
      temporary directory, a path, or False to leave the timer of ``faulthandler`` alone.

    With ``LOOPWATCH_DISABLED=1`` nothing is watched and the agent's views are empty. Raises
    ConfigurationError for a value that cannot work, before anything is changed.
    """
    global _agent
    arguments: dict[str, object] = {
        "service_name": service_name,
        "stall_threshold": stall_threshold,
        "prometheus_port": prometheus_port,
        "prometheus_host": prometheus_host,
        "app_packages": app_packages,
        "hold_dump": hold_dump,
    }
    settings = _settings.load(arguments)
    with _installing:
        if _agent is not None:
            if settings != _agent.settings:
                logger.warning(
                    "loopwatch: install() was called before with other settings, which stay in force: %s. "
                    "Call uninstall() first to change them.",
                    _agent.settings,
                )
        else:
            _agent = _install(settings)
        return _agent


def _install(settings: Settings) -> Agent:
    agent = Agent(settings)
    if not _settings.disabled():
        if settings.prometheus_port is not None:
            import prometheus_client  # noqa: F401 - now, in the caller's time, not when the first loop starts
        _register_fork_hooks()
        agent._install()
    return agent


def uninstall() -> None:
    """Leave the process as ``install()`` found it. Does nothing when nothing is installed."""
    global _agent
    with _installing:
        agent, _agent = _agent, None
    if agent is not None:
        agent._uninstall()


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Watch ``loop`` though it is running already in another thread, or is of a class of its own.

    Any thread. Loops of asyncio and uvloop that start after ``install()`` need no such call.
    Raises LoopwatchError when nothing is installed.
    """
    agent = _required()
    if not agent._installed:
        return
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        agent._attach.watch(loop)
    else:
        loop.call_soon_threadsafe(agent._attach.watch, loop)


def prometheus_collector() -> KeptCollector:
    """Return a collector for a ``prometheus_client`` registry of your own.

    What it yields is kept ready by the watchdog and at most a second or so old, so collecting it in the
    event loop costs the loop nothing. Raises LoopwatchError when nothing is installed.
    """
    return _required()._kept_collector()


def metrics_asgi_app() -> Any:
    """Return an ASGI application that serves the metrics, to mount in a service.

    Raises LoopwatchError when nothing is installed.
    """
    from .exporters.mount import asgi_app

    return asgi_app(_required()._kept_collector())


def metrics_wsgi_app() -> Any:
    """Return a WSGI application that serves the metrics, to mount in a service.

    Raises LoopwatchError when nothing is installed.
    """
    from .exporters.mount import wsgi_app

    return wsgi_app(_required()._kept_collector())


def _required() -> Agent:
    if _agent is None:
        raise LoopwatchError("loopwatch is not installed: call loopwatch.install() first")
    return _agent


_fork_hooks_registered = False


def _register_fork_hooks() -> None:
    """Have forked children start afresh. Hooks cannot be removed: these do nothing when uninstalled."""
    global _fork_hooks_registered
    if not _fork_hooks_registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )
        _fork_hooks_registered = True


def _before_fork() -> None:
    if _agent is not None:
        _agent._hold_dump.before_fork()


def _after_fork_in_parent() -> None:
    if _agent is not None:
        _agent._hold_dump.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _installing
    _installing = threading.Lock()
    if _agent is not None and _agent._installed:
        _agent._forget_parent()
