"""A page of metrics that has every fact in every state, and on which all that can grow does."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loopwatch import facts
from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Distribution, Point
from loopwatch.exporters.exposition import TEXT
from loopwatch.exporters.prometheus import SnapshotCollector

STATES = {
    "asyncio.eventloop.state": ("active", "idle"),
    "db.client.connection.state": ("used", "idle"),
    "loopwatch.severity": ("warning", "critical"),
    "loopwatch.job.state": ("running", "ok"),
    "loopwatch.drain.state": ("serving", "draining", "drained", "forced"),
}
"""The values of labels that queries ask for. Others have their own name for a value."""

GONE = {"reader_up", "worker_up"}
"""Facts that tell of something when they are 0."""
ONE = {"info", "drain_status"}
"""Those that are 1, if at all."""


def page(now: float) -> str:
    """Render it, as of a time: counters count seconds, histograms observe once a second in each bucket."""
    points = {fact.stem: tuple(_points(fact, now)) for fact in facts.ALL}
    snapshot = Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())
    return TEXT.write(SnapshotCollector(lambda: snapshot, Journal())).decode()


def _points(fact: facts.Fact, now: float) -> Iterator[Point]:
    for labels in itertools.product(*(STATES.get(label, (label,)) for label in fact.labels)):
        yield Point(labels, _value(fact, now))


def _value(fact: facts.Fact, now: float) -> float | Distribution:
    if fact.kind == "histogram":
        bounds = facts.TASK_BUCKETS if fact.stem == "task_duration" else facts.BUCKETS
        return Distribution(bounds, (int(now),) * (len(bounds) + 1), now)
    if fact.kind == "counter":
        return now
    return 0.0 if fact.stem in GONE else 1.0 if fact.stem in ONE else 6.0


@contextlib.contextmanager
def everything() -> Iterator[str]:
    """Serve the page on loopback until the block's end; gives the address."""
    began = time.time()

    class Page(BaseHTTPRequestHandler):
        """Answers with it."""

        def do_GET(self) -> None:
            text = page(time.time() - began).encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
