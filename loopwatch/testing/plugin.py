"""A pytest plugin that fails tests which block their event loop, or leave tasks behind.

It does nothing unless enabled: for one test by the marker ``loopwatch``, for all by ``--loopwatch`` or the
ini option of that name. See ``docs/how-to/fail-tests-that-stall.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NoReturn

import pytest

import loopwatch
from loopwatch._clock import SYSTEM

CAUSES = ("cpu", "blocking", "flood", "gil")
"""Causes of the stalls that count: what a test's own code does to its loop. It is not to blame if the machine
is busy with other work, or for when the garbage collector runs."""
OF_THE_FRAMEWORK = ("TestRunner._run_tests_and_fixtures",)
"""Coroutines that outlive a test by design: anyio's runner of all tests of a module."""
SHOWN = 10
"""The most stalls, and the most tasks, that are reported for a failed test."""

MARKER = (
    "loopwatch(stall_threshold=0.1, leaks=True, allow=(), enabled=True): fail the test if it blocks its "
    "event loop for that many seconds (None: never), or leaves tasks that are pending or lost; `allow` has "
    "patterns of the names of functions that may do so"
)


@dataclass(frozen=True)
class Limits:
    """What a test may do."""

    enabled: bool
    stall_threshold: float | None = 0.1
    leaks: bool = True
    allow: tuple[str, ...] = ()

    def allows(self, *names: str | None) -> bool:
        """Whether one of ``names`` is allowed to block or be left."""
        return any(fnmatchcase(name, pattern) for name in names if name for pattern in self.allow)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    parser.getgroup("loopwatch").addoption(
        "--loopwatch",
        action="store_true",
        help="fail tests that block their event loop or leave tasks behind",
    )
    parser.addini("loopwatch", "as --loopwatch", type="bool", default=False)
    parser.addini("loopwatch_stall_threshold", "seconds that a loop may be blocked, or none", default="0.1")
    parser.addini("loopwatch_allow", "patterns of functions that may block or be left", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; refuse invalid options."""
    config.addinivalue_line("markers", MARKER)
    _limits_for_all(config)


def _limits_for_all(config: pytest.Config) -> Limits:
    text = config.getini("loopwatch_stall_threshold").strip()
    try:
        threshold = None if text.lower() == "none" else float(text)
    except ValueError:
        raise pytest.UsageError(
            f"loopwatch_stall_threshold = {text}: not a number. Write seconds, such as 0.1, or none."
        ) from None
    enabled = config.getoption("--loopwatch") or config.getini("loopwatch")
    return Limits(bool(enabled), threshold, allow=tuple(config.getini("loopwatch_allow")))


def _limits_of(item: pytest.Item) -> Limits:
    """Return the limits of a test: those for all, then each marker, the closest last."""
    limits = _limits_for_all(item.config)
    for marker in reversed(list(item.iter_markers("loopwatch"))):
        given = dict(marker.kwargs)
        unknown = set(given) - set(Limits.__dataclass_fields__)
        if unknown or marker.args:
            got = ", ".join([*map(repr, marker.args), *sorted(unknown)])
            _refuse(item, f"takes stall_threshold, leaks, allow and enabled, by name; got {got}")
        allow = given.pop("allow", ())
        added = (allow,) if isinstance(allow, str) else tuple(allow)
        limits = replace(limits, **{"enabled": True, **given}, allow=limits.allow + added)
    return limits


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Watch a test while it runs. If it fails by itself, only its own failure is reported."""
    limits = _limits_of(item)
    if not limits.enabled:
        return (yield)
    there = loopwatch.installed()
    agent = there or _watcher(item, limits)
    threshold = agent.settings.stall_threshold
    if limits.stall_threshold is not None and threshold > limits.stall_threshold:
        _refuse(
            item,
            f"the program has installed loopwatch with stall_threshold={threshold:g}, which does not see "
            f"stalls of {limits.stall_threshold:g} s. Give the test a threshold as high, or more.",
        )
    began = SYSTEM.wall()
    try:
        outcome = yield
        left = list(_left(agent, limits, began)) if limits.leaks else []
    finally:
        if there is None:
            loopwatch.uninstall()  # takes a last look, so that everything is reported
        else:
            threading.Event().wait(threshold)  # its watchdog looks twice meanwhile
    found = [*_stalls(agent, limits, began), *left, *(_lost(agent, limits, began) if limits.leaks else ())]
    if found:
        pytest.fail("\n".join(found), pytrace=False)
    return outcome


def _watcher(item: pytest.Item, limits: Limits) -> loopwatch.Agent:
    threshold = 60.0 if limits.stall_threshold is None else limits.stall_threshold
    try:
        return loopwatch.install(
            service_name="pytest",
            stall_threshold=threshold,
            prometheus_port=None,
            otlp=False,
            hold_dump=False,
            console=False,  # whatever the environment says: it would take half a second of the first test
            console_socket=False,
        )
    except loopwatch.ConfigurationError as error:
        _refuse(item, str(error))


def _refuse(item: pytest.Item, why: str) -> NoReturn:
    pytest.fail(f"marker loopwatch of {item.nodeid}: {why}", pytrace=False)


def _stalls(agent: loopwatch.Agent, limits: Limits, began: float) -> Iterator[str]:
    if limits.stall_threshold is None:
        return
    found = [
        stall
        for stall in agent.stalls()
        if stall.started_at + stall.duration > began
        and stall.duration >= limits.stall_threshold
        and stall.cause in CAUSES
        and not limits.allows(stall.call, *(frame.name for frame in stall.stack))
    ]
    for stall in found[:SHOWN]:
        culprit = "no function that was seen" if stall.culprit is None else str(stall.culprit)
        call = f"{stall.call} in " if stall.call else ""
        yield f"blocked the event loop for {stall.duration * 1000:.0f} ms [{stall.cause}]: {call}{culprit}"
        yield from (f"    {frame}" for frame in stall.stack)
    if len(found) > SHOWN:
        yield f"... and {len(found) - SHOWN} stalls more"


def _left(agent: loopwatch.Agent, limits: Limits, began: float) -> Iterator[str]:
    """Report tasks that this test created and that are still pending."""
    found = [
        task
        for task in agent.tasks()
        if task.state == "pending"
        and task.creator_seen  # else it may be a fixture's, whose loop may serve a whole session
        and task.started_at >= began
        and not task.daemon
        and task.coroutine not in OF_THE_FRAMEWORK
        and not limits.allows(task.coroutine, task.site.name)
    ]
    for task in found[:SHOWN]:
        waits = f", waits for {task.waiting_on}" if task.waiting_on else ""
        yield f"left a task pending: {task.coroutine}, created by {task.site}{waits}"
    if len(found) > SHOWN:
        yield f"... and {len(found) - SHOWN} tasks more"


def _lost(agent: loopwatch.Agent, limits: Limits, began: float) -> Iterator[str]:
    for lost in agent.lost():
        if lost.lost_at >= began and not limits.allows(lost.coroutine, lost.site.name):
            died = f" ({lost.exception})" if lost.exception else ""
            yield f"lost a task [{lost.reason}]: {lost.coroutine}{died}, created by {lost.site}"
