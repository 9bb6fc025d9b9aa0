"""``sys._current_frames``, ``sys._getframe`` and the like: the stacks of threads. CPython 3.11 to 3.15.

``occupy`` also relies on CPython's allocator, which hands out the block that was freed last.

A frame of another thread becomes an object when it is first asked for. On Python 3.11 that may start a
collection before the object is complete, and its callbacks may let the other thread run: a frame that this
thread leaves meanwhile is gone from memory, and the new object still points there. Its ``f_back`` was then an
``int``, or the process crashed (seen on 3.11.7). So on 3.11 no collection starts while we ask for frames.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from inspect import CO_COROUTINE
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeVar

from loopwatch._places import Place

DEPTH = 150
"""Innermost frames kept of a deeper stack: walking 1,000 frames of a recursion takes 0.2 ms of GIL."""


P = ParamSpec("P")
T = TypeVar("T")

_uncollected = threading.Lock()
"""Held by the thread that has set the collector's threshold to zero: two would restore each other's zero."""
_usual = 0
"""The threshold to restore while that is held."""


def uncollected(function: Callable[P, T]) -> Callable[P, T]:
    """Let no collection start in a function that asks for frames of other threads, on Python 3.11.

    By the threshold, since programs save and restore ``gc.isenabled()`` far more often than that. Delete this
    with Python 3.11: later ones start collections only between two instructions.
    """
    if sys.version_info >= (3, 12):
        return function

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        global _usual
        held = _uncollected
        if not held.acquire(blocking=False):  # it is zero already
            return function(*args, **kwargs)
        _usual, *_ = gc.get_threshold()
        try:
            gc.set_threshold(0)
            return function(*args, **kwargs)
        finally:
            _restore_threshold()
            held.release()

    return call


def _restore_threshold() -> None:
    if gc.get_threshold()[0] == 0:  # else the program has set its own meanwhile
        gc.set_threshold(_usual)


def _after_fork_in_child() -> None:
    """Collect again if another thread had the threshold at zero: it does not exist here."""
    global _uncollected
    if _uncollected.locked():
        _uncollected = threading.Lock()
        _restore_threshold()


if sys.version_info < (3, 12) and hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@uncollected
def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread by thread id.

    The result holds the caller's own frame: clear it, or it keeps itself alive as a cycle.
    """
    return sys._current_frames()


@uncollected
def places(frame: FrameType | None, outermost: CodeType | None = None) -> tuple[Place, ...]:
    """Copy a stack out of its frames, innermost first, up to but not including the frame of ``outermost``.

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
    """Return where an exception passed through, outermost first: the place that raised it comes last."""
    found: deque[Place] = deque(maxlen=DEPTH)
    step = error.__traceback__
    while step is not None:
        frame = step.tb_frame
        found.append((frame.f_code, step.tb_lasti, frame.f_globals.get("__name__") or ""))
        step = step.tb_next
    return tuple(found)


def place_outside(frame: FrameType, on_behalf: tuple[str, ...]) -> Place:
    """Return the innermost place, going outwards from ``frame``, whose file starts with none of these."""
    while frame.f_code.co_filename.startswith(on_behalf) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti, frame.f_globals.get("__name__") or ""


def occupy(size: int) -> list[bytes]:
    """Return objects that occupy the memory blocks that a frame of ``size`` bytes may just have left.

    While they live, no new frame gets the address, and so the ``id()``, of the old one; without them nearly
    every one does. Keeping the old frame itself would keep the locals of user code alive.
    """
    return [bytes(size - sys.getsizeof(b"")) for _ in range(8)] if size else []


getframe: Callable[[int], FrameType] = sys._getframe
"""Returns the frame that many calls above its caller."""


def _module_at(depth: int) -> Any:
    return getframe(depth + 1).f_globals.get("__name__")


module_at: Callable[[int], Any] = getattr(sys, "_getframemodulename", _module_at)
"""Returns the module name of the function that many calls above its caller.

From Python 3.12 on no frame object is created, which would cost as much as three such questions.
"""


def runner(run_forever: CodeType, by_loop: bool) -> CodeType | None:
    """Return the code of the function that runs the loop in which we are called; None if it cannot be seen.

    This is asyncio's ``run_forever``. uvloop's has no frame: there it is whatever called into uvloop, the
    first function outside all coroutines, or our caller's caller if the loop itself called (``by_loop``).
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
