"""``sys._current_frames``, ``sys._getframe`` and their like: the stacks of threads. CPython 3.11 to 3.15.

``occupy`` relies on CPython's allocator, too, which hands out the block that was freed last.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from inspect import CO_COROUTINE
from types import CodeType, FrameType
from typing import Any

from loopwatch._places import Place

DEPTH = 150
"""Frames kept of a deeper stack, the innermost: walking 1,000 frames of a recursion takes 0.2 ms of GIL."""


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread by thread id.

    The result holds the caller's own frame: clear it, or it keeps itself alive as a cycle.
    """
    return sys._current_frames()


def places(frame: FrameType | None, outermost: CodeType | None = None) -> tuple[Place, ...]:
    """Copy a stack out of its frames, innermost first, up to and without the frame of ``outermost``.

    Nothing in here releases the GIL, so the offsets belong together.
    """
    found: list[Place] = []
    while frame is not None and frame.f_code is not outermost and len(found) < DEPTH:
        found.append((frame.f_code, frame.f_lasti, frame.f_globals.get("__name__") or ""))
        frame = frame.f_back
    return tuple(found)


def others(outermost: CodeType | None, most: int) -> dict[int, tuple[Place, ...]]:
    """Copy the stacks of up to ``most`` threads other than the calling one, by thread id."""
    own, frames = threading.get_ident(), current_frames()
    try:
        return {
            ident: places(frame, outermost) for ident, frame in list(frames.items())[:most] if ident != own
        }
    finally:
        frames.clear()


def raised_in(error: BaseException) -> tuple[Place, ...]:
    """Return where an exception passed through, outermost first: where it was raised comes last."""
    found: deque[Place] = deque(maxlen=DEPTH)
    step = error.__traceback__
    while step is not None:
        frame = step.tb_frame
        found.append((frame.f_code, step.tb_lasti, frame.f_globals.get("__name__") or ""))
        step = step.tb_next
    return tuple(found)


def place_outside(frame: FrameType, on_behalf: tuple[str, ...]) -> Place:
    """Return the innermost place, from ``frame`` outwards, whose file does not begin like one of these."""
    while frame.f_code.co_filename.startswith(on_behalf) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti, frame.f_globals.get("__name__") or ""


def occupy(size: int) -> list[bytes]:
    """Return objects in those blocks of memory that a frame of ``size`` bytes may just have left.

    While they live, no new frame gets the address, and so the ``id()``, of the old one; without them nearly
    every one does. To keep the old frame itself would keep the locals of user code alive.
    """
    return [bytes(size - sys.getsizeof(b"")) for _ in range(8)] if size else []


getframe: Callable[[int], FrameType] = sys._getframe
"""Returns the frame so many calls above the function that asks."""


def _module_at(depth: int) -> Any:
    return getframe(depth + 1).f_globals.get("__name__")


module_at: Callable[[int], Any] = getattr(sys, "_getframemodulename", _module_at)
"""Returns the name of the module of the function so many calls above the one that asks.

From Python 3.12 on no object is made of its frame, which would cost as much as to ask three questions of it.
"""


def runner(run_forever: CodeType, by_loop: bool) -> CodeType | None:
    """Return the code of the function that runs the loop in which we are called; None if that is not seen.

    It is asyncio's ``run_forever``. uvloop's has no frame: there it is what called into uvloop, the first
    function outside of all coroutines, or whatever called our caller if that was done ``by_loop`` itself.
    """
    frame: FrameType | None = sys._getframe(1)
    outside = frame.f_back if by_loop and frame is not None else None
    while frame is not None:
        if frame.f_code is run_forever:
            return frame.f_code
        if frame.f_code.co_flags & CO_COROUTINE:
            outside = frame.f_back
        frame = frame.f_back
    return None if outside is None else outside.f_code
