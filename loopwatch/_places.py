"""A place in running code, noted in passing: what a frame tells, without the frame.

Frames are not kept: they would keep the locals of user code alive, and read later would show later lines.
"""

from __future__ import annotations

from types import CodeType
from typing import NamedTuple

from ._records import Frame

Place = tuple[CodeType, int, str]
"""Code object, offset of the running instruction, name of the module."""


class Stand(NamedTuple):
    """Where a task stood when it was looked at, and what it waited for."""

    places: tuple[Place, ...]
    """Outermost first."""
    waiting_on: str | None


KEPT = 4096
"""Places whose records are kept: a program is at the same places again and again."""

_shaped: dict[tuple[int, int, str], tuple[CodeType, Frame]] = {}
"""By the id of the code object, which is kept alive so that no other gets that id. Hashing it would take as
long as looking up the line."""


def shape(place: Place) -> Frame:
    """Turn a place into a record. Looks up the line, reads no source."""
    code, offset, module = place
    known = _shaped.get((id(code), offset, module))
    if known is not None:
        return known[1]
    lines = (line for start, end, line in code.co_lines() if start <= offset < end)
    frame = Frame(code.co_qualname, module, code.co_filename, next(lines, None) or code.co_firstlineno)
    if len(_shaped) >= KEPT:
        _shaped.clear()
    _shaped[id(code), offset, module] = code, frame
    return frame
