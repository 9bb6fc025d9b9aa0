"""What makes a process ill, as one number: 2 if users feel it, 1 if somebody should look, 0 if all is well.

The thresholds are those of the alerts, without their patience: a dashboard tells what is now.
"""

from __future__ import annotations

from .panels import RATE
from .queries import POOL_UTILIZATION, POOL_WAITERS, delay, grown, pool_timeouts, pool_wait, utilization

_UNHEARD = grown("@unretrieved_exceptions", "@PROCESS", RATE)

_REASONS = {
    "event loop stands still": "2 * (max by (@PROCESS) (@blocked) > bool 5)",
    "event loop delay": f"(max by (@PROCESS) ({delay(0.99, RATE)}) > bool 0.1)"
    f" + (max by (@PROCESS) ({delay(0.99, RATE)}) > bool 0.5)",
    "event loop saturated": f"max by (@PROCESS) ({utilization(RATE)}) > bool 0.9",
    "starved of CPU": f"max by (@PROCESS) (sum by (@LOOP) (rate(@runqueue_time[{RATE}]))) > bool 0.1",
    "callers give up waiting for a pool": f"2 * (max by (@PROCESS) ({pool_timeouts(RATE)}) > bool 0)",
    "pool full, callers wait": f"max by (@PROCESS) ((({POOL_UTILIZATION}) >= bool 0.95)"
    f" * on (@POOL) (({POOL_WAITERS}) > bool 0))",
    "connections waited for": f"max by (@PROCESS) ({pool_wait(0.95, RATE)}) > bool 0.1",
    "work waits for a thread": "max by (@PROCESS) (@executor_queue) > bool 0",
    "tasks leaked": "sum by (@PROCESS) (@task_leaked) > bool 0",
    "exceptions nobody asked for": f"sum by (@PROCESS) ({_UNHEARD}) > bool 0",
    "worker does not answer": "2 * (min by (@PROCESS) (@worker_up) == bool 0)",
    "critical finding": '2 * (sum by (@PROCESS) (@finding_count{loopwatch_severity="critical"}) > bool 0)',
    "finding": 'sum by (@PROCESS) (@finding_count{loopwatch_severity="warning"}) > bool 0',
}

_ALL = "\nor\n".join(
    f'label_replace({query}, "reason", "{reason}", "", "")' for reason, query in _REASONS.items()
)

HEALTH = f"max by (@PROCESS) (\n{_ALL}\n)"
"""How ill each process is."""
REASONS = f"max by (@PROCESS, reason) (\n{_ALL}\n) > 0"
"""Why, for those that are."""
