"""Facts about executors."""

from __future__ import annotations

from ._fact import EXECUTOR, Fact

EXECUTORS: tuple[Fact, ...] = (
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
)
