"""A plain program that is told to end drains first, and then dies of the signal as it would have."""

from __future__ import annotations

import signal
from collections.abc import Callable
from signal import SIGINT, SIGTERM

import pytest

from .child import Child, assert_none_of_200_is_missing

Start = Callable[..., Child]

JOB = """
async def work(number, seconds):
    await asyncio.sleep(seconds)
    say("finished", number)

async def work_on(number, seconds):
    while JOBS.drain_began is None:  # however late the signal comes
        await asyncio.sleep(0.01)
    await work(number, seconds)

loopwatch.install(prometheus_port=None, drain_timeout=TIMEOUT)
"""


@pytest.fixture
def start(start_child: Callable[[str], Child]) -> Start:
    """Start a program whose drain may take so many seconds."""

    def start(source: str, timeout: float = 20.0) -> Child:
        return start_child(f"TIMEOUT = {timeout}\n{JOB}\n{source}")

    return start


ONE_JOB = """
async def main():
    loopwatch.spawn(work(1, 0.3), name="job")
    await asyncio.sleep(0.1)
    say("ready")
    await forever()
    say("never")

run(main())
"""


@pytest.mark.parametrize("signum", [SIGTERM, SIGINT])
def test_it_finishes_its_jobs_and_dies_of_the_signal(start: Start, signum: signal.Signals) -> None:
    child = start(ONE_JOB.replace("work(1, 0.3)", "work_on(1, 0.3)"))
    child.until("ready")
    child.send(signum)
    assert child.end() == -signum
    assert "finished 1" in child.said
    assert child.outcome().finished == 1
    assert ("KeyboardInterrupt" in child.text) == (signum == SIGINT)


def test_without_jobs_it_dies_at_once(start: Start) -> None:
    child = start("async def main():\n    say('ready')\n    await forever()\nrun(main())\n")
    child.until("ready")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM
    assert child.outcome().finished == 0


TWO_HUNDRED = """
async def stubborn():
    while True:
        try:
            await forever()
        except asyncio.CancelledError:
            pass

async def short(number):
    await begun.wait()
    await work(number, number * 0.004)

async def main():
    global begun
    begun = asyncio.Event()
    for number in range(120):
        loopwatch.spawn(short(number), name=f"short-{number}")
    for number in range(50):
        loopwatch.spawn(work(number, 600), name=f"long-{number}")
    for number in range(20):
        loopwatch.spawn(stubborn(), name=f"stubborn-{number}")
    tasks = [asyncio.create_task(forever(), name=f"task-{number}") for number in range(10)]
    await asyncio.sleep(0)
    say("ready")
    while JOBS.drain_began is None:
        await asyncio.sleep(0.01)
    begun.set()
    await forever()

run(main())
"""


def test_of_two_hundred_jobs_none_is_missing(start: Start) -> None:
    child = start(TWO_HUNDRED, timeout=2.0)
    child.until("ready")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM
    assert_none_of_200_is_missing(child)


@pytest.mark.parametrize("second", [SIGTERM, SIGINT])
def test_a_second_signal_ends_it_at_once(start: Start, second: signal.Signals) -> None:
    child = start(ONE_JOB.replace("0.3", "600"), timeout=600.0)
    child.until("ready")
    child.send(SIGTERM)
    child.until("draining")
    child.send(second)
    assert child.end() == -second
    assert child.outcome().abandoned == ["job"]


def test_a_second_signal_ends_a_blocked_loop_too(start: Start) -> None:
    child = start(
        """
async def main():
    loopwatch.spawn(forever(), name="job")
    await asyncio.sleep(0)
    before = signal.getsignal(signal.SIGTERM)
    def noticing(*arguments):
        before(*arguments)
        say("noticed")
    signal.signal(signal.SIGTERM, noticing)
    say("ready")
    while True:
        pass

run(main())
"""
    )
    child.until("ready")
    child.send(SIGTERM)
    child.until("noticed")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM
    assert child.outcome().abandoned == ["job"]


THEIRS = """
def theirs(*_):
    say("theirs")
    loop.call_soon_threadsafe(stop.set)

async def main():
    global loop, stop
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    SET
    loopwatch.spawn(work(1, 0.3), name="job")
    await asyncio.sleep(0.2)
    say("ready")
    await stop.wait()
    say("stopped")
    return 7

BEFORE
assert run(main()) == 7
say("after", signal.getsignal(signal.SIGTERM) in (theirs, signal.SIG_DFL))
"""

LOOPS = "loop.add_signal_handler(signal.SIGTERM, theirs)"
SIGNALS = "signal.signal(signal.SIGTERM, theirs)"


class TestTheirHandlers:
    """The program's handlers run after the drain."""

    @pytest.mark.parametrize(
        ("place", "statement"),
        [("BEFORE", SIGNALS), ("SET", LOOPS)],
        ids=["set before the loop runs", "added to the loop later"],
    )
    def test_they_are_called_when_the_drain_is_over(self, start: Start, place: str, statement: str) -> None:
        child = start(THEIRS.replace(place, statement).replace("BEFORE", "").replace("SET", "pass"))
        child.until("ready")
        child.send(SIGTERM)
        assert child.end() == 0
        assert child.said.index("finished 1") < child.said.index("theirs") < child.said.index("stopped")

    def test_they_are_called_if_we_came_after_them(self, start: Start) -> None:
        late = f"{LOOPS}; loopwatch.uninstall(); loopwatch.install(prometheus_port=None, drain_timeout=20)"
        child = start(THEIRS.replace("SET", late).replace("BEFORE", ""))
        child.until("ready")
        child.send(SIGTERM)
        assert child.end() == 0
        assert child.said.index("finished 1") < child.said.index("theirs") < child.said.index("stopped")

    def test_one_that_was_removed_is_not_called(self, start: Start) -> None:
        remove = f"{LOOPS}; await asyncio.sleep(0.2); assert loop.remove_signal_handler(signal.SIGTERM)"
        child = start(THEIRS.replace("SET", remove).replace("BEFORE", ""))
        child.until("ready")
        child.send(SIGTERM)
        assert child.end() == -SIGTERM
        assert "finished 1" in child.said
        assert "theirs" not in child.said

    def test_one_set_later_stays_in_charge_and_it_is_said(self, start: Start) -> None:
        child = start(THEIRS.replace("SET", SIGNALS).replace("BEFORE", ""))
        child.until("SIGTERM is handled by __main__.theirs, so that drain_timeout does nothing here")
        child.send(SIGTERM)
        assert child.end() == 0
        assert "theirs" in child.said
        assert "draining" not in child.text

    def test_an_ignored_signal_stays_ignored(self, start: Start) -> None:
        ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        child = start(f"{ignore}\n{ONE_JOB}")
        child.until("ready")
        child.send(SIGTERM)
        child.until("finished 1")
        child.send(SIGINT)
        assert child.end() == -SIGINT
        assert "KeyboardInterrupt" in child.text

    def test_they_are_back_after_the_loop(self, start: Start) -> None:
        child = start(
            """
before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
run(asyncio.sleep(0.1))
assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before
"""
        )
        assert child.end() == 0

    def test_they_are_back_after_uninstall(self, start: Start) -> None:
        child = start(
            """
async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, say, "theirs")
    await asyncio.sleep(0.2)
    loopwatch.uninstall()
    say("ready")
    await forever()

run(main())
"""
        )
        child.until("ready")
        child.send(SIGTERM)
        child.until("theirs")
        child.send(SIGINT)
        assert child.end() == -SIGINT
        assert "draining" not in child.text


def test_a_forked_child_dies_of_its_signal(start: Start) -> None:
    child = start(
        """
import warnings

async def main():
    await asyncio.sleep(0.1)
    warnings.simplefilter("ignore", DeprecationWarning)
    pid = os.fork()
    if not pid:
        while True:
            pass
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    say("child died of", os.WTERMSIG(status))
    os.kill(os.getpid(), signal.SIGTERM)
    await forever()

run(main())
"""
    )
    assert child.end() == -SIGTERM
    assert f"child died of {SIGTERM.value}" in child.said
    assert child.outcome().finished == 0


def test_a_program_that_ends_meanwhile_dies_of_the_signal(start: Start) -> None:
    child = start(
        """
async def main():
    loopwatch.spawn(forever(), name="job")
    await asyncio.sleep(0)
    say("ready")
    while JOBS.drain_began is None:
        await asyncio.sleep(0.01)

run(main())
say("never")
"""
    )
    child.until("ready")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM
    assert child.outcome().abandoned == ["job"]
    assert "never" not in child.said


def test_it_dies_of_the_signal_though_its_task_factory_makes_no_task_for_the_drain(start: Start) -> None:
    child = start("""
def refuses(loop, coro, **options):
    raise RuntimeError("no more tasks")

async def main():
    asyncio.get_running_loop().set_task_factory(refuses)
    say("ready")
    await forever()

run(main())
""")
    child.until("ready")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM
    assert child.text.count("loopwatch: signals failed") == 1
