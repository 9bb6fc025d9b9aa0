"""Facts about jobs and drains."""

from __future__ import annotations

from ._fact import Fact

JOBS: tuple[Fact, ...] = (
    Fact(
        "jobs",
        "loopwatch.jobs.count",
        "updowncounter",
        "{task}",
        ("loopwatch.job.state",),
        "Jobs of spawn(): those that run now, and how many ended as ok, error or cancelled.",
    ),
    Fact(
        "drain_status",
        "loopwatch.drain.status",
        "updowncounter",
        "",
        ("loopwatch.drain.state",),
        "1 for the phase the process is in, 0 for the others: serving until the first drain; after one "
        "drained, or forced if work was left.",
    ),
    Fact(
        "drain_duration",
        "loopwatch.drain.duration",
        "gauge",
        "s",
        (),
        "Duration of the drain that goes on, else of the last one. Absent before the first.",
    ),
    Fact(
        "drain_finished",
        "loopwatch.drain.finished",
        "counter",
        "{task}",
        (),
        "Tasks that drains waited for and that ended by themselves.",
    ),
    Fact(
        "drain_cancelled",
        "loopwatch.drain.cancelled",
        "counter",
        "{task}",
        (),
        "Tasks cancelled by drains, at their timeout.",
    ),
    Fact(
        "drain_abandoned",
        "loopwatch.drain.abandoned",
        "counter",
        "{task}",
        (),
        "Tasks that were still pending at the end of a drain.",
    ),
)
