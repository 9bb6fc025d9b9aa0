"""``warnings.filters``: an entry at its front, for the one warning that CPython 3.13 gives wrongly.

CPython warns of a fork beside other threads. 3.13 counts them after the hooks have run, so it includes those
that the hooks started again; 3.12 and 3.14 count those that existed before. The filter is inserted within the
hooks, and removes itself when the warning consults it, before ``os.fork()`` returns. Starting the threads
later instead, with the next loop, would leave a program whose loops are over without its endpoint.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, cast

COUNTS_LATE = sys.version_info[:2] == (3, 13)
"""Whether this interpreter counts late."""
_TEXT = "is multi-threaded, use of fork"
"""Common to the warnings of ``fork()`` and ``forkpty()``."""


class _Once:
    """Stands in a filter for its pattern, and matches that one text, once."""

    due = False

    def match(self, text: str) -> bool:
        """Return whether ``text`` is that warning; if so, the filter has done its work and goes."""
        if not self.due or _TEXT not in text:
            return False
        withdraw()
        return True


_once = _Once()
_filter = ("ignore", _once, DeprecationWarning, None, 0)


def pardon() -> None:
    """Suppress the next warning of a fork beside threads."""
    _once.due = True
    # Not by warnings.filterwarnings(): that makes all warnings appear again that were already given once.
    _filters().insert(0, _filter)


def withdraw() -> None:
    """Remove the filter, if it is there: a ``preexec_fn`` of subprocess causes no warning."""
    _once.due = False
    filters = _filters()
    while _filter in filters:
        filters.remove(_filter)


def _filters() -> list[Any]:
    return cast("list[Any]", warnings.filters)
