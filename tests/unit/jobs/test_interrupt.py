"""A signal during a drain is noticed, and still goes to whoever handles it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from loopwatch._jobs.interrupt import on_signal


@pytest.fixture
def theirs() -> Iterator[list[int]]:
    """What a handler of the program's is called with."""
    called: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: called.append(signum))
    yield called
    signal.signal(signal.SIGTERM, before)


def test_it_is_noticed_and_handled(theirs: list[int]) -> None:
    noticed: list[str] = []
    with on_signal(lambda: noticed.append("drain")):
        signal.raise_signal(signal.SIGTERM)
    assert noticed == ["drain"]
    assert theirs == [signal.SIGTERM]


def test_afterwards_it_is_only_handled(theirs: list[int]) -> None:
    noticed: list[str] = []
    with on_signal(lambda: noticed.append("drain")):
        pass
    signal.raise_signal(signal.SIGTERM)
    assert noticed == []
    assert theirs == [signal.SIGTERM]


def test_blocks_may_end_in_any_order(theirs: list[int]) -> None:
    noticed: list[str] = []
    first, second = on_signal(lambda: noticed.append("1")), on_signal(lambda: noticed.append("2"))
    handler = signal.getsignal(signal.SIGTERM)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    signal.raise_signal(signal.SIGTERM)
    second.__exit__(None, None, None)
    assert noticed == ["2"]
    assert theirs == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_signal_that_nobody_handles_is_left_to_kill() -> None:
    with on_signal(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_that_came_within_the_block_stays(theirs: list[int]) -> None:
    def later(*_: object) -> None:
        theirs.append(-1)

    with on_signal(lambda: None):
        signal.signal(signal.SIGTERM, later)
    assert signal.getsignal(signal.SIGTERM) is later


def test_in_another_thread_nothing_is_changed(theirs: list[int]) -> None:
    seen: list[object] = []

    def work() -> None:
        with on_signal(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
