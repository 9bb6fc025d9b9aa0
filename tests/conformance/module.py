"""Runs one module of CPython's tests of asyncio in this process, and writes down how each test ended.

    python tests/conformance/module.py NAME bare|watched FILE

FILE receives a JSON object: ``endings`` by test, ``errors`` with the tracebacks of those that failed, and
``counts`` of what the agent saw, empty in a bare run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import unittest
import weakref
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from test import support, test_asyncio
from test.support import os_helper

if TYPE_CHECKING:
    from loopwatch import Agent

REQUEST: ContextVar[str] = ContextVar("conformance_request")
CLOCK = ("time", "call_later", "call_at", "_run_once")
"""A loop class with one of these of its own has its own idea of time: the agent is to leave it alone."""


class Loops:
    """Counts the loops that run, from below the agent: of those it overlooks the agent cannot tell."""

    def __init__(self) -> None:
        self.counts = Counter(loops=0, attached=0)
        self._seen: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        run_forever = asyncio.BaseEventLoop.run_forever

        def counted(loop: asyncio.BaseEventLoop) -> None:
            self._count(loop)
            run_forever(loop)

        asyncio.BaseEventLoop.run_forever = counted

    def _count(self, loop: asyncio.AbstractEventLoop) -> None:
        standard = all(getattr(type(loop), name) is getattr(asyncio.BaseEventLoop, name) for name in CLOCK)
        if standard and loop not in self._seen:
            self._seen.add(loop)
            self.counts["loops"] += 1
            self.counts["attached"] += hasattr(loop, "_loopwatch_tasks")


def watch() -> Agent:
    """Install the agent with all its probes and its threads, which start with the first loop."""
    import loopwatch  # a bare run does not even do this

    agent = loopwatch.install(prometheus_port=0)
    loopwatch.watch_var(REQUEST)  # or no hand-over between threads would be watched
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(asyncio.sleep(0))
    return agent


def open_files() -> int:
    """Count the files that the process has open, without the system's, of which the watchdog reads some."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            count += not os.readlink(f"/proc/self/fd/{number}").startswith(("/proc/", "/sys/"))
    return count


def load(name: str) -> unittest.TestSuite:
    """Load one module of the package; one that skips itself becomes one skipped test."""
    place = Path(test_asyncio.__path__[0])
    return unittest.TestLoader().discover(str(place), f"{name}.py", str(place.parents[1]))


def ids(tests: Any) -> Iterator[str]:
    """Yield the id of each test."""
    if isinstance(tests, unittest.TestSuite):
        for test in tests:
            yield from ids(test)
    else:
        yield tests.id()


def run(tests: unittest.TestSuite) -> tuple[dict[str, str], dict[str, str]]:
    """Run tests; return how each ended, and the tracebacks of those that failed."""
    endings = dict.fromkeys(ids(tests), "ok")
    support.use_resources = ()  # in particular no network
    result = unittest.TextTestRunner(verbosity=2, warnings="default").run(tests)
    for ending in ("skipped", "failures", "errors", "expectedFailures"):
        endings |= {test.id(): ending for test, _ in getattr(result, ending)}
    endings |= {test.id(): "unexpectedSuccesses" for test in result.unexpectedSuccesses}
    return endings, {test.id(): traceback for test, traceback in result.failures + result.errors}


def seen(agent: Agent) -> dict[str, float]:
    """Return what the agent saw: tasks, and loops it left alone by reason."""
    points = agent.snapshot().points
    tasks = sum(point.value for point in points["task_created"])
    left = {f"left alone: {point.labels[0]}": point.value for point in points.get("unwatched", ())}
    return {"tasks": tasks, **left}


def failures(agent: Agent) -> dict[str, str]:
    """Return, like the ending of one more test, which parts of the agent failed."""
    parts = [point.labels[0] for point in agent.snapshot().points["internal_errors"] if point.value]
    return {"the agent": f"failed in {', '.join(parts)}"} if parts else {}


def main(name: str, mode: str, file: str) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in a shell's background inherits that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    REQUEST.set("conformance")
    os_helper.fd_count = open_files
    loops = Loops()
    agent = watch() if mode == "watched" else None
    endings, errors = run(load(name))
    counts: dict[str, float] = {}
    if agent is not None:
        counts = {**loops.counts, **seen(agent)}
        endings |= failures(agent)
    Path(file).write_text(json.dumps({"endings": endings, "errors": errors, "counts": counts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
