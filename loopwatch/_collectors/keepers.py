"""Collections that keep tasks alive: sets, lists and deques.

Who has a task in one of them can do no more with it than go through all. In a dict it has a key, by which it
can be looked up; so a dict is as any other holder.
"""

from __future__ import annotations

from collections import deque
from types import BuiltinMethodType
from typing import Any

from loopwatch._internals.futures import TASKS, callbacks
from loopwatch._internals.links import globals_of, links

CROWD = 10
"""Elements of a collection beyond which these are not looked at for what they know of each other: to follow
them all costs ten times as much as all else that a task leads to."""
LONG = 5_000
"""Elements of a list up to which it is gone through: the GIL is held meanwhile. A set is asked."""


def is_collection(found: object) -> bool:
    """Whether this is one, of exactly these classes."""
    kind = type(found)
    return kind is set or kind is list or kind is deque


def known_collections(task: Any) -> list[Any]:
    """Return those that may be expected to have a task in them, whatever their size.

    That is those of which it is taken out when it is done, and the globals of the code that it executes.
    """
    found = _left_when_done(task)
    for link in links(task)[0][:1]:
        found += globals_of(link)
    return list({id(one): one for one in found if is_collection(one)}.values())


def crowds(task: Any) -> set[int]:
    """Return the ids of those with many elements that a task is taken out of when it is done."""
    return {id(one) for one in _left_when_done(task) if is_collection(one) and len(one) > CROWD}


def _left_when_done(task: Any) -> list[Any]:
    return [callback.__self__ for callback in callbacks(task) if type(callback) is BuiltinMethodType]


def contains(collection: Any, task: Any) -> bool:
    """Whether a task is in a collection; False where that is not known."""
    if type(collection) is set and any(type(task) is kind for kind in TASKS):
        return task in collection  # it is found by its id: no code of the program runs
    return len(collection) <= LONG and id(task) in map(id, collection.copy())
