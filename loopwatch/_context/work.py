"""Tells whose work the calling code does, for log lines and error reports."""

from __future__ import annotations

import asyncio
import logging
import os

from loopwatch._internals.interpreter import getframe, place_outside
from loopwatch._records import Work

from .backing import backing
from .reader import hexadecimal

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_ON_BEHALF = (os.path.dirname(logging.__file__) + os.sep, os.path.join(_PACKAGE, "integrations") + os.sep)
"""Directories of code that asks on behalf of the code that logs."""


def current_work() -> Work:
    """Return whose work the calling code does: its watched variables, its trace, its task. Never raises.

    Meant for log lines and error reports. If the work was handed over by code that had a watched variable,
    but runs without it, the loss is noticed here. In a loop's thread ``show`` functions do not run: the name
    of the value's type is used instead. Works without ``install()``.
    """
    reader = backing().contexts
    try:
        values, trace = reader.current_texts()
        if reader.notice is not None:
            frame = getframe(1)
            reader.notice(lambda: place_outside(frame, _ON_BEHALF))
        return Work(values, *hexadecimal(trace), _task_name())
    except Exception as error:  # noqa: BLE001 - the code that logs must not fail
        reader.failed(error)
        return Work({}, None, None, None)


def _task_name() -> str | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return None
    return None if task is None else task.get_name()
