"""Things given out by a library that does not track what is in use.

Each thing is recorded when it is first given out, for as long as it lives. The reader has to tell which of
them are out now.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

Given = WeakValueDictionary[int, Any]
"""By id: things may define their own equality."""


def note_given(pool: Any, thing: Any) -> None:
    """Remember that ``pool`` gives out ``thing``. At each acquire, in the thread that acquires. May raise."""
    if getattr(thing, "_loopwatch_noted", False):
        return
    given: Given | None = getattr(pool, "_loopwatch_given", None)
    if given is None:
        given = vars(pool).setdefault("_loopwatch_given", WeakValueDictionary())
    given[id(thing)] = thing
    thing._loopwatch_noted = True


def given_out(pool: Any) -> list[Any]:
    """Return all things that ``pool`` has given out and that are still alive. Any thread."""
    given: Given | None = getattr(pool, "_loopwatch_given", None)
    references = [] if given is None else given.valuerefs()  # one call in C, which copies a dict
    return [thing for reference in references if (thing := reference()) is not None]
