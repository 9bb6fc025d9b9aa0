"""Shutdown: what drains finished, and what they cut off; restarts."""

from __future__ import annotations

from .panels import GREEN, LEGEND, RATE, RED, YELLOW, Board, Look, Query, graph, number, per, timeline

_CUT = "The log names each, with where it stood; so does the event loopwatch.drain.task."
_PHASES = {"1": ("serving", GREEN), "2": ("draining", YELLOW), "3": ("drained", "blue"), "4": ("forced", RED)}
_PHASE = "\nor\n".join(
    f'{value} * (max by (@PROCESS) (@drain_status{{loopwatch_drain_state="{state}"}}) == 1)'
    for value, (state, _) in _PHASES.items()
)

_NOW = (
    number(
        Look("Draining now", "short", "Processes that wait for their work to end.", 6, 4, (1,)),
        'sum(@drain_status{loopwatch_drain_state="draining"})',
    ),
    number(
        Look(
            "Longest drain",
            "s",
            "Of those that go on, or else the last of each process. Keep it below the grace period.",
            6,
            4,
            (20, 30),
        ),
        "max(@drain_duration)",
    ),
    number(
        Look(
            "Cut off",
            "short",
            f"Tasks that drains cancelled or left behind, in the time shown. {_CUT}",
            6,
            4,
            (1, 10),
        ),
        "sum(increase(@drain_cancelled[$__range])) + sum(increase(@drain_abandoned[$__range]))",
    ),
    number(
        Look("Jobs now", "short", "Jobs of loopwatch.spawn(), for which a drain would wait.", 6, 4),
        'sum(@jobs{loopwatch_job_state="running"})',
    ),
)

_DRAINS = (
    timeline(
        Look(
            "Phase of each process",
            "short",
            "serving, draining, then drained, or forced if work was left. A band that ends without "
            "draining was killed, or does not drain: see the page.",
            24,
            9,
            page="how-to/shut-down-without-losing-jobs.md",
        ),
        Query(_PHASE),
        _PHASES,
    ),
    graph(
        Look(
            "Duration of the drain",
            "s",
            "Of the one that goes on, else of the last one. Keep it, with the rest of the shutdown, below "
            "terminationGracePeriodSeconds, or SIGKILL ends it.",
            12,
            limits=(20, 30),
            page="rules/LW501.md",
        ),
        Query("max by (@PROCESS) (@drain_duration)"),
    ),
    graph(
        Look(
            "What became of the work",
            "short",
            f"Tasks that ended by themselves, were cancelled at the timeout, or were left pending. {_CUT}",
            12,
            page="rules/LW501.md",
        ),
        Query("sum by (@PROCESS) (@drain_finished) > 0", f"{LEGEND} finished"),
        Query("sum by (@PROCESS) (@drain_cancelled) > 0", f"{LEGEND} cancelled"),
        Query("sum by (@PROCESS) (@drain_abandoned) > 0", f"{LEGEND} abandoned"),
    ),
)

_JOBS = (
    graph(
        Look(
            "Jobs running",
            "short",
            "What a drain would have to wait for now. More than it can finish within its timeout is cut off.",
        ),
        Query('sum by (@PROCESS) (@jobs{loopwatch_job_state="running"})'),
    ),
    graph(
        Look("Jobs ended", "ops", "Per second, by outcome. A failed job has its traceback in the log."),
        per("loopwatch_job_state", f'rate(@jobs{{loopwatch_job_state!="running"}}[{RATE}])'),
        stacked=True,
    ),
    graph(
        Look(
            "Processes",
            "short",
            "Processes of each job that are watched. A dip is a restart, which is also marked on every "
            "graph.",
        ),
        Query("count by (job) (max by (@PROCESS) (@info))", "{{job}}"),
    ),
)

BOARD = Board(
    uid="loopwatch-shutdown",
    title="loopwatch: shutdown",
    description="What drains finished and what they cut off, by process; jobs and restarts.",
    rows=(("Now", _NOW), ("Drains", _DRAINS), ("Jobs and restarts", _JOBS)),
    since="now-6h",
)
