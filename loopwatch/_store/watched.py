"""The context variables to report with every task, stall, finding and log line, and the values read of them.

Kept even if no agent is installed: the program decides which variables matter, once and for all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from loopwatch._errors import ConfigurationError

LIMIT = 16
"""Variables watched: each is read for each task."""
LENGTH = 128
"""Characters kept of a value."""
PLAIN = frozenset({str, int, bool, float})
"""Types whose values are kept, as text, besides UUIDs. Exactly these: the ``str()`` of a subclass is the
program's code."""


class Watch(NamedTuple):
    """One watched variable."""

    var: ContextVar[Any]
    name: str
    show: Callable[[Any], object] | None

    def text(self, value: object) -> str:
        """Return what to keep of ``value``. Runs ``show``, so off the loop; raises what that raises."""
        shown = self.show(value) if self.show is not None else value
        return str(shown)[:LENGTH] if is_plain(type(shown)) else type(shown).__qualname__[:LENGTH]


def is_plain(kind: type) -> bool:
    """Whether values of that type are kept. For most, checking ``PLAIN`` alone is faster."""
    # Not imported by us, which costs 3 ms. The program may be importing it, or have its own of that name.
    return kind in PLAIN or kind is getattr(sys.modules.get("uuid"), "UUID", None)


ABSENT = object()
"""Stands for the value of a variable that is not set."""

TraceIds = tuple[int, int, int]
"""Trace id, span id and trace flags of OpenTelemetry."""


@dataclass(slots=True)
class Values:
    """What was read of one context, unconverted; it is turned into texts when somebody asks."""

    watches: tuple[Watch, ...]
    raw: list[object] | tuple[object, ...]
    """A tuple once converted to texts, by one assignment, since two threads may convert at once."""
    trace: TraceIds | None

    @property
    def shown(self) -> bool:
        """Whether ``raw`` already holds texts."""
        return type(self.raw) is tuple


_watches: tuple[Watch, ...] = ()
_listeners: list[Callable[[], None]] = []


def watches() -> tuple[Watch, ...]:
    """Return the variables watched now, in the order they were registered."""
    return _watches


def watch_var(
    var: ContextVar[Any], name: str | None = None, show: Callable[[Any], object] | None = None
) -> None:
    """Report ``var`` with every task, stall, finding and log line, under ``name`` (else its own).

    Texts, numbers and UUIDs are shown as they are, cut at 128 characters; for other values the type's name is
    shown, unless ``show`` turns them into a plain value. ``show`` runs on a thread of loopwatch's; if it
    raises, the failure is counted and the type's name is shown. A variable that holds None counts as not set.

    Meant to be called as the program starts, before or after ``install()``, for up to 16 variables; the same
    call again does nothing. Holds until the process ends: ``uninstall()`` forgets none, since log lines and
    jobs name them without an agent, too.

    Raises ConfigurationError if ``var`` is not a ContextVar, the name is empty or taken, ``show`` is not a
    function or not the one given before, or this is the 17th variable.
    """
    global _watches
    if not isinstance(var, ContextVar):
        raise ConfigurationError(
            f"watch_var(var={var!r}): got {type(var).__name__}, not a contextvars.ContextVar. "
            "Give the variable itself, not its value."
        )
    watch = Watch(var, var.name if name is None else name, show)
    if not isinstance(watch.name, str):
        raise ConfigurationError(
            f"watch_var(name={watch.name!r}): got {type(watch.name).__name__}, not a text. "
            "Give the name to show the variable under."
        )
    if not watch.name.strip():
        raise ConfigurationError(
            f"watch_var(name={watch.name!r}): an empty name. Give it one to be shown under."
        )
    if show is not None and not callable(show):
        raise ConfigurationError(
            f"watch_var(show={show!r}): got {type(show).__name__}, not a function. "
            "Give one that makes a text of the variable's value, or leave it out."
        )
    if watch in _watches:
        return
    if any(watch.name == other.name and watch.var is other.var for other in _watches):
        raise ConfigurationError(
            f"watch_var(name={watch.name!r}): this variable is watched already, with another show=. "
            "Call it once, or pass the same function: each lambda is one of its own."
        )
    if any(watch.name == other.name for other in _watches):
        raise ConfigurationError(
            f"watch_var(name={watch.name!r}): another variable is shown under this name. Give name=."
        )
    if len(_watches) >= LIMIT:
        raise ConfigurationError(
            f"watch_var(): {LIMIT} variables are watched already. Watch the ones you search by."
        )
    _watches = (*_watches, watch)
    for listener in _listeners:
        listener()


def listen(listener: Callable[[], None]) -> Callable[[], None]:
    """Have ``listener`` called after each new variable, until the returned function is called."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)
