"""What loopwatch raises, and how it keeps its own failures out of the user's program."""

from __future__ import annotations

import logging
from collections import Counter

logger = logging.getLogger("loopwatch")


class LoopwatchError(Exception):
    """Base of every exception loopwatch raises on purpose."""


class ConfigurationError(LoopwatchError, ValueError):
    """A setting has a value that cannot work. Raised by ``install()`` alone, never later."""


class Failures:
    """Counts our own failures by component; each component's first one is logged with its traceback.

    Written from any thread. ``Counter`` updates are read-modify-write, so two threads failing in the same
    component at the same instant may count once: an accepted loss, since a lock here could be taken on the
    loop thread.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, component: str, error: BaseException) -> None:
        """Count ``error`` against ``component``; log it if it is that component's first."""
        self._counts[component] += 1
        if self._counts[component] == 1:
            logger.error(
                "loopwatch: %s failed and was set aside; the program is not affected. "
                "Later failures of this component are only counted (loopwatch_internal_errors_total).",
                component,
                exc_info=error,
            )

    def by_component(self) -> dict[str, int]:
        """Return a copy of the counts."""
        return dict(self._counts)
