"""Collections that keep tasks alive: sets, lists and deques.

The owner of such a collection can only iterate over it to reach a task. In a dict a task has a key, by which
it can be looked up; so a dict counts like any other holder.
"""

from __future__ import annotations

from collections import deque
from types import BuiltinMethodType
from typing import Any

from loopwatch._internals.futures import TASKS, callbacks
from loopwatch._internals.links import globals_of, links

CROWD = 10
"""Elements of a collection beyond which they are not examined for references to each other: following them
all costs ten times as much as everything else that a task leads to."""
LONG = 5_000
"""Elements up to which a list is searched, since the GIL is held meanwhile. A set needs no search."""


def is_collection(found: object) -> bool:
    """Whether ``found`` is one, of exactly these classes."""
    kind = type(found)
    return kind is set or kind is list or kind is deque


def known_collections(task: Any) -> list[Any]:
    """Return the collections that may be expected to contain a task, whatever their size.

    These are the ones that its done callbacks remove it from, and the globals of the code that it executes.
    """
    found = _left_when_done(task)
    for link in links(task)[0][:1]:
        found += globals_of(link)
    return list({id(one): one for one in found if is_collection(one)}.values())


def crowds(task: Any) -> set[int]:
    """Return the ids of large collections that a task is removed from when it is done."""
    return {id(one) for one in _left_when_done(task) if is_collection(one) and len(one) > CROWD}


def _left_when_done(task: Any) -> list[Any]:
    return [callback.__self__ for callback in callbacks(task) if type(callback) is BuiltinMethodType]


def contains(collection: Any, task: Any) -> bool:
    """Whether a task is in a collection; False if that is not known."""
    if type(collection) is set and any(type(task) is kind for kind in TASKS):
        return task in collection  # hashed by its id: no code of the program runs
    return len(collection) <= LONG and id(task) in map(id, collection.copy())
