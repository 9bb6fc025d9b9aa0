"""Adds to every log record whose work it is about: request, trace, task.

::

    handler.addFilter(loopwatch.integrations.logging.ContextFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(request_id)s %(trace_id)s %(message)s"))

Add it to a handler, not a logger: a logger's filters do not see the records of its child loggers. And add it
to the handler called in the thread that logs: to a ``QueueHandler``, not to the handlers of its listener.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import loopwatch

__all__ = ["ContextFilter"]


class ContextFilter(logging.Filter):
    """Sets ``trace_id``, ``span_id``, ``task_name`` and each watched variable, under its name.

    All are text. Unknown values are ``absent``, including variables that are watched but not set, so that a
    format may always name them. Attributes that the record already has, built in or from ``extra=``, are left
    as they are. Every record passes, and none fails because of the filter.

    ``names``, and ``variables`` for ``logging.config``, which passes only keywords, are variables to set to
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
