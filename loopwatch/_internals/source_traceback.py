"""``_source_traceback``: in asyncio's debug mode, the stack by which a task or a handle was made.

It is shown to the program's users, who are to find their own call there and not a wrapper around it. Of
asyncio on CPython 3.11 to 3.15 and of uvloop 0.23; None on what was made outside of debug mode.
"""

from __future__ import annotations

from typing import Any


def hide(wrapper_file: str, made: Any) -> None:
    """Take the frames of a wrapper, which lies in the given file, out of the stack that made something."""
    stack = getattr(made, "_source_traceback", None)
    if stack:
        stack[:] = [frame for frame in stack if frame.filename != wrapper_file]
