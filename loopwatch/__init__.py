"""loopwatch watches the asyncio event loops of this process and says what is wrong, why, and what to do.

One line at start-up, before or inside the event loop, is all an application needs::

    import loopwatch

    loopwatch.install()
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._context.carry import Carried, carry, restore
from ._context.work import current_work
from ._errors import ConfigurationError, Draining, LoopwatchError
from ._install import (
    install,
    installed,
    metrics_asgi_app,
    metrics_wsgi_app,
    prometheus_collector,
    uninstall,
    watch,
)
from ._jobs.drain import drain
from ._jobs.lifespan import drain_lifespan
from ._jobs.spawn import spawn
from ._records import DrainReport, DrainState, Frame, Task, TaskState, Work
from ._store.daemons import daemon
from ._store.watched import watch_var
from ._version import __version__

if TYPE_CHECKING:  # what there is only with an agent: ``__getattr__`` loads it when it is asked for
    from ._agent import Agent
    from ._agent_records import (
        Borrower,
        Cause,
        Finding,
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
        Victim,
        Waiting,
    )
    from ._measures import Distribution, Exemplar, Point

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

_HOMES = {
    "Agent": "._agent",
    "Distribution": "._measures",
    "Exemplar": "._measures",
    "Point": "._measures",
    "facts": ".facts",
}
"""Modules of names that are loaded when asked for; of all others ``_agent_records``."""

if not TYPE_CHECKING:  # to type checkers it would mean that there is every name

    def __getattr__(name: str) -> object:
        if name not in {*__all__, *_HOMES}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(_HOMES.get(name, "._agent_records"), __name__)
        return globals().setdefault(name, home if name == "facts" else getattr(home, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "facts"} - {"TYPE_CHECKING", "import_module"})
