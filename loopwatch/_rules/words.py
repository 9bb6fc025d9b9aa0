"""How rules write numbers and places, so that all findings read alike."""

from __future__ import annotations

from pathlib import PurePath

from loopwatch._records import Frame


def span(seconds: float) -> str:
    """Write a span of time with its unit: ``612 ms``, ``4.2 s``, ``2.5 min``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    count, unit = (seconds / 60, "min") if seconds < 7200 else (seconds / 3600, "h")
    return f"{count:.0f} {unit}" if count >= 9.95 else f"{count:.1f} {unit}".replace(".0 ", " ")


def times(count: float) -> str:
    """Write how often: ``once``, ``twice``, ``14 times``."""
    return {1: "once", 2: "twice"}.get(round(count), f"{count:.0f} times")


def period(seconds: float) -> str:
    """Write over which time something was counted: ``in the last minute``, ``in the last 20 s``."""
    return "in the last minute" if 55 <= seconds <= 75 else f"in the last {span(max(seconds, 1.0))}"


def place(frame: Frame) -> str:
    """Write a function and where it is: ```handle_response` (app.py:42)``."""
    path = PurePath(frame.file)
    file = "/".join(path.parts[-2:]) if path.name in ("__init__.py", "__main__.py") else path.name
    return f"`{frame.function}` ({file}:{frame.line})"
