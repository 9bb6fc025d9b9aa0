"""One process in depth."""

from __future__ import annotations

from .panels import LEGEND, RATE, Board, Column, Look, Query, graph, heat, named, number, per, table
from .queries import delay, grown, utilization

_LOOP = named("asyncio_eventloop_name")
_FUNCTION = "code_function_name"

_MEMORY = """\
max by (@PROCESS) (@process_resident_memory_bytes)
or
max by (@PROCESS) (@process_memory_usage_bytes)"""

_NOW = (
    number(
        Look(
            "Stands still for",
            "s",
            "How long the loop has owed service right now. It rises before a stall ends.",
            4,
            4,
            (0.1, 5),
        ),
        "max(@blocked)",
    ),
    number(
        Look(
            "Last heartbeat",
            "s",
            "How long ago the loop last ran our timer: 0.2 s while it is idle.",
            4,
            4,
            (1, 5),
        ),
        "max(time() - @last_tick)",
    ),
    number(
        Look("Delay, p99", "s", "What one timer in a hundred waits.", 4, 4, (0.1, 0.5)),
        f"max({delay(0.99, RATE)} >= 0)",
    ),
    number(
        Look("Busy", "percentunit", "The share of time for which the loop runs code.", 4, 4, (0.7, 0.9)),
        f"max({utilization(RATE)})",
    ),
    number(Look("Tasks", "short", "Live tasks.", 4, 4), "sum(@task_count)"),
    number(
        Look(
            "Findings",
            "short",
            "What the agent says is wrong: agent.findings() has the sentences.",
            4,
            4,
            (1, 5),
        ),
        "sum(@finding_count)",
    ),
)

_PROCESS = (
    graph(
        Look(
            "Memory",
            "bytes",
            "Resident memory. Rises with leaked tasks; of OTLP only if the program is instrumented for it.",
        ),
        Query(_MEMORY),
    ),
    graph(
        Look(
            "File descriptors",
            "short",
            "Open ones, sockets included, and how many there may be. Clients made per request leave theirs "
            "open.",
        ),
        Query(
            "max by (@PROCESS) (@process_open_fds)\nor\nmax by (@PROCESS) "
            "(@process_unix_file_descriptor_count)",
            f"{LEGEND} open",
        ),
        Query("max by (@PROCESS) (@process_max_fds)", f"{LEGEND} limit"),
    ),
    graph(
        Look(
            "CPU of the loop's thread",
            "percentunit",
            "What it computes, and for how long it was ready but had no CPU: that is a throttled container "
            "or a full machine, not the code.",
            limits=(0.9,),
            page="rules/LW107.md",
        ),
        Query(f"sum by (@LOOP) (rate(@cpu_time[{RATE}]))", f"{_LOOP} computes"),
        Query(f"sum by (@LOOP) (rate(@runqueue_time[{RATE}]))", f"{_LOOP} waits for a CPU"),
    ),
)

_DELAY = (
    heat(
        Look(
            "Delay of timers",
            "s",
            "How many timers were how late. A band that lies high is a loop that is always late, single "
            "cells are stalls. A dot is one stall with its trace: click on it.",
            16,
            9,
        ),
        f"sum by (le) (increase(@delay_bucket[{RATE}]))",
    ),
    graph(
        Look(
            "Delay",
            "s",
            "What everything in the loop waits on top of its own work; max is of the last 60 seconds.",
            8,
            9,
            limits=(0.1, 0.5),
            page="rules/LW102.md",
        ),
        Query(delay(0.5, RATE), f"{_LOOP} p50"),
        Query(delay(0.99, RATE), f"{_LOOP} p99", exemplars=True),
        Query("max by (@LOOP) (@delay_max)", f"{_LOOP} max"),
    ),
    graph(
        Look(
            "Utilization",
            "percentunit",
            "The share of its time for which a loop runs code. Above 0.9 queues grow steeply. It is time, "
            "not CPU: a blocking call counts.",
            limits=(0.7, 0.9),
            page="rules/LW103.md",
        ),
        Query(utilization(RATE), _LOOP),
    ),
    graph(
        Look(
            "Iterations",
            "ops",
            "Turns of the loop per second. Many while little is done: something spins. Absent on uvloop.",
        ),
        Query(f"sum by (@LOOP) (rate(@iterations[{RATE}]))", _LOOP),
    ),
    graph(
        Look(
            "Run queue",
            "short",
            "Callbacks ready to run, and timers scheduled. A queue that does not empty is a flood of small "
            "work. Absent on uvloop.",
            page="rules/LW104.md",
        ),
        Query("sum by (@LOOP) (@ready)", f"{_LOOP} ready"),
        Query("sum by (@LOOP) (@timers)", f"{_LOOP} timers"),
    ),
)

_STALLS = (
    graph(
        Look(
            "Time lost, by cause",
            "percentunit",
            "The share of time in stalls. cpu, blocking and flood are code; gc, gil, starved and suspended "
            "come from outside of the loop.",
            page="explanation/causes.md",
        ),
        per("asyncio_block_cause", f"rate(@block_time[{RATE}])"),
        stacked=True,
    ),
    graph(
        Look(
            "Time lost, by function",
            "percentunit",
            "Whose code held the loop: begin with the largest. _unknown is where no frame was seen in time.",
            page="rules/LW101.md",
        ),
        per(_FUNCTION, f"rate(@block_time[{RATE}])"),
        stacked=True,
    ),
    graph(
        Look(
            "Length of stalls, p99",
            "s",
            "And how many there are per second. A dot is one stall, with its trace.",
            page="rules/LW102.md",
        ),
        Query(
            f"histogram_quantile(0.99, sum by (@LOOP, le) (rate(@block_duration_bucket[{RATE}])))",
            f"{_LOOP} p99",
            exemplars=True,
        ),
        Query(f"sum by (@LOOP) (rate(@block_duration_count[{RATE}]))", f"{_LOOP} per second"),
    ),
    table(
        Look(
            "Who held the loop, in the time shown",
            "s",
            "Seconds lost to each function, by cause. For cpu a thread does not help, since the GIL is "
            "held: move it to a process. For blocking use an asynchronous call, or a thread.",
            16,
        ),
        Column(
            "lost",
            grown("@block_time", "@LOOP, code_function_name, asyncio_block_cause", "$__range"),
            "s",
        ),
        sort="lost",
        renamed={"code_function_name": "function", "asyncio_block_cause": "cause"},
    ),
    graph(
        Look(
            "Garbage collection",
            "percentunit",
            "The share of time for which collections stopped every loop of the process, by generation. "
            "Freeze what is long-lived with gc.freeze(), or raise gc.set_threshold().",
            page="rules/LW105.md",
        ),
        Query(
            f"sum by (@LOOP, cpython_gc_generation) (rate(@gc_pause_sum[{RATE}]))",
            f"{_LOOP} generation {{{{cpython_gc_generation}}}}",
        ),
        stacked=True,
    ),
)

_TASKS = (
    graph(
        Look(
            "Live tasks, by the function that created them",
            "short",
            "What only rises leaks, or is a backlog. _other is what comes beyond the first 20.",
            page="rules/LW206.md",
        ),
        per(_FUNCTION, "@task_site_count"),
        stacked=True,
    ),
    graph(
        Look(
            "Tasks created",
            "ops",
            "Per second, by the function that created them. A steep rise is a flood of small tasks.",
        ),
        per(_FUNCTION, f"rate(@task_created[{RATE}])"),
        stacked=True,
    ),
    graph(
        Look(
            "Tasks ended, by outcome",
            "ops",
            "Per second. Errors are failures that somebody asked for; those nobody asked for are below.",
        ),
        per("asyncio_task_outcome", f"rate(@task_finished[{RATE}])"),
        stacked=True,
    ),
    graph(
        Look(
            "Duration of tasks, p95",
            "s",
            "From creation to end, by the function that created them. All at once longer: the loop or a "
            "pool is slow.",
        ),
        Query(
            "histogram_quantile(0.95, sum by (@PROCESS, code_function_name, le) "
            f"(rate(@task_duration_bucket[{RATE}])))",
            named(_FUNCTION),
        ),
    ),
    graph(
        Look(
            "Age of the oldest task",
            "s",
            "Of those not declared with loopwatch.daemon(). A line that only rises is a task that is stuck.",
            page="rules/LW207.md",
        ),
        Query("max by (@PROCESS) (@task_age_max)"),
    ),
    graph(
        Look(
            "Leaked tasks",
            "short",
            "Live tasks that will not finish, by how that is known. agent.lost() names their creators.",
            limits=(1,),
            page="rules/LW206.md",
        ),
        per("asyncio_task_leak_reason", "@task_leaked"),
    ),
    graph(
        Look(
            "Lost tasks",
            "short",
            "Within the step of the graph, by reason. The log has each with the function that created it.",
            page="rules/LW201.md",
        ),
        Query(
            grown("@task_lost", "@PROCESS, asyncio_task_lost_reason", RATE),
            named("asyncio_task_lost_reason"),
        ),
    ),
    graph(
        Look(
            "Exceptions nobody asked for",
            "short",
            "Within the step of the graph, by class: each is a failure that the program has not noticed.",
            limits=(1,),
            page="rules/LW202.md",
        ),
        Query(grown("@unretrieved_exceptions", "@PROCESS, error_type", RATE), named("error_type")),
    ),
    graph(
        Look(
            "Context lost",
            "short",
            "Work that ran without the request id or trace, by the function that handed it over: "
            "loopwatch.carry() takes it along.",
            page="rules/LW401.md",
        ),
        Query(grown("@task_context_lost", "@PROCESS, code_function_name", RATE), named(_FUNCTION)),
    ),
)

BOARD = Board(
    uid="loopwatch-instance",
    title="loopwatch: instance",
    description="One process in depth: its loop, who blocks it, and what its tasks do.",
    rows=(
        ("Now", _NOW),
        ("Event loop", _DELAY),
        ("Stalls", _STALLS),
        ("Tasks", _TASKS),
        ("Process", _PROCESS),
    ),
    processes=True,
)
