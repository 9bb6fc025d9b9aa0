"""Pools and executors: how full, who waits, for how long."""

from __future__ import annotations

from .panels import LEGEND, RATE, Board, Column, Look, Query, graph, named, number, table
from .queries import (
    POOL_OLDEST_WAIT,
    POOL_UTILIZATION,
    POOL_WAITERS,
    of_pools,
    pool_timeouts,
    pool_wait,
)

_POOL = f"{LEGEND} {{{{asyncio_pool_name}}}} ({{{{asyncio_pool_type}}}})"
_EXECUTOR = named("asyncio_executor_name")
_WHO = "agent.pools() and the log name who has the connections."

_NOW = (
    number(
        Look("Fullest now", "percentunit", "Connections in use, of those there can be.", 6, 4, (0.8, 0.95)),
        f"max({POOL_UTILIZATION})",
    ),
    number(
        Look("Callers that wait now", "short", "For a connection, in all pools.", 6, 4, (1, 20)),
        f"sum({POOL_WAITERS})",
    ),
    number(
        Look("Longest wait now", "s", "For a connection. A stuck pool finishes none.", 6, 4, (0.1, 10)),
        f"max({POOL_OLDEST_WAIT})",
    ),
    number(
        Look(
            "Work that waits now",
            "short",
            "For a worker, in all executors. DNS shares the default one.",
            6,
            4,
            (1, 20),
        ),
        "sum(@executor_queue)",
    ),
    table(
        Look(
            "Pools, fullest first",
            "short",
            "Full while callers wait: raise the limit, bound the callers, or hold connections for less "
            f"long. {_WHO} Pools of databases have the type database.",
            24,
        ),
        Column("used", POOL_UTILIZATION, "percentunit", (0.8, 0.95)),
        Column("waiting", POOL_WAITERS, "short", (1, 20)),
        Column("wait p95", pool_wait(0.95, RATE), "s", (0.1, 1)),
        Column("oldest wait", POOL_OLDEST_WAIT, "s", (0.1, 10)),
        Column("timeouts/s", pool_timeouts(RATE), "short", (0.001, 1)),
        sort="used",
        renamed={"asyncio_pool_name": "pool", "asyncio_pool_type": "type"},
    ),
)

_POOLS = (
    graph(
        Look(
            "Utilization",
            "percentunit",
            "Connections in use, of those there can be. 1 alone is well used; with callers that wait it is "
            f"too small. {_WHO}",
            limits=(0.8, 0.95),
            page="rules/LW301.md",
        ),
        Query(POOL_UTILIZATION, _POOL),
    ),
    graph(
        Look("Callers that wait", "short", f"For a connection. {_WHO}", limits=(1,), page="rules/LW301.md"),
        Query(POOL_WAITERS, _POOL),
    ),
    graph(
        Look(
            "Timeouts, refusals and cancelled waits",
            "reqps",
            "Timeouts and refusals are errors that users see. httpx counts fewer timeouts than there are: "
            "go by the wait.",
            page="rules/LW302.md",
        ),
        Query(pool_timeouts(RATE), f"{_POOL} timeouts"),
        Query(f"sum by (@POOL) (rate(@pool_rejected[{RATE}]))", f"{_POOL} refused"),
        Query(f"sum by (@POOL) (rate(@pool_cancelled[{RATE}]))", f"{_POOL} cancelled"),
    ),
    graph(
        Look(
            "Wait for a connection",
            "s",
            "From asking to having one that is open, failed waits included: the first thing to look at "
            "with httpx. As long as a query takes is too long.",
            limits=(0.1, 1),
            page="rules/LW301.md",
        ),
        Query(pool_wait(0.5, RATE), f"{_POOL} p50"),
        Query(pool_wait(0.95, RATE), f"{_POOL} p95"),
    ),
    graph(
        Look(
            "Longest wait that goes on",
            "s",
            "A pool that is stuck finishes no wait, so that no percentile shows it. A line that rises at a "
            "second per second is stuck.",
            limits=(0.1, 10),
            page="rules/LW301.md",
        ),
        Query(POOL_OLDEST_WAIT, _POOL),
    ),
    graph(
        Look(
            "Connections",
            "short",
            "Used, idle and being opened, and how many there can be. Opening all the time: they are not "
            "kept.",
        ),
        Query(
            of_pools(
                "sum by (@POOL) (@pool_usage)",
                'sum by (@DATABASE) (@database_connections{db_client_connection_state="used"})',
            ),
            f"{_POOL} used",
        ),
        Query(
            of_pools(
                "sum by (@POOL) (@pool_idle)",
                'sum by (@DATABASE) (@database_connections{db_client_connection_state="idle"})',
            ),
            f"{_POOL} idle",
        ),
        Query("sum by (@POOL) (@pool_connecting)", f"{_POOL} opening"),
        Query(
            of_pools("sum by (@POOL) (@pool_limit)", "sum by (@DATABASE) (@database_limit)"), f"{_POOL} limit"
        ),
    ),
    graph(
        Look(
            "Pools",
            "short",
            "Pools that live, and made per second. One for each request is one too many: make a client "
            "once, and share it.",
            12,
            page="rules/LW307.md",
        ),
        Query("sum by (@POOL) (@pool_instances)", f"{_POOL} live"),
        Query(f"sum by (@POOL) (rate(@pool_created[{RATE}]))", f"{_POOL} made per second"),
    ),
    graph(
        Look(
            "HTTP connections, by server",
            "short",
            "Open connections of HTTP clients. All active, none idle: the limit of that server is near.",
            12,
        ),
        Query(
            "sum by (@PROCESS, server_address, server_port, http_connection_state) (@http_connections)",
            f"{LEGEND} {{{{server_address}}}}:{{{{server_port}}}} {{{{http_connection_state}}}}",
        ),
    ),
)

_EXECUTORS = (
    graph(
        Look(
            "Workers",
            "short",
            "Threads or processes at work, there are, and can be. All at work with a queue: give slow work "
            "an executor of its own.",
            6,
        ),
        Query("sum by (@EXECUTOR) (@executor_used)", f"{_EXECUTOR} at work"),
        Query("sum by (@EXECUTOR) (@executor_workers)", f"{_EXECUTOR} there are"),
        Query("sum by (@EXECUTOR) (@executor_limit)", f"{_EXECUTOR} limit"),
    ),
    graph(
        Look(
            "Queue",
            "short",
            "Work that waits for a worker. In the default executor that may be DNS, for which every new "
            "connection waits.",
            6,
            limits=(1,),
            page="rules/LW306.md",
        ),
        Query("sum by (@EXECUTOR) (@executor_queue)", _EXECUTOR),
    ),
    graph(
        Look(
            "Wait for a worker",
            "s",
            "From submitting work to its start.",
            6,
            limits=(0.1, 1),
            page="rules/LW306.md",
        ),
        Query(
            f"histogram_quantile(0.5, sum by (@EXECUTOR, le) (rate(@executor_wait_bucket[{RATE}])))",
            f"{_EXECUTOR} p50",
        ),
        Query(
            f"histogram_quantile(0.95, sum by (@EXECUTOR, le) (rate(@executor_wait_bucket[{RATE}])))",
            f"{_EXECUTOR} p95",
        ),
    ),
    graph(
        Look(
            "Longest wait for a worker",
            "s",
            "Of the work that waits now. A line that rises at a second per second: all workers are stuck.",
            6,
            limits=(0.1, 10),
            page="rules/LW306.md",
        ),
        Query("max by (@EXECUTOR) (@executor_oldest_wait)", _EXECUTOR),
    ),
)

BOARD = Board(
    uid="loopwatch-pools",
    title="loopwatch: pools and executors",
    description="How full connection pools and executors are, who waits for them, and for how long.",
    rows=(("Now", _NOW), ("Connection pools", _POOLS), ("Executors", _EXECUTORS)),
    processes=True,
)
