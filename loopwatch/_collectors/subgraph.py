"""What an object keeps alive, and whether anything else does: reference counting on a few hundred objects.

Starting from an object, everything it refers to is followed, nearest first, up to a limit. Each reference
found inside is subtracted from the count of its target; the remainder comes from outside. An object that no
remaining reference reaches, however indirectly, is kept alive by the objects of the subgraph alone.

If objects are left out, because of the limit or because following them leads nowhere, their references count
as coming from outside. So the answer may wrongly be that something is held, but never that nothing holds it,
provided that every reference followed is one that is counted. That is true of the garbage collector's own
traversal except for borrowed references (``_of_frame``). While other threads run, references may move as they
are counted; ``references`` says how that is dealt with. CPython 3.11 to 3.15 with a GIL.
"""

from __future__ import annotations

import gc
import sys
from asyncio import AbstractEventLoop
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from enum import Enum, auto
from itertools import islice, repeat
from logging import Logger
from operator import sub
from traceback import StackSummary
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MappingProxyType, ModuleType
from typing import Any
from weakref import ReferenceType

from loopwatch._internals.links import awaited_by

LIMIT = 100
"""Objects whose references are followed: what a task waits for is near its innermost frame."""
LARGE = 200
"""Elements from which a container is not followed: the GIL is held while they are listed."""

CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_DEAD_ENDS = (type, ModuleType, AbstractEventLoop, ContextVar, Logger, ReferenceType, StackSummary)
"""Classes whose objects lead to half the program, or to nothing that could lead back."""


class Subgraph:
    """Everything reachable from some objects. Holds all of it: to be dropped at once."""

    def __init__(self, start: list[Any], without: AbstractSet[int] = frozenset()) -> None:
        """``without``: ids of objects not to be followed."""
        self.objects: dict[int, Any] = dict(zip(map(id, start), start, strict=True))
        """By id, in the order found."""
        inside: list[int] = []
        count, level = 0, start
        while level and count < LIMIT:
            level = level[: LIMIT - count]
            count += len(level)
            asked = [one for one in level if id(one) not in without] if without else level
            found = list(filter(gc.is_tracked, referents(asked)))
            ids = list(map(id, found))
            inside += ids
            self.objects.update(zip(ids, found, strict=True))
            level = list(islice(self.objects.values(), count, None))
        self._inside = Counter(inside)
        self.followed = frozenset(islice(self.objects, count)) - without
        """Ids of the first objects, which were asked what they refer to."""

    def held_from_outside(self) -> dict[int, int] | None:
        """Return the ids of the followed objects that something else refers to, and how many references.

        None if an object's count is smaller than the number found: a reference has moved meanwhile.
        """
        keys = list(filter(self.followed.__contains__, self.objects))
        counts = map(sys.getrefcount, map(self.objects.__getitem__, keys))
        left = list(map(sub, counts, map(self._inside.get, keys, repeat(0))))
        if min(left) < _OWN_REFERENCES:
            return None
        return {
            key: count - _OWN_REFERENCES
            for key, count in zip(keys, left, strict=True)
            if count > _OWN_REFERENCES
        }

    def reached(
        self,
        start: AbstractSet[int],
        goal: int,
        closed: AbstractSet[int] = frozenset(),
        opens: Mapping[int, int] = MappingProxyType({}),
    ) -> set[int]:
        """Return the ids of ``start`` and of what its objects reach; fewer once ``goal`` is among them.

        References do not reach objects of ``closed``; only the one object that ``opens`` each does.
        """
        reached = set(start)
        level = reached
        while level and goal not in level:
            found = set(map(id, referents(map(self.objects.__getitem__, level))))
            level = (found & self.followed) - closed | {opens[key] for key in level if key in opens}
            level -= reached
            reached |= level
        return reached


def referents(objects: Iterable[Any]) -> list[Any]:
    """Return what these objects refer to, each as often as they refer to it; nothing for dead ends."""
    asked: list[Any] = []
    found: list[Any] = []
    rules, every, if_small = _RULES.copy(), _Rule.ALL, _Rule.IF_SMALL
    for one in objects:
        kind = type(one)
        rule = rules.get(id(kind))
        if rule is None:
            rule = rules[id(kind)] = _rule_for(kind)
        if rule is every or (rule is if_small and len(one) <= LARGE):
            asked.append(one)  # most objects: they are asked all at once
        elif rule is _Rule.FRAME:
            found += _of_frame(one)
        elif rule is _Rule.FUNCTION:
            found += _of_function(one)
        elif rule is _Rule.IF_SMALL_INSIDE and _length(one) <= LARGE:
            asked.append(one)
    found += gc.get_referents(*asked)
    return found


class _Rule(Enum):
    """How the references of an object are followed."""

    ALL = auto()
    IF_SMALL = auto()
    IF_SMALL_INSIDE = auto()
    """The same for a subclass of a container, which may have a ``len`` of its own."""
    FRAME = auto()
    FUNCTION = auto()
    NONE = auto()


def _rule_for(kind: type) -> _Rule:
    if issubclass(kind, _DEAD_ENDS):
        return _Rule.NONE
    return _Rule.IF_SMALL_INSIDE if issubclass(kind, CONTAINERS) else _Rule.ALL


def _length(container: Any) -> int:
    """Return the length of an instance of a container's subclass."""
    return next(base.__len__(container) for base in CONTAINERS if issubclass(type(container), base))


def _of_function(function: Any) -> list[Any]:
    """Leave out the globals, and whatever our own callbacks hold."""
    module = function.__module__
    if type(module) is str and module.startswith("loopwatch."):
        return []
    held = (function.__closure__, function.__defaults__, function.__kwdefaults__)
    return [one for one in held if one is not None]


def _of_frame(generator: Any) -> list[Any]:
    """Count only once what is referred to by a frame that runs, or stands at a ``yield`` of its own.

    From 3.14 on its stack may borrow from its variables. At an ``await`` it never does.
    """
    held = gc.get_referents(generator)
    return held if awaited_by(generator) is not None else list({id(one): one for one in held}.values())


_RULES: dict[int, _Rule] = {
    id(FunctionType): _Rule.FUNCTION,
    **{id(kind): _Rule.FRAME for kind in (CoroutineType, GeneratorType, AsyncGeneratorType)},
    **{id(kind): _Rule.IF_SMALL for kind in CONTAINERS},
    **{id(kind): _Rule.NONE for kind in _DEAD_ENDS},
}
"""By the id of exact types, since looking up the type itself would ask its metaclass for a hash."""
_OWN_REFERENCES = next(iter(map(sys.getrefcount, {0: object()}.values())))
"""What ``held_from_outside`` counts for an object that only the subgraph refers to."""
