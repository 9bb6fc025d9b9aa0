"""Waits at the end of a program for the work in progress."""

from __future__ import annotations

from typing import Literal

from loopwatch._arguments import LONGEST_DRAIN, seconds
from loopwatch._errors import ConfigurationError
from loopwatch._records import DrainReport

Cancel = Literal["jobs", "all"]


async def drain(timeout: float = 8.0, cancel: Cancel = "jobs") -> DrainReport:
    """Wait for the tasks of the running loop to end, and report what became of each.

    Waits for all tasks except the caller, daemons, the task whose end stops the loop, and tasks that wait for
    one of these. After ``timeout`` seconds the jobs of ``spawn()`` are cancelled (``cancel="all"``: all tasks
    that are left) and have a moment to end. Others are left alone and reported as abandoned. Returns within
    one second of the timeout, whatever the tasks do; a signal ends it at once. Meanwhile ``spawn()`` raises
    Draining.

    Raises ConfigurationError for arguments that cannot work, and nothing for a task that fails.
    """
    from .draining import Drain  # not loaded before it is needed, or an agent is there

    limit = seconds("timeout", timeout, 0.0, LONGEST_DRAIN)
    check_cancel(cancel)
    return await Drain(limit, cancel).run()


def check_cancel(cancel: str) -> None:
    """Raise ConfigurationError if ``cancel`` is neither ``"jobs"`` nor ``"all"``."""
    if cancel not in ("jobs", "all"):
        raise ConfigurationError(
            f"cancel={cancel!r}: neither 'jobs' nor 'all'. Say whom to cancel at the timeout."
        )
