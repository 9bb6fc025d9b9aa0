"""Where a task stands in its owner's own code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from loopwatch._records import Frame
from loopwatch._watchdog.code_owner import CodeOwner

from .words import place


def own_frame(stack: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame of application code, failing that of a library; None if there is neither."""
    library = None
    for frame in reversed(stack):
        owner = _owner().of(frame.file, frame.module)
        if owner == "app":
            return frame
        if owner == "library" and library is None:
            library = frame
    return library


def stands(stack: Sequence[Frame], waiting_on: str | None) -> str:
    """Write where a task stands and what it waits for, as ``at `f` (app.py:42), waiting for Event.wait``."""
    frame = own_frame(stack)
    where = "at a place that was not seen" if frame is None else f"at {place(frame)}"
    return f"{where}, waiting for {waiting_on}" if waiting_on else where


@cache
def _owner() -> CodeOwner:
    return CodeOwner()  # code named by `app_packages` counts as a library's here, and is found all the same
