"""What loopwatch raises on purpose."""

from __future__ import annotations


class LoopwatchError(Exception):
    """Base of every exception loopwatch raises on purpose."""


class ConfigurationError(LoopwatchError, ValueError):
    """A setting has a value that cannot work. Raised by ``install()``, never later."""


class Draining(LoopwatchError):  # noqa: N818 - a state of the loop, not a mistake of the caller's
    """``spawn()`` was asked for a job while its loop is being drained. The job was not started."""
