"""The fleet: which process is ill, and why, in ten seconds."""

from __future__ import annotations

from .health import HEALTH, REASONS
from .panels import LEGEND, RATE, Board, Column, Look, Query, graph, link, named, number, page, per, table
from .queries import POOL_UTILIZATION, delay, grown, pool_timeouts, utilization

_INSTANCE = link(
    "This instance in depth",
    "/d/loopwatch-instance?${datasource:queryparam}&var-job=${__data.fields.job}&var-instance=${__data.fields.instance}&from=${__from}&to=${__to}",
)
_RULE = link("What this finding means, and what to do", page("rules/${__data.fields.rule}.md"))
_FINDING = "@PROCESS, loopwatch_rule, loopwatch_severity"
_WEIGHT = "\nor\n".join(
    f'{weight} * (sum by ({_FINDING}) (@finding_count{{loopwatch_severity="{severity}"}}) > bool 0) > 0'
    for weight, severity in ((3, "critical"), (2, "warning"), (1, "info"))
)
"""The most severe first: their names are in no such order."""
_COST = "how-to/dashboards.md#loopwatchdegraded"

_NOW = (
    number(
        Look(
            "Processes",
            "short",
            "How many processes are watched now. Fewer than you run: see LoopwatchMissing.",
            4,
            4,
        ),
        "count(max by (@PROCESS) (@info))",
    ),
    number(
        Look(
            "Ill",
            "short",
            "Processes in which users feel something. Look at the table of reasons.",
            4,
            4,
            (1, 1),
        ),
        f"sum(({HEALTH}) >= bool 2)",
    ),
    number(
        Look(
            "To look at",
            "short",
            "Processes in which something is wrong that users do not feel yet.",
            4,
            4,
            (1,),
        ),
        f"sum(({HEALTH}) == bool 1)",
    ),
    number(
        Look(
            "Longest standstill",
            "s",
            "For how long a loop has not served anything, right now.",
            4,
            4,
            (0.1, 5),
        ),
        "max(@blocked)",
    ),
    number(
        Look(
            "Worst delay, p99", "s", "What one timer in a hundred waits for the worst loop.", 4, 4, (0.1, 0.5)
        ),
        f"max({delay(0.99, RATE)} >= 0)",
    ),
    number(
        Look(
            "Callers giving up",
            "reqps",
            "Waits for a connection that ended in a timeout, per second.",
            4,
            4,
            (0.001, 1),
        ),
        f"sum({pool_timeouts(RATE)})",
    ),
    table(
        Look(
            "Processes, worst first",
            "short",
            "Health is 2 where users feel something, 1 where somebody should look, 0 where all is well: "
            "the limits of the alerts, as of now. Click on a row for the process in depth.",
            24,
            9,
        ),
        Column("health", HEALTH, "short", (1, 2)),
        Column("delay p99", f"max by (@PROCESS) ({delay(0.99, RATE)})", "s", (0.1, 0.5)),
        Column("delay max", "max by (@PROCESS) (@delay_max)", "s", (0.5, 5)),
        Column("busy", f"max by (@PROCESS) ({utilization(RATE)})", "percentunit", (0.7, 0.9)),
        Column(
            "lost in stalls", f"sum by (@PROCESS) (rate(@block_time[{RATE}]))", "percentunit", (0.01, 0.1)
        ),
        Column("fullest pool", f"max by (@PROCESS) ({POOL_UTILIZATION})", "percentunit", (0.8, 0.95)),
        Column("tasks", "sum by (@PROCESS) (@task_count)", "short"),
        Column("leaked", "sum by (@PROCESS) (@task_leaked)", "short", (1,)),
        Column(
            "critical findings",
            'sum by (@PROCESS) (@finding_count{loopwatch_severity="critical"})',
            "short",
            (1, 1),
        ),
        Column("findings", "sum by (@PROCESS) (@finding_count)", "short", (1,)),
        sort="health",
        links=[_INSTANCE],
    ),
    table(
        Look(
            "Why",
            "short",
            "What is wrong where, worst first. Empty is well. Users feel what has 2. The instance in depth "
            "shows since when, and who.",
            12,
        ),
        Column("health", REASONS, "short", (1, 2)),
        sort="health",
        links=[_INSTANCE],
    ),
    table(
        Look(
            "Findings",
            "short",
            "What the agents say of themselves. Click on one for what it means and what to do; the "
            "sentence, with names and numbers, is in the log and in agent.findings().",
            12,
        ),
        Column("weight", _WEIGHT, "short", (2, 3)),
        Column("findings", f"sum by ({_FINDING}) (@finding_count) > 0", "short"),
        sort="weight",
        renamed={"loopwatch_rule": "rule", "loopwatch_severity": "severity"},
        links=[_RULE],
    ),
)

_LATENESS = (
    "What everything in the loop waits on top of its own work. Below 10 ms is well; at 100 ms users "
    "notice. The instance in depth says who blocks it."
)

_LOOPS = (
    graph(
        Look("Delay, median", "s", _LATENESS, limits=(0.1, 0.5), page="rules/LW102.md"),
        Query(f"max by (@PROCESS) ({delay(0.5, RATE)})"),
    ),
    graph(
        Look("Delay, p99", "s", _LATENESS, limits=(0.1, 0.5), page="rules/LW102.md"),
        Query(f"max by (@PROCESS) ({delay(0.99, RATE)})"),
    ),
    graph(
        Look(
            "Delay, longest of a minute",
            "s",
            "The largest delay of the last 60 seconds, also of a stall so rare that no percentile shows it.",
            limits=(0.5, 5),
            page="rules/LW102.md",
        ),
        Query("max by (@PROCESS) (@delay_max)"),
    ),
    graph(
        Look(
            "Utilization",
            "percentunit",
            "The share of its time for which the busiest loop of a process runs code. Above 0.9 queues "
            "grow steeply: add processes, or move work off the loop. It is time, not CPU: a blocking call "
            "counts.",
            limits=(0.7, 0.9),
            page="rules/LW103.md",
        ),
        Query(f"max by (@PROCESS) ({utilization(RATE)})"),
    ),
    graph(
        Look(
            "Time lost in stalls, by cause",
            "s",
            "Seconds lost per second, of all processes together. cpu, blocking and flood are code: see who "
            "in the instance in depth. gc, gil, starved and suspended come from outside of the loop.",
            page="explanation/causes.md",
        ),
        Query(f"sum by (asyncio_block_cause) (rate(@block_time[{RATE}]))", "{{asyncio_block_cause}}"),
        stacked=True,
    ),
    graph(
        Look(
            "Fullest pool",
            "percentunit",
            "The share of connections in use, of the fullest pool of each process. At 1 with callers that "
            "wait it is too small, or its connections are held for too long: see the pools' dashboard.",
            limits=(0.8, 0.95),
            page="rules/LW301.md",
        ),
        Query(f"max by (@PROCESS) ({POOL_UTILIZATION})"),
    ),
)

_TASKS = (
    graph(
        Look(
            "Leaked tasks",
            "short",
            "Live tasks that will not finish. Each is in the log with its creator; they hold memory, and "
            "what they hold besides: connections, locks.",
            limits=(1,),
            page="rules/LW206.md",
        ),
        per("asyncio_task_leak_reason", "@task_leaked"),
    ),
    graph(
        Look(
            "Lost tasks",
            "short",
            "Tasks that will never finish, or whose failure nobody has heard of, within the step of the "
            "graph.",
            page="rules/LW201.md",
        ),
        Query(
            grown("@task_lost", "@PROCESS, asyncio_task_lost_reason", RATE),
            named("asyncio_task_lost_reason"),
        ),
    ),
    graph(
        Look(
            "Tasks",
            "short",
            "Live tasks. A floor that only rises is a leak, or a backlog: the instance in depth shows "
            "which function creates them.",
        ),
        Query("sum by (@PROCESS) (@task_count)"),
    ),
)

_UNSEEN = {
    "pools": "min by (@PROCESS, loopwatch_reader_kind, loopwatch_reader_feature) (@reader_up) == 0",
    "worker": "min by (@PROCESS) (@worker_up) == 0",
    "loop": "sum by (@PROCESS, loopwatch_reason) (@unwatched) > 0",
}

_ITSELF = (
    graph(
        Look(
            "Cost of loopwatch",
            "percentunit",
            "CPU of loopwatch's own threads, as a share of a core. More than 2 % breaks our promise: "
            "please report it.",
            6,
            limits=(0.02,),
            page=_COST,
        ),
        Query(f"sum by (@PROCESS) (rate(@overhead[{RATE}]))"),
    ),
    graph(
        Look(
            "Dropped and withheld",
            "short",
            "Events that found a buffer full, and log lines beyond the rate limit: what the log says is "
            "not all.",
            6,
            page=_COST,
        ),
        Query(
            f"sum by (@PROCESS, loopwatch_component) (increase(@dropped[{RATE}])) > 0",
            named("loopwatch_component"),
        ),
        Query(f"sum by (@PROCESS) (increase(@log_suppressed[{RATE}])) > 0", f"{LEGEND} log lines"),
    ),
    graph(
        Look(
            "Failures of loopwatch",
            "short",
            "A part of ours has failed and is off; the program has not noticed. The log has the traceback: "
            "report it.",
            6,
            limits=(1,),
            page=_COST,
        ),
        Query(
            f"sum by (@PROCESS, loopwatch_component) (increase(@internal_errors[{RATE}])) > 0",
            named("loopwatch_component"),
        ),
    ),
    table(
        Look(
            "Not watched",
            "short",
            "Pools of a library whose version does not let us, workers that do not answer, loops left "
            "alone since they have a clock of their own. Update the library or loopwatch.",
            6,
        ),
        Column(
            "value",
            "\nor\n".join(
                f'label_replace({query}, "what", "{what}", "", "")' for what, query in _UNSEEN.items()
            ),
            "short",
        ),
        sort="value",
    ),
)

BOARD = Board(
    uid="loopwatch-fleet",
    title="loopwatch: fleet",
    description="Which process is ill, and why. Click on one to see it in depth.",
    rows=(
        ("Now", _NOW),
        ("Event loops", _LOOPS),
        ("Tasks", _TASKS),
        ("loopwatch itself", _ITSELF),
    ),
)
