"""Who creates a task: the nearest code, going outwards, that does not create it for its own caller."""

from __future__ import annotations

import asyncio
import os
from types import CodeType, FrameType
from typing import Any

from loopwatch._internals.interpreter import place_outside
from loopwatch._places import Place
from loopwatch._store.sites import Site, Sites

_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
_ON_BEHALF = (_ASYNCIO, f"{os.sep}anyio{os.sep}", os.path.join("", "loopwatch", "_jobs", ""))
"""Paths of code that creates tasks for its caller: ``gather``, task groups, ``asyncio.run``, ``spawn``."""
_LOOPS = (_ASYNCIO, os.path.join("", "loopwatch", "_probes", ""))
"""Paths of a ``run_forever`` beyond which nobody creates tasks: asyncio's, and ours around it."""

_on_behalf: dict[int, CodeType] = {}
"""Code known to act on behalf of its caller, by id. The ids stay unique, since this holds the code."""


def site_of(sites: Sites, frame: FrameType | None, coro: Any) -> Site:
    """Return the site of the code that creates a task at ``frame``; if there is none, where ``coro`` begins.

    There is none when only the loop is on the stack, or nothing at all.
    """
    while frame is not None and not _runs_a_loop(frame.f_code):
        if not _acts_on_behalf(frame.f_code):
            return sites.at(frame.f_code, frame.f_lasti, _module(frame))
        frame = frame.f_back
    begins = beginning(coro)
    return sites.further if begins is None else sites.at(*begins)


def place_of(frame: FrameType, coro: Any) -> Place:
    """Return the place that creates a task: unlike a site, it may act for others, unless it is asyncio's."""
    place = place_outside(frame, (_ASYNCIO,))
    return (beginning(coro) or place) if place[2].startswith("loopwatch.") else place


def beginning(coro: Any) -> Place | None:
    """Return where the function of ``coro`` begins; None if unknown, as for compiled ones.

    It stands for the creator of a task, or the dropper of a coroutine, if there is none or it was not seen.
    """
    code = getattr(coro, "cr_code", None)
    return None if code is None else (code, 0, _module(coro.cr_frame))


def _runs_a_loop(code: CodeType) -> bool:
    return code.co_name == "run_forever" and any(place in code.co_filename for place in _LOOPS)


def _acts_on_behalf(code: CodeType) -> bool:
    if id(code) not in _on_behalf and any(place in code.co_filename for place in _ON_BEHALF):
        _on_behalf[id(code)] = code
    return id(code) in _on_behalf


def _module(frame: FrameType | None) -> str:
    return "" if frame is None else frame.f_globals.get("__name__") or ""
