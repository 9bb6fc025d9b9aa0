"""Installs and removes the agent of this process, and offers what there is only with one."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING

import loopwatch  # ``loopwatch.Agent`` is then known to who evaluates annotations, without being loaded here

from ._arguments import UNSET, Unset
from ._errors import ConfigurationError, LoopwatchError

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from ._engine import Engine
    from ._settings import Settings
    from .exporters.kept import KeptCollector
    from .exporters.mount import ASGIApplication

logger = logging.getLogger("loopwatch")


_agent: loopwatch.Agent | None = None
_engine: Engine | None = None
_installing = threading.RLock()  # reentrant: a signal handler may uninstall while install() is on the stack


def install(
    *,
    service_name: str | Unset = UNSET,
    stall_threshold: float | Unset = UNSET,
    prometheus_port: int | Unset | None = UNSET,
    prometheus_host: str | Unset = UNSET,
    otlp: bool | Unset | None = UNSET,
    job_spans: bool | Unset = UNSET,
    keep_tasks: bool | Unset = UNSET,
    drain_timeout: float | Unset | None = UNSET,
    app_packages: tuple[str, ...] | list[str] | Unset = UNSET,
    hold_dump: bool | str | Unset = UNSET,
    hold_threshold: float | Unset | None = UNSET,
    console: bool | int | str | Unset = UNSET,
    console_socket: bool | Unset = UNSET,
    ignore: tuple[str, ...] | list[str] | Unset = UNSET,
    allow: tuple[str, ...] | list[str] | Unset = UNSET,
) -> loopwatch.Agent:
    """Watch every event loop of this process, those that exist and those to come.

    Call it once, as early as you like: before any loop exists, or inside a running one. A second call
    returns the same agent. Every argument is also ``LOOPWATCH_<NAME>`` in the environment; the argument wins.

    - ``service_name``: default ``OTEL_SERVICE_NAME``, else the program's name.
    - ``stall_threshold``: seconds a loop may be busy before it is a stall; 0.005 to 60, default 0.1.
    - ``prometheus_port``: of the ``/metrics`` endpoint; default 9464, 0 for any free one, None for none.
    - ``prometheus_host``: address it binds; default ``127.0.0.1``.
    - ``otlp``: True exports metrics, spans and logs by OpenTelemetry, False does not; default None: if an
      ``OTEL_EXPORTER_OTLP_*`` variable is set. Those variables say where and how. Needs ``loopwatch[otlp]``.
    - ``job_spans``: True exports each job of ``spawn()`` as a child of the span it was spawned in;
      default False.
    - ``keep_tasks``: True holds each task that is created in a watched loop until it is done, so that none
      is garbage-collected while pending; default False: no task lives longer than it would without us.
    - ``drain_timeout``: seconds a plain program's tasks have to end, on SIGTERM and SIGINT, before the signal
      takes its course; default None: no drain. Under an ASGI server use ``drain_lifespan()``.
    - ``app_packages``: names of modules that are application code though installed like a library.
    - ``hold_dump``: where the stacks go when the GIL is held for over 5 s: True (default) for a file in the
      temporary directory, a path, or False to leave the timer of ``faulthandler`` alone.
    - ``hold_threshold``: seconds for which a connection of a pool may be held before a log line says by whom;
      1 to 86400, default 60, None for never.
    - ``console``: True, or a port, for a telnet console on loopback, in which nothing can be changed;
      ``"repl"`` for one that also cancels tasks, sends signals and runs code; default False. Needs
      ``loopwatch[console]``. If the port is taken, as by another worker, the next free ones are tried.
    - ``console_socket``: True (default) answers ``loopwatch console`` on a UNIX socket that this user alone
      can reach, once the first loop runs; False makes none.
    - ``ignore``: rules not to apply, such as ``LW104``, or not to what a pattern names:
      ``LW101:shop.startup.*``. See ``docs/rules/``.
    - ``allow``: patterns of names, such as ``shop.startup.*``, that all rules are to leave alone: functions
      that may block, tasks that may live for long.

    With ``LOOPWATCH_DISABLED=1`` nothing is watched, the agent's views are empty, and no setting is checked.
    Raises ConfigurationError for a value that cannot work, before anything is changed.
    """
    from . import _settings  # not loaded before it is needed, as most of loopwatch

    arguments: dict[str, object] = {
        "service_name": service_name,
        "stall_threshold": stall_threshold,
        "prometheus_port": prometheus_port,
        "prometheus_host": prometheus_host,
        "otlp": otlp,
        "job_spans": job_spans,
        "keep_tasks": keep_tasks,
        "drain_timeout": drain_timeout,
        "app_packages": app_packages,
        "hold_dump": hold_dump,
        "hold_threshold": hold_threshold,
        "console": console,
        "console_socket": console_socket,
        "ignore": ignore,
        "allow": allow,
    }
    disabled = _settings.disabled()
    settings = _settings.load({}, {}) if disabled else _settings.load(arguments)
    with _installing:
        if _agent is None:
            return _install(settings, disabled)
        if not disabled and settings != _agent.settings:
            logger.warning(
                "loopwatch: install() was called before with other settings, which stay in force: %s. "
                "Call uninstall() first to change them.",
                _agent.settings,
            )
        return _agent


def _install(settings: Settings, disabled: bool) -> loopwatch.Agent:
    from ._agent import Agent
    from ._engine import Engine

    global _agent, _engine
    engine = _engine = Engine(settings)
    agent = _agent = Agent(engine)
    if not disabled:
        _register_fork_hooks()
        try:
            engine.install()
        except BaseException:  # raised by a signal handler: failures of our own parts do not get here
            if _engine is engine:
                _agent = _engine = None
            engine.undo()
            raise
        if _engine is not engine:  # a signal handler has uninstalled it, maybe before all of it was in place
            engine.undo()
    return agent


def installed() -> loopwatch.Agent | None:
    """Return the agent of this process; None while nothing is installed."""
    return _agent


def uninstall() -> None:
    """Leave the process as ``install()`` found it. Does nothing when nothing is installed."""
    global _agent, _engine
    with _installing:
        engine, _agent, _engine = _engine, None, None
    if engine is not None:
        engine.uninstall()


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Watch ``loop`` although it already runs in another thread, or is of a class we do not know.

    Any thread. Loops of asyncio and uvloop that start after ``install()`` need no such call.
    Raises LoopwatchError when nothing is installed, ConfigurationError if ``loop`` is closed or not a loop.
    """
    engine = _required()
    if not engine.installed:
        return
    instead = "Give a loop that runs, such as asyncio.get_running_loop()."
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise ConfigurationError(f"watch({loop!r}): got {type(loop).__name__}, not an event loop. {instead}")
    try:
        engine.watch(loop)
    except RuntimeError as error:  # raised by the loop, which is closed
        raise ConfigurationError(f"watch({loop!r}): it takes no calls ({error}). {instead}") from None


def prometheus_collector() -> KeptCollector:
    """Return a collector for a ``prometheus_client`` registry of your own.

    The watchdog keeps its output ready, at most 5 s old, so collecting it in the event loop costs the loop
    next to nothing. Only the first collection, and one after a pause of more than three minutes, is rendered
    on the spot. Imports ``prometheus_client``: set any variables that it reads from the environment before.
    Raises LoopwatchError when nothing is installed.
    """
    return _required().metrics.kept()


def metrics_asgi_app() -> ASGIApplication:
    """Return an ASGI application that serves the metrics, to mount in a service.

    Imports ``prometheus_client``, as ``prometheus_collector()`` does. Raises LoopwatchError when nothing is
    installed.
    """
    from .exporters.mount import asgi_app

    return asgi_app(_required().metrics.kept())


def metrics_wsgi_app() -> WSGIApplication:
    """Return a WSGI application that serves the metrics, to mount in a service.

    Imports ``prometheus_client``, as ``prometheus_collector()`` does. Raises LoopwatchError when nothing is
    installed.
    """
    from .exporters.mount import wsgi_app

    return wsgi_app(_required().metrics.kept())


def _required() -> Engine:
    if _engine is None:
        raise LoopwatchError("loopwatch is not installed: call loopwatch.install() first")
    return _engine


_fork_hooks_registered = False


class _Forking(threading.local):
    engine: Engine | None = None
    """What the forking thread has prepared, kept here because uninstall() may run before the fork is over."""


_forking = _Forking()


def _register_fork_hooks() -> None:
    """Have forked children start afresh. Hooks cannot be removed: once uninstalled, these do nothing."""
    global _fork_hooks_registered
    if not _fork_hooks_registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )
        _fork_hooks_registered = True


def _before_fork() -> None:
    _forking.engine = engine = _engine
    if engine is not None:
        engine.before_fork()


def _after_fork_in_parent() -> None:
    if _forking.engine is not None:
        _forking.engine.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _installing
    _installing = threading.RLock()
    if _forking.engine is not None:
        _forking.engine.after_fork_in_child()
