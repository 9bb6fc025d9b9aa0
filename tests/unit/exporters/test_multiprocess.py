"""In prometheus_client's multiprocess mode the endpoint shows what it shows without."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from prometheus_client import Counter

from loopwatch._journal import Journal
from loopwatch._records import Distribution, Point, Snapshot
from loopwatch.exporters.exposition import OPENMETRICS, TEXT
from loopwatch.exporters.prometheus import SnapshotCollector, registry_of

Counter("of_the_program", "A metric of the program's own.").inc()
points = {
    "iterations": (Point(("main",), 42.0),),
    "delay": (Point(("main",), Distribution((0.1, 1.0), (5, 2, 1), 7.5)),),
}
snapshot = Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=())
registry = registry_of(SnapshotCollector(lambda: snapshot, Journal()))
for form in (TEXT, OPENMETRICS):
    for line in form.write(registry).decode().splitlines():
        print(line if "asyncio_" in line else line.rpartition(" ")[0])
"""


def run(**environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_multiprocess_mode_changes_nothing(tmp_path: Path) -> None:
    shown = run(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert list(tmp_path.glob("counter_*.db"))
    assert shown == run()
    assert 'asyncio_eventloop_iterations_total{asyncio_eventloop_name="main"} 42.0' in shown
    assert 'asyncio_eventloop_delay_seconds_bucket{asyncio_eventloop_name="main",le="+Inf"} 8.0' in shown
    assert "process_cpu_seconds_total" in shown
    assert "python_gc_collections_total" in shown
