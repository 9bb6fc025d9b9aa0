"""``warnings.filters``: one at their front, for the one warning that CPython 3.13 gives wrongly.

It warns of a fork beside other threads, and counts them when the hooks have run, so that those which the
hooks started again are among them. 3.12 and 3.14 count those that there were. The filter is put there within
the hooks, and goes as the warning asks it, before ``os.fork()`` returns. To start the threads later instead,
with the next loop, would leave a program whose loops are over without its endpoint.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, cast

COUNTS_LATE = sys.version_info[:2] == (3, 13)
"""Whether this interpreter does."""
_TEXT = "is multi-threaded, use of fork"
"""Of ``fork()`` and of ``forkpty()``."""


class _Once:
    """Stands where a filter has its pattern, and matches the one text, once."""

    due = False

    def match(self, text: str) -> bool:
        """See whether it is that warning; then the filter has done its work."""
        if not self.due or _TEXT not in text:
            return False
        withdraw()
        return True


_once = _Once()
_filter = ("ignore", _once, DeprecationWarning, None, 0)


def pardon() -> None:
    """Have the next warning of a fork beside threads not given."""
    _once.due = True
    # As it is, without warnings.filterwarnings(): that has all warnings given again that were given once.
    _filters().insert(0, _filter)


def withdraw() -> None:
    """Take the filter away, if it is there: of a ``preexec_fn`` of subprocess there is no warning."""
    _once.due = False
    filters = _filters()
    while _filter in filters:
        filters.remove(_filter)


def _filters() -> list[Any]:
    return cast("list[Any]", warnings.filters)
