"""Documents are fetched at intervals, and stalls that begin in between are seen at a glance."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from loopwatch._cli.target import NoAnswerError
from loopwatch._cli.top.fetching import Fetching
from loopwatch._document import Document, Process
from tests.unit.cli.top import made

TIMEOUT = 30.0


class Target:
    """A target whose documents the test lays out."""

    name = "target"

    def __init__(self) -> None:
        self.whole: Document | None = made.document(stalls=())
        self.brief: Document | None = made.document(stalls=())
        self.asked: list[tuple[int | None, bool]] = []
        self.glanced = threading.Semaphore(0)

    def fetch(self, pid: int | None = None, *, brief: bool = False) -> Document:
        self.asked.append((pid, brief))
        if brief:
            self.glanced.release()
        document = self.brief if brief else self.whole
        if document is None:
            raise NoAnswerError("gone")
        return document


class Watch:
    """A running fetching, and what has arrived."""

    def __init__(self, target: Target, every: float) -> None:
        self.target = target
        self._arrived = threading.Semaphore(0)
        self.fetching = Fetching(target, every, self._arrived.release)

    def next(self) -> Document | str | None:
        """Wait for what comes next."""
        assert self._arrived.acquire(timeout=TIMEOUT)
        latest = self.fetching.latest
        assert latest is not None
        return latest.document or latest.problem


@pytest.fixture
def watch() -> Iterator[Callable[..., Watch]]:
    started: list[Watch] = []

    def start(target: Target, every: float = 3600.0) -> Watch:
        started.append(Watch(target, every))
        started[-1].fetching.start()
        return started[-1]

    yield start
    for each in started:
        each.fetching.end()
        each.fetching._thread.join(TIMEOUT)
        assert not each.fetching._thread.is_alive()


def test_it_fetches_again_and_again(watch: Callable[..., Watch]) -> None:
    watching = watch(Target(), every=0.01)
    for _ in range(3):
        assert watching.next() == made.document(stalls=())


def test_at_once_is_at_once_and_of_the_worker_that_is_wanted(watch: Callable[..., Watch]) -> None:
    watching = watch(Target())
    watching.next()
    watching.fetching.worker = 78
    watching.fetching.at_once()
    watching.next()
    assert [asked for asked in watching.target.asked if not asked[1]] == [(None, False), (78, False)]


def test_no_answer_is_a_problem_until_there_is_one(watch: Callable[..., Watch]) -> None:
    target = Target()
    target.whole = None
    watching = watch(target, every=0.01)
    assert watching.next() == "gone"
    target.whole = made.document()
    while watching.next() == "gone":
        pass
    assert watching.fetching.latest is not None
    assert watching.fetching.latest.problem is None


def test_a_stall_that_begins_is_seen_long_before_the_next_look(watch: Callable[..., Watch]) -> None:
    target = Target()
    watching = watch(target)
    watching.next()
    stall, blocked = made.stall(9, in_progress=True), made.loop(blocked=0.3)
    target.brief = made.document(stalls=(stall,), loops=(blocked,), tasks=())
    found = watching.next()
    assert isinstance(found, Document)
    assert found.snapshot.stalls == (stall,)
    assert found.snapshot.loops == (blocked,)
    assert found.tasks == made.document().tasks
    assert [asked for asked in target.asked if not asked[1]] == [(None, False)]


def test_a_glance_that_sees_nothing_new_changes_nothing(watch: Callable[..., Watch]) -> None:
    target = Target()
    known = made.stall(9, in_progress=True)
    target.whole = made.document(stalls=(known,))
    watching = watch(target)
    first = watching.next()
    other = replace(target.whole, process=Process(1, "3", "1", 0.1))
    for brief in (made.document(stalls=(replace(known, duration=2.0),)), None, other):
        target.brief = brief
        for _ in range(2):
            assert target.glanced.acquire(timeout=TIMEOUT)
    assert watching.fetching.latest is not None
    assert watching.fetching.latest.document is first
