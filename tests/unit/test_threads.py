"""Threads of our own end for a fork and go on after it, whatever they are doing at the time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from loopwatch import _threads
from loopwatch._clock import SYSTEM
from loopwatch._threads import IsToEnd, OwnThread, await_end

PATIENCE = 30.0


class Ticker:
    """Has a thread that takes a turn each time it is woken, and may be held up in one."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.in_turn = threading.Event()
        self.threads: list[int] = []
        """By which each turn was taken: ids of the kernel."""
        self._wakes = threading.Semaphore(0)
        self.thread = OwnThread("loopwatch-ticker", self._work, self.wake)

    def wake(self) -> None:
        self._wakes.release()

    def turn(self) -> None:
        """Have a turn taken, and wait for its beginning."""
        self.in_turn.clear()
        self.wake()
        assert self.in_turn.wait(PATIENCE)

    def _work(self, is_to_end: IsToEnd) -> None:
        while not is_to_end():
            self._wakes.acquire()
            self.threads.append(threading.get_native_id())
            self.in_turn.set()
            self.go_on.wait(PATIENCE)


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "loopwatch-ticker"]


def pause(*threads: OwnThread) -> None:
    ending = [ended for thread in threads if (ended := thread.pause()) is not None]
    await_end(ending, frozenset, SYSTEM)


@pytest.fixture
def ticker() -> Iterator[Ticker]:
    ticker = Ticker()
    ticker.thread.start()
    yield ticker
    ticker.go_on.set()
    ticker.thread.end(PATIENCE)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, a thread that can end does."""
    monkeypatch.setattr(_threads, "WITHIN", PATIENCE)


@pytest.mark.usefixtures("patient")
class TestPause:
    """Of threads that end at once."""

    def test_none_is_left_neither_in_python_nor_in_the_kernel(self, ticker: Ticker) -> None:
        ticker.turn()
        pause(ticker.thread)
        assert running() == []
        if Path("/proc/self/task").exists():
            assert not Path(f"/proc/self/task/{ticker.threads[0]}").exists()
        assert (ticker.thread.started, ticker.thread.alive) == (True, True)

    def test_another_one_goes_on(self, ticker: Ticker) -> None:
        ticker.turn()
        pause(ticker.thread)
        ticker.thread.resume()
        assert len(running()) == 1
        ticker.turn()
        assert ticker.thread.alive

    def test_it_can_be_done_over_and_over(self, ticker: Ticker) -> None:
        for _ in range(50):
            pause(ticker.thread)
            assert running() == []
            ticker.thread.resume()
            assert len(running()) == 1
        ticker.turn()

    def test_one_that_was_ended_meanwhile_stays_so(self, ticker: Ticker) -> None:
        pause(ticker.thread)
        ticker.thread.end(PATIENCE)
        ticker.thread.resume()
        assert running() == []
        assert not ticker.thread.started

    def test_a_resume_without_a_pause_does_nothing(self, ticker: Ticker) -> None:
        ticker.thread.resume()
        assert len(running()) == 1

    def test_one_that_was_killed_is_not_woken_from_the_dead(self, ticker: Ticker) -> None:
        ticker.thread._ask()
        running()[0].join(PATIENCE)
        assert not ticker.thread.alive
        pause(ticker.thread)
        ticker.thread.resume()
        assert running() == []
        assert not ticker.thread.alive

    def test_without_a_thread_to_be_had_it_says_so_and_is_known_as_dead(
        self, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(thread: threading.Thread) -> NoReturn:
            raise RuntimeError("can't start new thread")

        pause(ticker.thread)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                ticker.thread.resume()
        assert not ticker.thread.alive

    def test_a_forked_child_knows_of_none(self, ticker: Ticker) -> None:
        pause(ticker.thread)
        ticker.thread.forget()
        ticker.thread.resume()
        assert running() == []
        assert not ticker.thread.started


class TestStuck:
    """A thread that does not end in time: it stands in a call of the operating system."""

    def test_it_is_not_waited_for_and_goes_on_itself(self, ticker: Ticker) -> None:
        ticker.go_on.clear()
        ticker.turn()
        [before] = running()
        pause(ticker.thread)
        assert running() == [before]
        ticker.thread.resume()
        ticker.go_on.set()
        ticker.turn()
        assert running() == [before]
        assert ticker.threads == [before.native_id] * len(ticker.threads)

    def test_one_that_ends_after_all_is_followed_by_another(self, ticker: Ticker) -> None:
        ticker.go_on.clear()
        ticker.turn()
        [before] = running()
        pause(ticker.thread)
        ticker.go_on.set()
        before.join(PATIENCE)
        ticker.thread.resume()
        [after] = running()
        assert after is not before
        ticker.turn()

    def test_all_are_asked_before_any_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[str] = []
        ask, join = OwnThread._ask, threading.Thread.join

        def asked(thread: OwnThread) -> None:
            done.append("ask")
            ask(thread)

        def joined(thread: threading.Thread, timeout: float) -> None:
            done.append("join")
            join(thread, timeout)

        tickers = [Ticker(), Ticker()]
        for each in tickers:
            each.thread.start()
        with monkeypatch.context() as patched:
            patched.setattr(OwnThread, "_ask", asked)
            patched.setattr(threading.Thread, "join", joined)
            pause(*(each.thread for each in tickers))
        for each in tickers:
            each.thread.end(PATIENCE)
        assert done == ["ask", "ask", "join", "join"]

    def test_the_thread_that_forks_is_not_asked(self) -> None:
        """A handler of the log may fork, in the thread that writes it."""
        asked: list[bool] = []
        done = threading.Event()
        own: OwnThread

        def work(is_to_end: IsToEnd) -> None:
            pause(own)
            own.resume()
            asked.append(is_to_end())
            done.set()

        own = OwnThread("loopwatch-ticker", work, lambda: None)
        own.start()
        assert done.wait(PATIENCE)
        own.end(PATIENCE)
        assert asked == [False]


@pytest.mark.usefixtures("patient")
def test_a_thread_that_the_kernel_has_for_a_moment_longer_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the timers of ``faulthandler`` are, which Python knows nothing of; others may end meanwhile."""
    seen = iter([{"1", "2", "3", "4"}, {"1", "2", "3"}, {"1", "2"}, {"1"}])
    looks: list[int] = []

    def tasks() -> frozenset[str]:
        looks.append(1)
        return frozenset(next(seen))

    monkeypatch.setattr(_threads, "_in_kernel", tasks)
    await_end([], lambda: frozenset({"2", "3"}), SYSTEM)
    assert len(looks) == 4


def test_where_the_kernel_does_not_tell_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "WITHIN", 1e9)
    monkeypatch.setattr(_threads, "_in_kernel", frozenset)
    await_end([], lambda: frozenset({"2"}), SYSTEM)
