"""In prometheus_client's multiprocess mode the endpoint shows the same as without it."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

PROGRAM = """
from prometheus_client import Counter

from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Distribution, Point
from loopwatch.exporters.exposition import OPENMETRICS, TEXT
from loopwatch.exporters.prometheus import SnapshotCollector, registry_of

Counter("of_the_program", "A metric of the program's own.").inc()
points = {
    "iterations": (Point(("main",), 42.0),),
    "delay": (Point(("main",), Distribution((0.1, 1.0), (5, 2, 1), 7.5)),),
}
snapshot = Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())
registry = registry_of(SnapshotCollector(lambda: snapshot, Journal()))
for form in (TEXT, OPENMETRICS):
    for line in form.write(registry).decode().splitlines():
        print(line if "asyncio_" in line else line.rpartition(" ")[0])
"""


PROGRAM_OF_ITS_OWN = """
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess

from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch.exporters.kept import KeptCollector

Counter("of_the_program", "A metric of the program's own.").inc()
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
points = {"iterations": (Point(("main",), 42.0),)}
snapshot = Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())
registry.register(KeptCollector(lambda: snapshot, Journal()))
print("--")
print(generate_latest(registry).decode())
"""


SERVER = """
import asyncio, sys, uvicorn

if sys.argv[1] == "in the loop":
    asyncio.run(uvicorn.Server(uvicorn.Config("main:app", port=0, lifespan="on")).serve())
else:
    uvicorn.run("main:app", port=0, lifespan="on")
"""

MAIN = """
import os, time
time.sleep(float(os.environ["TAKES"]))  # as imports do: the watchdog has been round, and no loop yet
os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["DIRECTORY"]

from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess

Counter("of_the_program", "A metric of the program's own.").inc()


async def app(scope, receive, send):
    await receive()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    print(generate_latest(registry).decode())
    await send({"type": "lifespan.startup.failed", "message": "All is said."})
"""


def run(program: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_multiprocess_mode_changes_nothing(tmp_path: Path) -> None:
    shown = run(PROGRAM, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert list(tmp_path.glob("counter_*.db"))
    assert shown == run(PROGRAM)
    assert 'asyncio_eventloop_iterations_total{asyncio_eventloop_name="main"} 42.0' in shown
    assert 'asyncio_eventloop_delay_seconds_bucket{asyncio_eventloop_name="main",le="+Inf"} 8.0' in shown
    assert "python_gc_collections_total" in shown


def test_a_multiprocess_registry_shows_this_worker_once_our_collector_is_in_it(tmp_path: Path) -> None:
    before, after = run(PROGRAM_OF_ITS_OWN, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)).split("--")
    assert "of_the_program_total 1.0" in before
    assert "asyncio_" not in before
    assert "of_the_program_total 1.0" in after
    assert 'asyncio_eventloop_iterations_total{asyncio_eventloop_name="main"} 42.0' in after


IMPORTED = "in the loop", "as uvicorn does it"


def serve_twice(place: Path, imported: str) -> tuple[str, str]:
    """Return what the program says without the agent and then, in the same directory, with it."""
    (place / "main.py").write_text(MAIN)
    (place / "server.py").write_text(SERVER)
    bare, watched = (
        subprocess.run(
            [sys.executable, *agent, "server.py", imported],
            env={**os.environ, "DIRECTORY": str(place), "LOOPWATCH_PROMETHEUS_PORT": "0", "TAKES": takes},
            cwd=place,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for agent, takes in (([], "0"), (["-m", "loopwatch", "run", "--"], "1.5"))
    )
    return bare, watched


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What each of the servers has said. They run at the same time, since they mostly wait."""
    places = [tmp_path_factory.mktemp("server") for _ in IMPORTED]
    with ThreadPoolExecutor() as pool:
        return dict(zip(IMPORTED, pool.map(serve_twice, places, IMPORTED), strict=True))


@pytest.mark.parametrize("imported", IMPORTED)
def test_a_server_whose_application_chooses_the_mode_finds_it(
    served: dict[str, tuple[str, str]], imported: str
) -> None:
    """The application is imported late: after asyncio and the agent, or even in the running loop."""
    bare, watched = served[imported]
    assert "of_the_program_total 1.0" in bare
    assert "of_the_program_total 2.0" in watched, "the second process counts in the same directory"
