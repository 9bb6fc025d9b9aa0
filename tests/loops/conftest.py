"""The event loop under test, of one kind per run, chosen with ``--loop``; and an agent to watch it."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

import loopwatch
from loopwatch import Agent, Stall
from tests.machine import CpuWaits

from .child import Child
from .provoked import told_of
from .telnet import Connect, Telnet

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
T = TypeVar("T")

PATIENCE = 120.0
"""Seconds after which a test gives up waiting for what should come at once: a failure, never a pace."""

_KNOW_THE_KIND = {"new_loop", "blind", "eager"}
"""Fixtures that depend on ``--loop``: a test that uses none of them is the same whatever it says."""


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the kind of loop does not affect, since that runs on the stock one."""
    if config.getoption("--loop") == "stock":
        return
    alike = [item for item in items if _KNOW_THE_KIND.isdisjoint(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=alike)
    items[:] = [item for item in items if item not in alike]


@pytest.fixture
def new_loop(request: pytest.FixtureRequest) -> LoopFactory:
    """Make loops of that kind, also for ``asyncio.Runner(loop_factory=new_loop)``."""
    kind = request.config.getoption("--loop")
    if kind == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")
        return uvloop.new_event_loop
    if kind == "eager":
        if sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")
        return _eager_loop
    return asyncio.new_event_loop


@pytest.fixture
def blind(request: pytest.FixtureRequest) -> bool:
    """Whether the loop has no selector to watch, so that measurements of it are samples."""
    return request.config.getoption("--loop") == "uvloop"


@pytest.fixture
def eager_factories(blind: bool) -> None:
    """Skip the test where the loop cannot use an eager task factory."""
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    if blind and sys.version_info[:2] == (3, 13):
        pytest.skip("uvloop 0.23 gives them an argument that they do not take before Python 3.13.3")


@pytest.fixture
def run(new_loop: LoopFactory) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine in a new loop of that kind, as ``asyncio.run`` does."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    return run


@pytest.fixture
def install() -> Iterator[Callable[..., Agent]]:
    """Install without an endpoint, and uninstall after the test."""
    yield partial(loopwatch.install, prometheus_port=None)
    loopwatch.uninstall()


@pytest.fixture
def agent(install: Callable[..., Agent]) -> Agent:
    """An agent with the default settings. What it reports is complete after ``loopwatch.uninstall()``."""
    return install()


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Have the garbage collector run only when called: a call does nothing while another thread collects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def cpu_waits() -> CpuWaits:
    """Know for how long threads have waited for a CPU since the test began."""
    return CpuWaits()


@pytest.fixture
def told(agent: Agent, cpu_waits: CpuWaits) -> Callable[..., list[Stall]]:
    """Return the stall that the agent reports for each block the test provoked. Ends the agent."""
    return partial(told_of, agent=agent, cpu_waits=cpu_waits)


@pytest.fixture
def eventually() -> Callable[[Callable[[], T]], T]:
    """Return what a condition returns, as soon as that is truthy."""

    def eventually(condition: Callable[[], T]) -> T:
        never = threading.Event()  # its timeout is the pause between two questions
        ends = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < ends, "it never came"
            never.wait(0.005)
        return found

    return eventually


@pytest.fixture
def start_child(
    request: pytest.FixtureRequest, new_loop: LoopFactory, tmp_path: Path
) -> Iterator[Callable[[str], Child]]:
    """Start a program, on loops of the kind of ``new_loop``, that is told to end while it runs."""
    with ExitStack() as children:

        def start(source: str) -> Child:
            child = Child(source, request.config.getoption("--loop"), tmp_path)
            children.callback(child.close)
            return child

        yield start


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a separate program in a directory of its own, and return what it said."""

    def script(source: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "program.py"
        program.write_text(source, encoding="utf-8")
        return subprocess.run(
            [sys.executable, *options, program],
            env={**os.environ, "TMPDIR": str(tmp_path), **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return script


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to telnet consoles, and hang up after the test."""
    with ExitStack() as opened:

        def connect(url: str, *negotiation: bytes) -> Telnet:
            telnet = Telnet(url, *negotiation)
            opened.callback(telnet.close)
            return telnet

        yield connect
