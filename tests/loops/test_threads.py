"""What several threads may do at the same time happens once."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

from .conftest import PATIENCE
from .provoked import but_stalls

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def together(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Do the same in so many threads at the same time, and return the results."""
    barrier, done = threading.Barrier(number), [None] * number

    def run(index: int) -> None:
        barrier.wait(PATIENCE)
        done[index] = work(index)

    threads = [  # daemons, or pytest would not end where one that failed leaves the others to run
        threading.Thread(target=run, args=(index,), name=f"job-{index}", daemon=True)
        for index in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return done


def test_one_agent_is_installed(install: Callable[..., Agent]) -> None:
    agents = together(8, lambda index: install())
    assert len(set(map(id, agents))) == 1


def test_one_watchdog_is_started(agent: Agent, new_loop: LoopFactory) -> None:
    def run(index: int) -> int:
        async def main() -> int:
            await asyncio.sleep(0.05)
            return len([t for t in threading.enumerate() if t.name == "loopwatch-watchdog"])

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main())

    assert together(8, run) == [1] * 8
    assert len(agent.loops()) <= 8


def test_loops_may_come_and_go_while_the_agent_is_taken_away(new_loop: LoopFactory) -> None:
    stop = threading.Event()

    def work(index: int) -> int:
        runs = 0
        if index == 0:
            for _ in range(10):
                loopwatch.install(prometheus_port=None)
                threading.Event().wait(0.01)
                loopwatch.uninstall()
            stop.set()
            return 1
        while not (stop.is_set() and runs):
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(asyncio.sleep(0.002))
            runs += 1
        return runs

    assert all(together(4, work))


def test_asking_never_fails_while_loops_come_and_go(agent: Agent, new_loop: LoopFactory) -> None:
    stop = threading.Event()

    def work(index: int) -> int:
        runs = 0
        while not (stop.is_set() and runs):
            if index == 0:
                agent.snapshot()
            else:
                with asyncio.Runner(loop_factory=new_loop) as runner:
                    runner.run(asyncio.sleep(0.001))
            runs += 1
            if index == 1 and runs == 100:
                stop.set()
        return runs

    assert all(together(4, work))
    internal = agent.snapshot().points["internal_errors"]
    assert sum(point.value for point in internal) == 0  # type: ignore[misc]


def test_a_port_that_is_taken_is_one_line_and_everything_else_works(
    install: Callable[..., Agent], new_loop: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        agent = install(prometheus_port=port)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(asyncio.sleep(0.1))
        assert agent.prometheus_url is None
        loopwatch.uninstall()
    [record] = [record for record in caplog.records if but_stalls(record.getMessage())]
    assert record.levelno == logging.WARNING
    assert f"127.0.0.1:{port}" in record.getMessage()
    assert agent.snapshot().points["delay"][0].value.count > 0
