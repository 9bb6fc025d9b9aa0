"""What loopwatch raises on purpose."""

from __future__ import annotations


class LoopwatchError(Exception):
    """Base of every exception loopwatch raises on purpose."""


class ConfigurationError(LoopwatchError, ValueError):
    """A setting has a value that cannot work. Raised by ``install()``, never later."""
