"""The event loop under test: one kind for each run, chosen with ``--loop``."""

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
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    """What makes the loop, for ``asyncio.Runner(loop_factory=...)``."""
    kind = request.config.getoption("--loop")
    if kind == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")
        return uvloop.new_event_loop
    if kind == "eager":
        if sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")
        return _eager_loop
    return asyncio.new_event_loop
