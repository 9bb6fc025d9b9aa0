"""The event loop under test: of one kind in each run, chosen with ``--loop``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


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
