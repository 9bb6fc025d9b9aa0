"""Under an ASGI server the drain comes after the last request and before the application's own shutdown."""

from __future__ import annotations

import signal
from collections.abc import Callable
from signal import SIGINT, SIGTERM

import pytest

from .child import Child, assert_none_of_200_is_missing

pytest.importorskip("uvicorn", reason="needs: uvicorn")

Start = Callable[..., Child]

SERVICE = """
import uvicorn

loopwatch.install(prometheus_port=None)

async def stubborn():
    while True:
        try:
            await forever()
        except asyncio.CancelledError:
            pass

async def short(number):
    while JOBS.drain_began is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(number * 0.004)
    say("finished", number)

def start_jobs():
    for number in range(120):
        loopwatch.spawn(short(number), name=f"short-{number}")
    for number in range(50):
        loopwatch.spawn(forever(), name=f"long-{number}")
    for number in range(20):
        loopwatch.spawn(stubborn(), name=f"stubborn-{number}")
    return [asyncio.create_task(forever(), name=f"task-{number}") for number in range(10)]

async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return
    await receive()
    tasks = START
    await send({"type": "lifespan.startup.complete"})
    await receive()
    say("shutdown of the application")
    await send({"type": "lifespan.shutdown.complete"})

def server(app):
    return uvicorn.Server(uvicorn.Config(app, port=0, lifespan="on", log_config=None))
"""

RUN = """
run(server(loopwatch.drain_lifespan(app, timeout=TIMEOUT)).serve())
"""


@pytest.fixture
def start(start_child: Callable[[str], Child]) -> Start:
    """Start a service whose drain may take so many seconds."""

    def start(source: str = RUN, jobs: str = "start_jobs()", timeout: float = 20.0) -> Child:
        return start_child(f"TIMEOUT = {timeout}\n{SERVICE.replace('START', jobs)}\n{source}")

    return start


def test_of_two_hundred_jobs_none_is_missing(start: Start) -> None:
    child = start(timeout=2.0)
    child.until("Uvicorn running")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM
    assert_none_of_200_is_missing(child)


def test_the_application_shuts_down_after_its_jobs(start: Start) -> None:
    child = start(jobs="loopwatch.spawn(short(1))")
    child.until("Uvicorn running")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM
    assert child.said.index("finished 1") < child.said.index("shutdown of the application")
    assert child.outcome().finished == 1


@pytest.mark.parametrize("second", [SIGTERM, SIGINT])
def test_a_second_signal_ends_it_at_once(start: Start, second: signal.Signals) -> None:
    child = start(jobs="loopwatch.spawn(forever(), name='job')", timeout=600.0)
    child.until("Uvicorn running")
    child.send(SIGTERM)
    child.until("draining")
    child.send(second)
    assert child.end() in (-SIGTERM, -SIGINT)
    assert "shutdown of the application" in child.said
    assert child.outcome().abandoned == ["job"]


WITHIN = """
async def main():
    await asyncio.gather(server(loopwatch.drain_lifespan(app, timeout=TIMEOUT)).serve())

run(main())
"""

IGNORANT = """
async def ignorant(scope, receive, send):
    assert scope["type"] == "http", "no lifespan here"

async def main():
    loopwatch.spawn(short(1), name="job")
    await server(loopwatch.drain_lifespan(ignorant, timeout=TIMEOUT)).serve()

run(main())
"""

BOTH = """
loopwatch.uninstall()
loopwatch.install(prometheus_port=None, drain_timeout=TIMEOUT)
run(server(loopwatch.drain_lifespan(app, timeout=TIMEOUT)).serve())
"""


@pytest.mark.parametrize(
    "source", [WITHIN, IGNORANT, BOTH], ids=["server in a task", "no lifespan", "with drain_timeout"]
)
def test_it_waits_for_the_job_and_not_for_the_server(start: Start, source: str) -> None:
    child = start(source, jobs="loopwatch.spawn(short(1), name='job')", timeout=600.0)
    child.until("Uvicorn running")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM
    assert child.outcome().finished == 1
    assert "does nothing" not in child.text


def test_drain_timeout_alone_says_that_it_does_nothing(start: Start) -> None:
    child = start(BOTH.replace("loopwatch.drain_lifespan(app, timeout=TIMEOUT)", "app"), "forever().close()")
    child.until("SIGTERM is handled by uvicorn.server.Server.handle_exit, so that drain_timeout does nothing")
    child.send(SIGTERM)
    assert child.end() == -SIGTERM


def test_a_failed_startup_stays_one(start: Start) -> None:
    child = start(jobs="1 / 0")
    assert child.end() == 3
    assert "ZeroDivisionError" in child.text
    assert "tasks to wait for" not in child.text
