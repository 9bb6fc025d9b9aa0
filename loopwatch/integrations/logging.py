"""Puts on every log record whose work it tells of.

::

    handler.addFilter(loopwatch.integrations.logging.ContextFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(request_id)s %(trace_id)s %(message)s"))

On a handler, not on a logger: a logger's filters do not see the records of the loggers below it. And on the
handler that gets the record in the thread that logs: with a ``QueueHandler`` on that, not on its listener's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import loopwatch

__all__ = ["ContextFilter"]


class ContextFilter(logging.Filter):
    """Sets ``trace_id``, ``span_id``, ``task_name`` and each watched variable, under its name.

    All are text. What is not known is ``absent``, also for variables watched but not set, so that a format
    may name them. An attribute the record has already, built in or from ``extra=``, is left as it is. Every
    record passes; none fails of it.

    ``names``, and ``variables`` for ``logging.config``, which gives keywords alone, are variables to set as
    ``absent`` even before they are watched, for formats that name them.
    """

    def __init__(self, *names: str, absent: str = "-", variables: Sequence[str] = ()) -> None:
        super().__init__()
        self._absent = absent
        named = (*names, *((variables,) if isinstance(variables, str) else variables))
        self._defaults = dict.fromkeys(("trace_id", "span_id", "task_name", *named), absent)

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; let the record pass."""
        work = loopwatch.current_work()
        found = {"trace_id": work.trace_id, "span_id": work.span_id, "task_name": work.task_name}
        attributes = vars(record)
        for name, text in (self._defaults | found | dict(work.values)).items():
            attributes.setdefault(name, self._absent if text is None else text)
        return True
