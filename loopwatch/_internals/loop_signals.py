"""Where a loop keeps what ``add_signal_handler`` was given: ``_signal_handlers``, in asyncio and in uvloop.

A loop learns of signals through a pipe, whatever ``signal.signal`` has set since; so for another handler to
come first, the loop's has to be taken out of the loop. uvloop 0.23 hides its table, but the garbage
collector's traversal shows it. CPython 3.11 to 3.15. If there is none, the loop's handlers stay in charge.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

Handle = Any

_FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType)


def handlers(loop: asyncio.AbstractEventLoop) -> dict[int, Handle]:
    """Return the table of ``loop`` itself: an entry taken out is not called. Empty if there is none."""
    table = getattr(loop, "_signal_handlers", None)
    if table is None:
        table = next((held for held in gc.get_referents(loop) if _is_table(held)), None)
    return {} if table is None else table


def callback_of(handle: Handle) -> Callable[..., object] | None:
    """Return the function that a handler calls; None if it cannot be seen."""
    found = getattr(handle, "_callback", None)
    if found is None:
        found = next((held for held in gc.get_referents(handle) if isinstance(held, _FUNCTIONS)), None)
    return found


def _is_table(held: object) -> bool:
    return (
        type(held) is dict
        and bool(held)
        and all(isinstance(key, int) and type(value).__name__ == "Handle" for key, value in held.items())
    )
