"""What users hold: the agent of this process, as ``install()`` returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._agent_records import Finding, Loop, Lost, Pool, Snapshot, Stall, Waiting
from ._errors import ConfigurationError
from ._records import DrainReport, Task
from ._settings import Settings

if TYPE_CHECKING:
    from ._engine import Engine


class Agent:
    """Watches this process. Returned by ``install()``; may be asked from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def snapshot(self) -> Snapshot:
        """Return everything known now, as one immutable record."""
        return self._engine.reader.snapshot()

    def loops(self) -> tuple[Loop, ...]:
        """Return the health of each event loop seen so far."""
        return self._engine.reader.loops()

    def stalls(self) -> tuple[Stall, ...]:
        """Return the last 256 stalls, oldest first, then the one in progress in each loop, if any."""
        return self._engine.reader.stalls()

    def tasks(self, limit: int = 10_000) -> tuple[Task, ...]:
        """Return the last tasks that ended, then up to ``limit`` live ones: each group oldest first.

        The first group holds, for each loop, the last 1,000 tasks that ended and the last 200 that failed.
        Takes some 25 us per live task: do not call it in an event loop that has thousands. Raises
        ConfigurationError if ``limit`` is not a number of tasks.
        """
        return self._engine.reader.tasks(_number_of_tasks("tasks", limit))

    def lost(self) -> tuple[Lost, ...]:
        """Return the last 256 losses, oldest first: tasks that were lost or leaked, and lost contexts."""
        return self._engine.reader.lost()

    def pools(self) -> tuple[Pool, ...]:
        """Return all connection pools and executors, by kind and label: those alike are added up.

        Includes who has their connections and who waits for one. Do not call it in an event loop.
        """
        return self._engine.reader.pools()

    def waits(self, limit: int = 10_000) -> tuple[Waiting, ...]:
        """Return who waits for locks, semaphores, conditions, events and queues, most waiting first.

        Grouped by what was called and where, with the tasks that own them where these are seen. Takes some
        30 us per live task, and looks at up to ``limit`` of each loop: do not call it in an event loop that
        has thousands. Raises ConfigurationError if ``limit`` is not a number of tasks.
        """
        return self._engine.reader.waits(_number_of_tasks("waits", limit))

    def drains(self) -> tuple[DrainReport, ...]:
        """Return the reports of the last 16 drains, oldest first."""
        return self._engine.reader.drains()

    def findings(self) -> tuple[Finding, ...]:
        """Return what is wrong now, the most severe first, each followed by its consequences.

        Applies the rules anew, as also happens every five seconds; takes one or a few milliseconds.
        """
        return self._engine.reader.glance().findings

    def under_pressure(self) -> bool:
        """Whether an event loop has more to do than it can do: for a readiness probe, or to shed load.

        True once a loop has been busy for 98 % of the last 5 seconds (uvloop: 94 %), or late by
        ``stall_threshold`` on average, until it is below 90 % and below half of that threshold; and at once
        while a loop has been blocked for a second. Cheap enough to call for each request.
        """
        return self._engine.pressure.is_high()

    @property
    def prometheus_url(self) -> str | None:
        """Where ``/metrics`` is served, maybe by another worker; None if it is not, as before a loop runs."""
        return self._engine.metrics.url

    @property
    def console_url(self) -> str | None:
        """Where this process answers by telnet; None if it does not. It starts once a loop runs."""
        return self._engine.console.url

    @property
    def console_path(self) -> str | None:
        """Path of the console's socket, for ``nc -U``; None if there is none, as before a loop runs."""
        return self._engine.console.path

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._engine.settings


def _number_of_tasks(function: str, limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ConfigurationError(f"{function}(limit={limit!r}): not a number of tasks. Give 0 or more.")
    return limit
