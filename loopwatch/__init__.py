"""loopwatch watches the asyncio event loops of this process and says what is wrong, why, and what to do.

One line at start-up, before or inside the event loop, is all an application needs::

    import loopwatch

    loopwatch.install()
"""

from ._agent import (
    Agent,
    install,
    installed,
    metrics_asgi_app,
    metrics_wsgi_app,
    prometheus_collector,
    uninstall,
    watch,
)
from ._context.carry import Carried, carry, restore
from ._context.work import current_work
from ._errors import ConfigurationError, Draining, LoopwatchError
from ._jobs.drain import drain
from ._jobs.lifespan import drain_lifespan
from ._jobs.spawn import spawn
from ._measures import Distribution, Exemplar, Point
from ._records import (
    Borrower,
    Cause,
    DrainReport,
    DrainState,
    Finding,
    Frame,
    LeakReason,
    Loop,
    LoopKind,
    Lost,
    LostReason,
    Pool,
    PoolUser,
    PoolWaiter,
    Severity,
    Snapshot,
    Stall,
    Task,
    TaskState,
    Victim,
    Waiting,
    Work,
)
from ._store.daemons import daemon
from ._store.watched import watch_var
from ._version import __version__

__all__ = [
    "Agent",
    "Borrower",
    "Carried",
    "Cause",
    "ConfigurationError",
    "Distribution",
    "DrainReport",
    "DrainState",
    "Draining",
    "Exemplar",
    "Finding",
    "Frame",
    "LeakReason",
    "Loop",
    "LoopKind",
    "LoopwatchError",
    "Lost",
    "LostReason",
    "Point",
    "Pool",
    "PoolUser",
    "PoolWaiter",
    "Severity",
    "Snapshot",
    "Stall",
    "Task",
    "TaskState",
    "Victim",
    "Waiting",
    "Work",
    "__version__",
    "carry",
    "current_work",
    "daemon",
    "drain",
    "drain_lifespan",
    "install",
    "installed",
    "metrics_asgi_app",
    "metrics_wsgi_app",
    "prometheus_collector",
    "restore",
    "spawn",
    "uninstall",
    "watch",
    "watch_var",
]
