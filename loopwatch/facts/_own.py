"""Facts about loopwatch itself."""

from __future__ import annotations

from ._fact import COMPONENT, Fact

OWN: tuple[Fact, ...] = (
    Fact(
        "finding_count",
        "loopwatch.finding.count",
        "updowncounter",
        "{finding}",
        ("loopwatch.rule", "loopwatch.severity"),
        "Findings that hold now. Every rule shows, 0 while it finds nothing.",
    ),
    Fact(
        "unwatched",
        "loopwatch.loop.unwatched",
        "counter",
        "{loop}",
        ("loopwatch.reason",),
        "Loops left alone, by reason: a heartbeat would break a loop with a clock of its own.",
    ),
    Fact(
        "reader_up",
        "loopwatch.reader.up",
        "updowncounter",
        "",
        ("loopwatch.reader.kind", "loopwatch.reader.feature"),
        "1 for what is watched of a library's pools, 0 for what its version does not let us.",
    ),
    Fact(
        "worker_up",
        "loopwatch.worker.up",
        "updowncounter",
        "",
        ("process.pid",),
        "1 for each process that shares the endpoint and is shown, 0 for one that did not answer in time. "
        "Absent while a process is by itself.",
    ),
    Fact(
        "overhead",
        "loopwatch.overhead.time",
        "counter",
        "s",
        (COMPONENT,),
        "CPU time loopwatch itself used.",
    ),
    Fact(
        "dropped",
        "loopwatch.event.dropped",
        "counter",
        "{event}",
        (COMPONENT,),
        "Events loopwatch did not keep or export: a bounded buffer was full, or a rate limit reached.",
    ),
    Fact(
        "internal_errors",
        "loopwatch.internal_errors",
        "counter",
        "{error}",
        (COMPONENT,),
        "Failures of loopwatch's own parts.",
    ),
    Fact(
        "log_suppressed",
        "loopwatch.log.suppressed",
        "counter",
        "{record}",
        (),
        "Log lines withheld by the rate limit.",
    ),
)
