"""PromQL that names facts by their stems, so that no dashboard and no rule can name what is not exported.

In a query ``@block_time{...}`` stands for that fact's metric, with ``_total`` if it is a counter;
``@delay_bucket``, ``_count`` and ``_sum`` for the series of a histogram; ``@PROCESS``, ``@LOOP`` and others
for the labels to aggregate by. ``process_pid`` is there only where several processes share a port: a process
by itself has none, which ``by`` and matching take as one value among others. The Collector adds labels of its
own, such as ``otel_scope_name``: that is why everything is aggregated by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from loopwatch import facts

PROCESS = "job, instance, process_pid"
GROUPS = {
    "PROCESS": PROCESS,
    "LOOP": f"{PROCESS}, {facts.LOOP.replace('.', '_')}",
    "POOL": f"{PROCESS}, asyncio_pool_name, asyncio_pool_type",
    "DATABASE": f"{PROCESS}, {facts.DATABASE_POOL.replace('.', '_')}",
    "EXECUTOR": f"{PROCESS}, {facts.EXECUTOR.replace('.', '_')}",
}
"""What stands for a list of labels."""

FOREIGN = {
    "process_resident_memory_bytes": "prometheus_client's, on our endpoint",
    "process_open_fds": "prometheus_client's, on our endpoint",
    "process_max_fds": "prometheus_client's, on our endpoint",
    "process_memory_usage_bytes": "OpenTelemetry's, if the program is instrumented for it",
    "process_unix_file_descriptor_count": "OpenTelemetry's, if the program is instrumented for it",
}
"""Metrics that are not ours, and whose they are."""

_REFERENCE = re.compile(r"@(\w+)(?:\{([^}]*)\})?")
_SERIES = re.compile(r"_(bucket|count|sum)$")


def expand(query: str, matchers: Callable[[facts.Fact | None], str] = lambda fact: "") -> str:
    """Return the query in Prometheus' words, each metric with these matchers beside its own.

    Raises KeyError for what is no fact.
    """

    def written(reference: re.Match[str]) -> str:
        word, own = reference.groups()
        if word in GROUPS:
            return GROUPS[word]
        fact, name = (None, word) if word in FOREIGN else _series(word)
        selected = ", ".join(filter(None, (matchers(fact), own)))
        return f"{name}{{{selected}}}" if selected else name

    return _REFERENCE.sub(written, query)


def _series(word: str) -> tuple[facts.Fact, str]:
    fact = facts.BY_STEM.get(word)
    if fact is None:
        fact = facts.BY_STEM[_SERIES.sub("", word)]
        if fact.kind != "histogram":
            raise KeyError(word)
        return fact, fact.prometheus_name + word[len(fact.stem) :]
    if fact.kind == "histogram":
        raise KeyError(f"{word}: which series of the histogram?")
    return fact, fact.prometheus_name + ("_total" if fact.kind == "counter" else "")


def grown(counter: str, by: str, window: str) -> str:
    """Return a query for what has grown, a series that is new in the window included.

    A counter whose label is known only at the first event, such as the class of an exception, begins with 1:
    ``increase()`` sees no increase in that.
    """
    return (
        f"sum by ({by}) (increase({counter}[{window}])) > 0\n"
        f"or\n"
        f"(sum by ({by}) ({counter}) unless sum by ({by}) ({counter} offset {window})) > 0"
    )


def of_pools(others: str, databases: str) -> str:
    """Return a query for all pools alike, of one for those of no database and one for those of databases.

    The former is by ``@POOL``, the latter by ``@DATABASE``; in the result their type is ``database``.
    """
    name = facts.DATABASE_POOL.replace(".", "_")
    named = f'label_replace({databases}, "asyncio_pool_name", "$1", "{name}", "(.*)")'
    typed = f'label_replace({named}, "asyncio_pool_type", "database", "", "")'
    return f"{others}\nor\nmax by (@POOL) ({typed})"


POOL_UTILIZATION = of_pools(
    "sum by (@POOL) (@pool_usage) / sum by (@POOL) (@pool_limit)",
    'sum by (@DATABASE) (@database_connections{db_client_connection_state="used"})'
    " / sum by (@DATABASE) (@database_limit)",
)
POOL_WAITERS = of_pools("sum by (@POOL) (@pool_waiters)", "sum by (@DATABASE) (@database_waiters)")
POOL_OLDEST_WAIT = of_pools(
    "max by (@POOL) (@pool_oldest_wait)", "max by (@DATABASE) (@database_oldest_wait)"
)


def pool_timeouts(window: str) -> str:
    """Waits that pools gave up, per second."""
    return of_pools(
        f"sum by (@POOL) (rate(@pool_timeouts[{window}]))",
        f"sum by (@DATABASE) (rate(@database_timeouts[{window}]))",
    )


def pool_wait(quantile: float, window: str) -> str:
    """Seconds until a connection is had, of this share of all waits."""
    return of_pools(
        f"histogram_quantile({quantile}, sum by (@POOL, le) (rate(@pool_wait_bucket[{window}])))",
        f"histogram_quantile({quantile}, sum by (@DATABASE, le) (rate(@database_wait_bucket[{window}])))",
    )


def delay(quantile: float, window: str) -> str:
    """Seconds by which timers run late, of this share of all."""
    return f"histogram_quantile({quantile}, sum by (@LOOP, le) (rate(@delay_bucket[{window}])))"


def utilization(window: str) -> str:
    """Share of its time for which a loop runs callbacks."""
    return (
        f'sum by (@LOOP) (rate(@loop_time{{asyncio_eventloop_state="active"}}[{window}]))'
        f" / sum by (@LOOP) (rate(@loop_time[{window}]))"
    )
