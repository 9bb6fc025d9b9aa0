"""Which tasks asyncio knows, though one of them does not let itself be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from loopwatch._internals import tasks


class Growing:
    """In the place of asyncio's set, to which a loop adds tasks while it is copied the first few times."""

    def __init__(self, *tasks: Any) -> None:
        self.copied = 0
        self._tasks = tasks

    def __iter__(self) -> Iterator[Any]:
        self.copied += 1
        for task in self._tasks:
            yield task
            if self.copied < 3:
                raise RuntimeError("Set changed size during iteration")


def test_they_are_known_though_loops_add_some_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(loop: asyncio.AbstractEventLoop) -> Any:
        raise TypeError("unhashable type")

    with closing(asyncio.new_event_loop()) as loop, closing(asyncio.new_event_loop()) as other:
        done, pending, elsewhere = loop.create_future(), loop.create_future(), other.create_future()
        done.set_result(None)
        known = Growing(done, pending, elsewhere)
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "all_tasks", refuse)
            patched.setattr(asyncio.tasks, tasks._KNOWN, known)
            assert tasks.tasks_known(loop) == [pending]
    assert known.copied == 3
