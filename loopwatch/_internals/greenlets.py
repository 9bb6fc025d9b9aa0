"""Who called the running greenlet: its own stack ends where it was switched to. greenlet 1.1 to 3.x.

The trespass: ``gr_frame``, where a suspended greenlet stands. SQLAlchemy runs everything asynchronous in
greenlets, whose parent is the one of the task that waits for it.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any


def frames_of_parents() -> list[FrameType]:
    """Return where the greenlets stand that wait for the calling one, innermost first. Not to be kept."""
    greenlet: Any = sys.modules.get("greenlet")
    found: list[FrameType] = []
    parent = None if greenlet is None else greenlet.getcurrent().parent
    while parent is not None:
        if parent.gr_frame is not None:
            found.append(parent.gr_frame)
        parent = parent.parent
    return found
