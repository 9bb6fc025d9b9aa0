"""How records are worded for people: durations and quantities, places in code, names made harmless."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import dropwhile

from ._records import Frame

STACK_SHOWN = 10
"""Frames of a stack that are worth showing, around the one that matters."""


def clean(text: str) -> str:
    """Escape what is not printable. Names come from the program and its input: they may contain anything."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def of_whom(context: Mapping[str, str], trace_id: str | None) -> str:
    """Write whose work something is, for the end of a line: ``; request_id=r-1; trace 4bf92f``."""
    trace = f"; trace {trace_id}" if trace_id else ""
    return "".join(f"; {name}={value}" for name, value in context.items()) + trace


def span(seconds: float | None) -> str:
    """Write a span of time with its unit, in at most 8 characters; a dash if it is not known."""
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms" if seconds else "0"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}h" if days < 1000 else f"{days}d"


def number(value: float | None) -> str:
    """Write a quantity in at most 6 characters; a dash if it is not known."""
    if value is None:
        return "-"
    if value < 10_000:
        return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    for unit in ("k", "M", "G", "T"):
        value /= 1000
        if value < 999.5:
            return f"{value:.0f}{unit}" if value >= 99.5 else f"{value:.1f}{unit}"
    return f"{value:.2g}"


def percent(share: float | None) -> str:
    """Write a share of one as a percentage; a dash if not known."""
    return "-" if share is None else f"{share:.0%}"


def ago(moment: float, now: float) -> str:
    """Write how long ago a moment was; one in the future, by a clock that differs, counts as now."""
    return f"{span(now - moment)} ago" if now - moment >= 0.001 else "now"


def place(frame: Frame) -> str:
    """Write where ``frame`` is: directory, file and line, enough to find it."""
    directory, file = os.path.split(os.path.normpath(frame.file))
    return f"{'/'.join(filter(None, (os.path.basename(directory), file)))}:{frame.line}"


def own_frame(stack: Sequence[Frame], site: Frame) -> Frame | None:
    """Return the innermost frame in the same package as the task's creator."""
    package = site.module.partition(".")[0]
    return next((frame for frame in reversed(stack) if frame.module.partition(".")[0] == package), None)


def frames_shown(stack: Sequence[Frame], marked: Frame | None) -> Sequence[Frame]:
    """Cut a stack down to the frames around the marked one, or to its end if that is not in it."""
    frames = list(dropwhile(lambda frame: frame.module.startswith("asyncio"), stack))
    if marked not in frames:
        return frames[-STACK_SHOWN:]
    place_of_mark = len(frames) - 1 - frames[::-1].index(marked)
    first = max(0, place_of_mark - STACK_SHOWN // 2)
    return frames[first : first + STACK_SHOWN]
