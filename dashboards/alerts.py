"""The alerts. Three page, as users feel what they tell of; the rest are tickets, or notes beside a graph.

Thresholds in seconds are bounds of the histograms' buckets, where a quantile is exact.
"""

from __future__ import annotations

from .queries import grown
from .rule_file import DELAY, POOL, UTILIZATION, Alert

_WHERE = "{{ $labels.job }} at {{ $labels.instance }}{{ with $labels.process_pid }}, process {{ . }}{{ end }}"
_LOOP = "event loop {{ $labels.asyncio_eventloop_name }} of " + _WHERE
_POOL = "pool {{ $labels.asyncio_pool_name }} ({{ $labels.asyncio_pool_type }}) of " + _WHERE
_DURATION = "{{ $value | humanizeDuration }}"
_SHARE = "{{ $value | humanizePercentage }}"

_LOST = grown("@block_time{job=%[1]q, instance=%[2]q}", "code_function_name", "10m")
_WORST = (
    "{{ with printf `topk(1, " + _LOST + ")` $labels.job $labels.instance | query }}"
    " Most time was lost in {{ . | first | label `code_function_name` }}.{{ end }}"
)
"""Who stalls a loop most, asked when the alert is written."""

_LOOPS = (
    Alert(
        "AsyncioEventLoopStalled",
        "critical",
        "max by (@LOOP) (@blocked) > 5",
        "30s",
        "50 times what asyncio's debug mode calls slow. Sees a stall before it ends, unless C code holds "
        "the GIL: then no scrape is answered either, which `up == 0` and LoopwatchWorkerSilent tell.",
        f"The {_LOOP} stands still",
        f"It has not served anything for {_DURATION}: no request, no timer, no health check. The log, "
        "agent.stalls() and the dashboard's stalls by function name who holds it." + _WORST,
        "rules/LW102.md",
        "loopwatch-instance",
    ),
    Alert(
        "AsyncioEventLoopDelayHigh",
        "critical",
        f"{DELAY} > 0.5",
        "5m",
        "Half a second on top of everything breaks most service levels.",
        f"The {_LOOP} makes everything wait",
        f"One timer in a hundred runs {_DURATION} late or more, and so does what requests wait for." + _WORST,
        "rules/LW102.md",
        "loopwatch-instance",
    ),
    Alert(
        "AsyncioEventLoopDelayHigh",
        "warning",
        f"{DELAY} > 0.1",
        "10m",
        "What a user begins to notice; also the default stall_threshold. Where the critical one fires, "
        "have this one inhibited.",
        f"The {_LOOP} is slow to serve",
        f"One timer in a hundred runs {_DURATION} late or more, and so does what requests wait for." + _WORST,
        "rules/LW102.md",
        "loopwatch-instance",
    ),
    Alert(
        "AsyncioEventLoopSaturated",
        "warning",
        f"{UTILIZATION} > 0.9",
        "15m",
        "Beyond nine tenths queues grow steeply. A matter of capacity, not of a minute.",
        f"The {_LOOP} has no time left",
        f"It is busy for {_SHARE} of its time. More load makes every request slower: add processes, or move "
        "work off it.",
        "rules/LW103.md",
        "loopwatch-instance",
    ),
    Alert(
        "AsyncioEventLoopBlocking",
        "info",
        f"sum by (@LOOP) (increase(@block_duration_count[10m])) > 10\nand on (@LOOP)\n{DELAY} > 0.05",
        "10m",
        "More than one stall a minute, and felt: half of what is a stall by default.",
        f"The {_LOOP} is blocked again and again",
        "{{ $value | humanize }} stalls in ten minutes." + _WORST,
        "rules/LW101.md",
        "loopwatch-instance",
    ),
    Alert(
        "AsyncioEventLoopCpuStarved",
        "warning",
        "sum by (@LOOP) (rate(@runqueue_time[5m])) > 0.1",
        "10m",
        "Ready to run for a tenth of the time, and no CPU to run on: a throttled container or a full "
        "machine, not the code.",
        f"The {_LOOP} waits for a CPU",
        f"Its thread was ready to run but not running for {_SHARE} of the time. Raise the CPU limit, or "
        "move neighbours.",
        "rules/LW107.md",
        "loopwatch-instance",
    ),
)

_TASKS = (
    Alert(
        "AsyncioTaskLeakDetected",
        "warning",
        "sum by (@PROCESS, asyncio_task_leak_reason) (@task_leaked) > 0",
        "15m",
        "Each is proven in the process, or far beyond what is usual at its site; a quarter of an hour "
        "rides out restarts.",
        f"Tasks of {_WHERE} will not finish",
        "{{ $value }} live tasks are leaked ({{ $labels.asyncio_task_leak_reason }}). The log and "
        "agent.lost() name them, with the function that created each and where it stands.",
        "rules/LW206.md",
        "loopwatch-instance",
    ),
    Alert(
        "AsyncioTaskCountRatcheting",
        "warning",
        "max by (@PROCESS) (min_over_time(@task_count[1h]))\n"
        "> 1.5 * max by (@PROCESS) (min_over_time(@task_count[1h] offset 2h))\n"
        "and\n"
        "max by (@PROCESS) (min_over_time(@task_count[1h]))"
        " - max by (@PROCESS) (min_over_time(@task_count[1h] offset 2h)) > 100",
        "30m",
        "What is compared is the least there was in an hour, so that no peak of traffic counts; by half "
        "and by a hundred, so that a small number may double.",
        f"More and more tasks are left in {_WHERE}",
        "There were never fewer than {{ $value }} in the last hour: half as many again as two hours "
        "before, and 100 more. The dashboard's tasks by function show which grow.",
        "rules/LW206.md",
        "loopwatch-instance",
    ),
    Alert(
        "AsyncioTaskExceptionLost",
        "warning",
        grown("@unretrieved_exceptions", "@PROCESS, error_type", "10m"),
        "0s",
        "Each one is a failure that nobody has heard of.",
        f"Tasks of {_WHERE} fail unheard",
        "{{ $value | humanize }} tasks died of {{ $labels.error_type }} in ten minutes, and nobody asked "
        "for the exception. The log has each with its traceback.",
        "rules/LW202.md",
        "loopwatch-instance",
    ),
)

_POOLS = (
    Alert(
        "ConnectionPoolTimeouts",
        "critical",
        f"{POOL}:timeouts:rate5m > 0",
        "2m",
        "Each is an error that a user sees. That httpx counts none proves nothing, since it begins to wait "
        "anew when another caller takes the connection: there the wait is what to go by.",
        f"Callers give up waiting for the {_POOL}",
        "{{ $value | humanize }} timeouts per second. Raise the limit, bound the callers, or find who "
        "holds the connections: agent.pools() names them.",
        "rules/LW302.md",
        "loopwatch-pools",
    ),
    Alert(
        "ConnectionPoolSaturated",
        "warning",
        f"max_over_time({POOL}:utilization[1m]) >= 0.95\nand on (@POOL)\n{POOL}:pending > 0",
        "5m",
        "Full alone is well used; full while callers wait is too small, or held for too long. The highest of "
        "a minute, since a connection that changes hands counts as free for a moment.",
        f"The {_POOL} is full, and callers wait",
        f"{_SHARE} of its connections have been in use for five minutes. Raise the limit, bound the "
        "callers, or find who holds the connections: agent.pools() names them.",
        "rules/LW301.md",
        "loopwatch-pools",
    ),
    Alert(
        "ConnectionPoolWaitHigh",
        "warning",
        f"{POOL}:wait:p95 > 0.1\nor\n{POOL}:oldest_wait > 10",
        "10m",
        "As long as a query takes: half of a request's time then goes into getting a connection. Beyond "
        "the last bucket, 10 s, it is waits that have not ended which tell. The first thing to look at "
        "with httpx.",
        f"Connections of the {_POOL} are waited for",
        f"One caller in twenty waits for {_DURATION} or more, or one has waited that long already. Raise "
        "the limit, bound the callers, or find who holds the connections: agent.pools() names them.",
        "rules/LW301.md",
        "loopwatch-pools",
    ),
    Alert(
        "AsyncioExecutorStarved",
        "warning",
        "sum by (@EXECUTOR) (@executor_queue) > 0",
        "2m",
        "An executor only queues when each of its threads is busy. DNS shares the default one.",
        "Work waits for a thread of executor {{ $labels.asyncio_executor_name }} of " + _WHERE,
        "{{ $value }} pieces of work wait. In the default executor that may be name look-ups, so that "
        "every new connection waits: give slow work an executor of its own.",
        "rules/LW306.md",
        "loopwatch-pools",
    ),
)

_ITSELF = (
    Alert(
        "LoopwatchDrainForced",
        "warning",
        "sum by (@PROCESS) (increase(@drain_cancelled[15m])) + sum by (@PROCESS) "
        "(increase(@drain_abandoned[15m])) > 0",
        "0s",
        "Work was cut off. Seen only if the process lives for one more scrape: the log and the event "
        "`loopwatch.drain` tell of it in any case.",
        f"The shutdown of {_WHERE} cut off work",
        "{{ $value | humanize }} tasks did not end within the drain's timeout. The log names each, and "
        "where it stood.",
        "rules/LW501.md",
        "loopwatch-shutdown",
    ),
    Alert(
        "LoopwatchWorkerSilent",
        "warning",
        "min by (@PROCESS) (@worker_up) == 0",
        "1m",
        "A worker that cannot answer for a minute is stopped, or C code holds its GIL. Its sibling answers "
        "the scrape, so that `up` stays 1.",
        f"A worker of {_WHERE} does not answer",
        "Nothing in it has run for a minute, not even the thread that answers scrapes. The dump file of "
        "the hold has its stack.",
        "how-to/dashboards.md#loopwatchworkersilent",
        "loopwatch-instance",
    ),
    Alert(
        "LoopwatchDegraded",
        "info",
        "sum by (@PROCESS) (rate(@overhead[5m])) > 0.02\n"
        "or\nsum by (@PROCESS) (increase(@dropped[10m])) > 0\n"
        "or\nsum by (@PROCESS) (increase(@internal_errors[10m])) > 0",
        "10m",
        "Two percent of a core is what we promise to stay below.",
        f"loopwatch does not do what it should in {_WHERE}",
        "It costs more than 2 % of a core, drops events, or a part of it has failed. The dashboard's last "
        "row shows which; the log has the traceback.",
        "how-to/dashboards.md#loopwatchdegraded",
        "loopwatch-fleet",
    ),
    Alert(
        "LoopwatchMissing",
        "info",
        "(up == 1 unless on (job, instance) @info)\n"
        "and on (job)\n"
        "count by (job) (count by (job, instance) (@info offset 1h))"
        " >= count by (job) (up offset 1h == 1)",
        "15m",
        "A job of whose targets each had the agent an hour ago, so that one which mixes programs stays "
        "quiet. Of OTLP nothing is known: there is no target that could be up without it.",
        f"loopwatch is gone from {_WHERE}",
        "The target answers scrapes but shows no event loop. Was install() not reached, or "
        "LOOPWATCH_DISABLED set?",
        "how-to/dashboards.md#loopwatchmissing",
        "loopwatch-fleet",
    ),
)

ALERTS = (
    ("loopwatch-loops", _LOOPS),
    ("loopwatch-tasks", _TASKS),
    ("loopwatch-pools", _POOLS),
    ("loopwatch-itself", _ITSELF),
)
