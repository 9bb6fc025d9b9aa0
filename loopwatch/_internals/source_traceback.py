"""``_source_traceback``: in asyncio's debug mode, the stack that created a task or a handle.

It is shown to the program's users, who should find their own call there and not a wrapper around it. Of
asyncio on CPython 3.11 to 3.15 and of uvloop 0.23; None on what was created outside of debug mode.
"""

from __future__ import annotations

from typing import Any


def hide(wrapper_file: str, made: Any) -> None:
    """Remove the frames of a wrapper, which lies in the given file, from the stack that created ``made``."""
    stack = getattr(made, "_source_traceback", None)
    if stack:
        stack[:] = [frame for frame in stack if frame.filename != wrapper_file]
