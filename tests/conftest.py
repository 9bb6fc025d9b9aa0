"""For all tests: nothing of loopwatch may stay behind, and nothing a test needs may be silently missing."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import operator
import os
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import loopwatch
from loopwatch._collectors.pools.catalogue import READERS
from loopwatch._store import watched

pytest_plugins = ["pytester"]

LOOP_KINDS = ("stock", "eager", "uvloop")

NEEDS = "needs: "
"""Prefix of the reason of skips due to the machine: ``pytest.skip("needs: uvloop")``."""

POOL_READERS = os.path.join(os.path.dirname(loopwatch.__file__), "_collectors", "pools", "")
"""The directory of the functions that wrap those of libraries."""

PATIENCE = 60.0
"""Seconds that a thread may take to end that was asked to."""

REQUIRE_ALL = os.environ.get("TEST_REQUIRE_ALL") == "1"
"""Set where everything is installed (.ci/run): such a skip is then a failure."""

PYTHONS = os.environ.get("TEST_PYTHONS", "").split()
"""Set where several Pythons are tested at once (.ci/run): tests marked ``alike`` run only on the first."""


def pytest_configure() -> None:
    """Let SIGINT interrupt even where it is ignored, as inherited by a background job of a shell.

    And let programs that tests start keep their bytecode, or hundreds would each compile all of loopwatch.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop", choices=LOOP_KINDS, default="stock", help="the kind of event loop that tests/loops runs on"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """If several Pythons are tested at the same time, do not let all do the same.

    Tests that do not depend on the Python run only on the first. And each Python begins elsewhere in the
    order: some tests compute and some wait, and all Pythons would need a CPU at one time and none at another.
    """
    version = "{}.{}".format(*sys.version_info)
    if version not in PYTHONS:
        return
    if number := PYTHONS.index(version):
        alike = {item for item in items if item.get_closest_marker("alike")}
        config.hook.pytest_deselected(items=list(alike))
        items[:] = [item for item in items if item not in alike]
    begins = [place for place, item in enumerate(items) if place == 0 or item.path != items[place - 1].path]
    begin = begins[len(begins) * number // len(PYTHONS)] if items else 0
    items[:] = items[begin:] + items[:begin]


def _is_ours(hook: object) -> bool:
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return module.partition(".")[0] == "loopwatch"


_UNTOUCHED: dict[type, list[object]] = {}
"""The contents of library classes in which nothing was ours: they are examined twice for each test."""


def _wrapped_in(cls: type) -> list[str]:
    """Name the methods of a class that are wrapped."""
    parts = list(vars(cls).values())
    known = _UNTOUCHED.get(cls, [])
    if len(parts) == len(known) and all(map(operator.is_, parts, known)):
        return []
    codes = {
        name: getattr(getattr(raw, "__func__", raw), "__code__", None) for name, raw in vars(cls).items()
    }
    wrapped = [
        f"{cls.__qualname__}.{name}"
        for name, code in codes.items()
        if code is not None and code.co_filename.startswith(POOL_READERS)
    ]
    if not wrapped:
        _UNTOUCHED[cls] = parts
    return wrapped


def _wrapped_in_pools() -> list[str]:
    """Name the methods in the modules of our readers that are wrapped."""
    modules = [sys.modules[name] for reader in READERS for name in reader.modules if name in sys.modules]
    classes = {found for module in modules for found in vars(module).values() if isinstance(found, type)}
    return sorted(name for cls in classes for name in _wrapped_in(cls))


def _hooks() -> dict[str, object]:
    """Return every place in the process that loopwatch hooks into, with what is there now."""
    uvloop = sys.modules.get("uvloop")
    methods = "run_forever", "create_task", "call_exception_handler", "call_soon_threadsafe"
    return {
        "methods of asyncio's loops": [vars(asyncio.BaseEventLoop).get(name) for name in methods],
        "methods of uvloop's loops": [uvloop and vars(uvloop.Loop).get(name) for name in methods],
        "warning of coroutines never awaited": getattr(warnings, "_warn_unawaited_coroutine", None),
        "ThreadPoolExecutor.submit": ThreadPoolExecutor.submit,
        "Thread.start": threading.Thread.start,
        "pools": _wrapped_in_pools(),
        "asyncio.Queue": (asyncio.Queue.put_nowait, asyncio.Queue.get_nowait),
        "faulthandler.dump_traceback_later": faulthandler.dump_traceback_later,
        "faulthandler.cancel_dump_traceback_later": faulthandler.cancel_dump_traceback_later,
        "gc.callbacks": [callback for callback in gc.callbacks if _is_ours(callback)],
        "sys.meta_path": [finder for finder in sys.meta_path if _is_ours(finder)],
        "signals": [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)],
        "threads": _threads(),
    }


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("loopwatch")}


@pytest.fixture(autouse=True, scope="module")
def nothing_old_to_collect() -> None:
    """Make the garbage collector skip what stays: six thousand tests, and all that was imported.

    Each collection would take 0.2 s for that, even in the middle of a measurement: longer than a stall.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def leave_nothing_behind() -> Iterator[None]:
    """Fail a test after which something of loopwatch is still hooked or running, and remove it."""
    before, threads = _hooks(), _threads()
    yield
    watched._watches = ()
    for thread in _threads() - threads if loopwatch.installed() is None else ():
        thread.join(PATIENCE)  # asked to end, and on a busy machine not waited for until it has
    after = _hooks()
    if after != before:
        loopwatch.uninstall()
    assert after == before, "the test left something of loopwatch behind"


def _fail_if_needed(report: pytest.TestReport | pytest.CollectReport) -> None:
    if REQUIRE_ALL and report.skipped and isinstance(report.longrepr, tuple):
        file, line, reason = report.longrepr
        if NEEDS in reason:
            report.outcome = "failed"
            report.longrepr = f"{file}:{line}: {reason}, and TEST_REQUIRE_ALL=1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_needed(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_needed(report)
    return report
