"""The catalogue: every measured thing loopwatch exports, declared once.

Exporters loop over ``ALL``; dashboards, docs and tests read names here. Names and labels follow the
OpenTelemetry naming rules; ``prometheus_name`` applies the specification's OTel-to-Prometheus translation, so
that both routes give the same series (a unit of ``1`` on a gauge would append ``_ratio``: no fact has it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "updowncounter", "histogram"]

LOOP = "asyncio.eventloop.name"
FUNCTION = "code.function.name"
CAUSE = "asyncio.block.cause"
COMPONENT = "loopwatch.component"
POOL = "asyncio.pool.name"
POOL_TYPE = "asyncio.pool.type"
DATABASE_POOL = "db.client.connection.pool.name"
EXECUTOR = "asyncio.executor.name"

INTEGERS = frozenset(("cpython.gc.generation", "server.port"))
"""Labels whose values are numbers where a label can be one."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. Below 1 ms a loop is healthy; 0.1 and 0.5 are alert thresholds, which must be bounds."""

TASK_BUCKETS = (*BUCKETS, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds. Of tasks, which may be jobs of minutes."""

TOP = 20
"""Label values kept apart per fact; what comes beyond is summed under ``OTHER``."""
OTHER = "_other"
NOBODY = "_unknown"
"""Function label of block time for which no application frame was seen."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One measured thing. ``stem`` is how the source spells it wherever it is born, kept and shown."""

    stem: str
    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str

    @property
    def prometheus_name(self) -> str:
        """The metric family's name in Prometheus, without ``_total``, which the kind implies."""
        suffix = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return self.name.replace(".", "_") + suffix

    @property
    def prometheus_labels(self) -> tuple[str, ...]:
        """Label names in Prometheus."""
        return tuple(label.replace(".", "_") for label in self.labels)


ALL: tuple[Fact, ...] = (
    Fact(
        "info",
        "asyncio.eventloop.info",
        "updowncounter",
        "",
        (LOOP, "asyncio.eventloop.type", "python.version", "loopwatch.version"),
        "1 for each watched event loop.",
    ),
    Fact(
        "delay",
        "asyncio.eventloop.delay",
        "histogram",
        "s",
        (LOOP,),
        "How late the loop ran a timer: what every callback and request of this loop waits on top.",
    ),
    Fact(
        "delay_max",
        "asyncio.eventloop.delay.max",
        "gauge",
        "s",
        (LOOP,),
        "Largest delay of the last 60 seconds; reading does not reset it.",
    ),
    Fact(
        "loop_time",
        "asyncio.eventloop.time",
        "counter",
        "s",
        (LOOP, "asyncio.eventloop.state"),
        "Time the loop was active (ran callbacks) or idle (waited for events). "
        "Utilization is the rate of active over the rate of both. Sampled on uvloop.",
    ),
    Fact(
        "iterations",
        "asyncio.eventloop.iterations",
        "counter",
        "{iteration}",
        (LOOP,),
        "Turns of the loop. Absent on uvloop.",
    ),
    Fact(
        "blocked",
        "asyncio.eventloop.blocked",
        "gauge",
        "s",
        (LOOP,),
        "For how long the loop has owed service right now. Rises during a stall, before it ends.",
    ),
    Fact(
        "last_tick",
        "asyncio.eventloop.last_tick.timestamp",
        "gauge",
        "s",
        (LOOP,),
        "Unix time of the last heartbeat that ran in the loop.",
    ),
    Fact(
        "block_duration",
        "asyncio.eventloop.block.duration",
        "histogram",
        "s",
        (LOOP,),
        "Duration of the stalls: the stretches longer than stall_threshold without service.",
    ),
    Fact(
        "block_time",
        "asyncio.eventloop.block.time",
        "counter",
        "s",
        (LOOP, FUNCTION, CAUSE),
        "Time lost in stalls, by the function that caused them and by cause.",
    ),
    Fact(
        "cpu_time",
        "asyncio.eventloop.cpu.time",
        "counter",
        "s",
        (LOOP,),
        "CPU time of the loop's thread while the loop ran.",
    ),
    Fact(
        "runqueue_time",
        "asyncio.eventloop.runqueue.time",
        "counter",
        "s",
        (LOOP,),
        "Time the loop's thread was ready to run but had no CPU. Linux only.",
    ),
    Fact(
        "gc_pause",
        "asyncio.eventloop.gc.pause.duration",
        "histogram",
        "s",
        (LOOP, "cpython.gc.generation"),
        "Garbage collections on any thread while the loop ran: each stops every loop of the process.",
    ),
    Fact(
        "ready",
        "asyncio.eventloop.ready.count",
        "updowncounter",
        "{callback}",
        (LOOP,),
        "Callbacks ready to run now. Absent on uvloop.",
    ),
    Fact(
        "timers",
        "asyncio.eventloop.timer.count",
        "updowncounter",
        "{timer}",
        (LOOP,),
        "Timers scheduled, cancelled ones not yet removed included. Absent on uvloop.",
    ),
    Fact(
        "task_count",
        "asyncio.task.count",
        "updowncounter",
        "{task}",
        (),
        "Tasks that have not ended.",
    ),
    Fact(
        "task_site_count",
        "asyncio.task.site.count",
        "updowncounter",
        "{task}",
        (FUNCTION,),
        "Tasks that have not ended, by the function that created them.",
    ),
    Fact(
        "task_created",
        "asyncio.task.created",
        "counter",
        "{task}",
        (FUNCTION,),
        "Tasks created, by the function that created them.",
    ),
    Fact(
        "task_finished",
        "asyncio.task.finished",
        "counter",
        "{task}",
        ("asyncio.task.outcome", FUNCTION),
        "Tasks that ended, by outcome and by the function that created them.",
    ),
    Fact(
        "task_duration",
        "asyncio.task.duration",
        "histogram",
        "s",
        (FUNCTION,),
        "Time from the creation of a task to its end.",
    ),
    Fact(
        "task_age_max",
        "asyncio.task.age.max",
        "gauge",
        "s",
        (),
        "Age of the oldest task that is not declared a daemon.",
    ),
    Fact(
        "task_lost",
        "asyncio.task.lost",
        "counter",
        "{task}",
        ("asyncio.task.lost.reason",),
        "Tasks that will never finish, or whose failure nobody will hear of.",
    ),
    Fact(
        "task_context_lost",
        "asyncio.task.context_lost",
        "counter",
        "{task}",
        (FUNCTION,),
        "Work that ran without a watched variable or trace, by the function that had it and handed it over.",
    ),
    Fact(
        "task_leaked",
        "asyncio.task.leaked",
        "updowncounter",
        "{task}",
        ("asyncio.task.leak.reason",),
        "Live tasks that were found to be leaked.",
    ),
    Fact(
        "unretrieved_exceptions",
        "asyncio.task.unretrieved_exceptions",
        "counter",
        "{exception}",
        ("error.type",),
        "Exceptions of tasks that were finalised before anybody asked for them.",
    ),
    Fact(
        "pool_usage",
        "asyncio.pool.usage",
        "updowncounter",
        "{item}",
        (POOL, POOL_TYPE),
        "Connections in use, of pools of no database.",
    ),
    Fact(
        "pool_limit",
        "asyncio.pool.limit",
        "updowncounter",
        "{item}",
        (POOL, POOL_TYPE),
        "Connections there can be, of pools of no database. Absent without a limit.",
    ),
    Fact(
        "pool_idle",
        "asyncio.pool.idle",
        "updowncounter",
        "{item}",
        (POOL, POOL_TYPE),
        "Open connections that nobody uses, of pools of no database.",
    ),
    Fact(
        "pool_waiters",
        "asyncio.pool.waiter.count",
        "updowncounter",
        "{item}",
        (POOL, POOL_TYPE),
        "Callers that wait for a connection, of pools of no database.",
    ),
    Fact(
        "pool_oldest_wait",
        "asyncio.pool.oldest_wait",
        "gauge",
        "s",
        (POOL, POOL_TYPE),
        "How long the one has waited that has waited longest: a pool that is stuck finishes no wait.",
    ),
    Fact(
        "pool_wait",
        "asyncio.pool.wait.duration",
        "histogram",
        "s",
        (POOL, POOL_TYPE),
        "Time from asking for a connection to holding an open one, failed and cancelled waits included.",
    ),
    Fact(
        "pool_timeouts",
        "asyncio.pool.timeouts",
        "counter",
        "{timeout}",
        (POOL, POOL_TYPE),
        "Waits that the pool gave up, of pools of no database.",
    ),
    Fact(
        "pool_connecting",
        "asyncio.pool.connecting",
        "updowncounter",
        "{item}",
        (POOL, POOL_TYPE),
        "Connections being opened.",
    ),
    Fact(
        "pool_instances",
        "asyncio.pool.instances",
        "updowncounter",
        "{item}",
        (POOL, POOL_TYPE),
        "Pools and executors that live.",
    ),
    Fact(
        "pool_created",
        "asyncio.pool.created",
        "counter",
        "{item}",
        (POOL, POOL_TYPE),
        "Pools and executors so far: one for each request is one too many.",
    ),
    Fact(
        "pool_rejected",
        "asyncio.pool.rejected",
        "counter",
        "{request}",
        (POOL, POOL_TYPE),
        "Callers that the pool turned away at once.",
    ),
    Fact(
        "pool_cancelled",
        "asyncio.pool.cancelled",
        "counter",
        "{request}",
        (POOL, POOL_TYPE),
        "Waits that were cancelled.",
    ),
    Fact(
        "database_connections",
        "db.client.connection.count",
        "updowncounter",
        "{connection}",
        (DATABASE_POOL, "db.client.connection.state"),
        "Connections of a database's pool, used and idle.",
    ),
    Fact(
        "database_limit",
        "db.client.connection.max",
        "updowncounter",
        "{connection}",
        (DATABASE_POOL,),
        "Connections that a database's pool can have. Absent without a limit.",
    ),
    Fact(
        "database_waiters",
        "db.client.connection.pending_requests",
        "updowncounter",
        "{request}",
        (DATABASE_POOL,),
        "Callers that wait for a connection to a database.",
    ),
    Fact(
        "database_oldest_wait",
        "db.client.connection.oldest_wait",
        "gauge",
        "s",
        (DATABASE_POOL,),
        "How long the one has waited that has waited longest: a pool that is stuck finishes no wait.",
    ),
    Fact(
        "database_wait",
        "db.client.connection.wait_time",
        "histogram",
        "s",
        (DATABASE_POOL,),
        "Time from asking for a connection to holding an open one, failed and cancelled waits included.",
    ),
    Fact(
        "database_timeouts",
        "db.client.connection.timeouts",
        "counter",
        "{timeout}",
        (DATABASE_POOL,),
        "Waits that a database's pool gave up.",
    ),
    Fact(
        "http_connections",
        "http.client.open_connections",
        "updowncounter",
        "{connection}",
        ("http.connection.state", "server.address", "server.port"),
        "Open connections of HTTP clients, active and idle, by server.",
    ),
    Fact(
        "executor_limit",
        "asyncio.executor.worker.limit",
        "updowncounter",
        "{worker}",
        (EXECUTOR,),
        "Threads or processes that an executor can have.",
    ),
    Fact(
        "executor_workers",
        "asyncio.executor.worker.count",
        "updowncounter",
        "{worker}",
        (EXECUTOR,),
        "Threads or processes that an executor has.",
    ),
    Fact(
        "executor_used",
        "asyncio.executor.worker.used",
        "updowncounter",
        "{worker}",
        (EXECUTOR,),
        "Threads or processes that are at work.",
    ),
    Fact(
        "executor_queue",
        "asyncio.executor.queue.length",
        "updowncounter",
        "{work_item}",
        (EXECUTOR,),
        "Work that waits for a worker. In the default executor that may be DNS.",
    ),
    Fact(
        "executor_oldest_wait",
        "asyncio.executor.queue.oldest_wait",
        "gauge",
        "s",
        (EXECUTOR,),
        "How long the work has waited that has waited longest.",
    ),
    Fact(
        "executor_wait",
        "asyncio.executor.queue.duration",
        "histogram",
        "s",
        (EXECUTOR,),
        "Time that work waited for a worker.",
    ),
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

BY_STEM = {fact.stem: fact for fact in ALL}
