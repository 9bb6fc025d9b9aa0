"""loopwatch watches the asyncio event loops of this process and says what is wrong, why, and what to do.

One line at start-up, before or inside the event loop, is all an application needs::

    import loopwatch

    loopwatch.install()
"""

from ._agent import Agent, install, metrics_asgi_app, metrics_wsgi_app, prometheus_collector, uninstall, watch
from ._errors import ConfigurationError, LoopwatchError
from ._records import Cause, Distribution, Frame, Loop, LoopKind, Point, Snapshot, Stall
from ._version import __version__

__all__ = [
    "Agent",
    "Cause",
    "ConfigurationError",
    "Distribution",
    "Frame",
    "Loop",
    "LoopKind",
    "LoopwatchError",
    "Point",
    "Snapshot",
    "Stall",
    "__version__",
    "install",
    "metrics_asgi_app",
    "metrics_wsgi_app",
    "prometheus_collector",
    "uninstall",
    "watch",
]
