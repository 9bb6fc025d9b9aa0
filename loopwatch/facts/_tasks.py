"""Facts about tasks."""

from __future__ import annotations

from ._fact import FUNCTION, Fact

TASKS: tuple[Fact, ...] = (
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
)
