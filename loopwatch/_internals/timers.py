"""The timers that a loop has scheduled.

``_scheduled`` of asyncio's loops, CPython 3.11 to 3.15; for uvloop 0.23 the set that holds them, which only
the garbage collector's traversal shows.
"""

from __future__ import annotations

import asyncio
import gc
from asyncio import futures
from collections.abc import Sequence
from typing import Any

from .futures import type_name
from .links import Link, code_of, variables_of

_SLEEP = asyncio.sleep.__code__
_RESOLVE: object = getattr(futures, "_set_result_unless_cancelled", object())
"""What the timer of a sleep calls."""


def timers(loop: object) -> list[Any] | None:
    """Return the handles of timers, without those of sleeps if these are recognisable at once.

    None if the loop does not show its timers.
    """
    scheduled = getattr(loop, "_scheduled", None)
    if type(scheduled) is list:
        return [handle for handle in scheduled.copy() if getattr(handle, "_callback", None) is not _RESOLVE]
    if type_name(type(loop)) != "Loop":
        return None
    sets = [held.copy() for held in gc.get_referents(loop) if type(held) is set]
    return [handle for held in sets for handle in held if is_timer(handle)]


def is_timer(found: object) -> bool:
    """Whether ``found`` is the handle of a timer, of asyncio or uvloop."""
    return type_name(type(found)) == "TimerHandle"


def sleeps(links: Sequence[Link]) -> bool:
    """Whether a chain ends in ``asyncio.sleep``, which a timer of its loop will end."""
    return bool(links) and code_of(links[-1]) is _SLEEP


def sleeps_until(links: Sequence[Link]) -> float | None:
    """Return the loop time at which a chain that ends in ``asyncio.sleep`` continues; None for any other."""
    held = variables_of(links[-1]) if sleeps(links) else ()
    return next((handle.when() for handle in held if is_timer(handle)), None)
