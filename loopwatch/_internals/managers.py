"""Context managers whose blocks a suspended frame is inside of: who owns a lock, and which timeout runs.

On entering a ``with`` block the interpreter puts the manager's exit on the frame's value stack, where it
stays until the block is left: up to CPython 3.13 as a bound method, from 3.14 on as a function followed by
the manager. The garbage collector's traversal shows the stack in order. A manager is there already while it
is being entered. CPython 3.11 to 3.15; anyio 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import AsyncGeneratorType, FunctionType, MethodType
from typing import Any

from .futures import is_of
from .links import Link, code_of, variables_of

_EXITS = ("__aexit__", "__exit__")
_NESTED = 20
"""Generators examined per chain that are not links of it: managers and iterators of its frames."""
_ENTERING = frozenset(("_ContextManagerMixin.__aenter__", "Condition.wait"))
"""Coroutines during which their manager's lock is not held: ``Condition.wait`` has released it."""
_OF_GENERATORS = tuple(
    kind
    for name in ("_AsyncGeneratorContextManager", "_GeneratorContextManager")
    if (kind := getattr(contextlib, name, None)) is not None
)
_STACKS = (contextlib.AsyncExitStack, contextlib.ExitStack)


def locks_held(links: list[Link]) -> list[asyncio.Lock]:
    """Return the locks of the ``async with`` blocks that the frames of a chain are inside of.

    A lock taken by ``await lock.acquire()`` alone leaves no trace in a frame. Nor does the release of a lock
    within its block: if the code of a frame calls ``release``, what it holds is not known.
    """
    blocks = _blocks(links)
    held = [lock for _, managers in blocks for lock in map(_lock_of, managers) if lock is not None]
    if held and any("release" in code_of(frame).co_names for frame, _ in blocks if not _is_entering(frame)):
        return []
    for link in filter(_is_entering, links):
        waited_for = next(filter(None, map(_lock_of, variables_of(link))), None)
        _remove_last(held, waited_for)
    return held


def locks_maybe_held(links: list[Link]) -> list[asyncio.Lock]:
    """Return the locks in variables of those frames whose code calls ``acquire``."""
    taking = (link for link in links if "acquire" in code_of(link).co_names and not _is_entering(link))
    return [lock for link in taking for lock in map(_lock_of, variables_of(link)) if lock is not None]


def _is_entering(frame: Link) -> bool:
    return code_of(frame).co_qualname in _ENTERING


def _remove_last(found: list[Any], one: Any) -> None:
    for place in reversed(range(len(found))):
        if found[place] is one:
            del found[place]
            return


def timed(links: list[Link]) -> bool:
    """Whether a running timeout will cancel what the frames of a chain wait for."""
    scope = getattr(sys.modules.get("anyio._backends._asyncio"), "CancelScope", None)
    for manager in entered(links):
        if type(manager) is asyncio.Timeout and getattr(manager, "_timeout_handler", None) is not None:
            return True
        if type(manager) is scope and getattr(manager, "_deadline", math.inf) < math.inf:
            return True
    return False


def entered(links: list[Link]) -> list[Any]:
    """Return the managers of all ``with`` blocks that the frames of a chain are inside of."""
    return [manager for _, managers in _blocks(links) for manager in managers]


def _blocks(links: list[Link]) -> list[tuple[Link, list[Any]]]:
    """Return the frames of a chain, and of generators within them, each with the managers of its blocks."""
    frames = list(links)
    seen = set(map(id, links))
    found: list[tuple[Link, list[Any]]] = []
    for frame in frames:  # grows meanwhile
        inside = _managers(frame)
        found.append((frame, inside))
        if len(frames) < len(links) + _NESTED:
            nested = [*_iterated(frame), *filter(None, map(_generator_of, inside))]
            frames += [generator for generator in nested if id(generator) not in seen]
            seen.update(map(id, nested))
    return found


def _managers(frame: Link) -> list[Any]:
    found: list[Any] = []
    for held, after in pairwise([*gc.get_referents(frame), None]):
        if type(held) is MethodType and _is_exit(held.__func__):
            found.append(held.__self__)
        elif _is_exit(held):
            found.append(after)
    return [*found, *(manager for stack in found for manager in _stacked(stack))]


def _is_exit(found: object) -> bool:
    return type(found) is FunctionType and found.__name__ in _EXITS


def _stacked(manager: object) -> Iterator[Any]:
    """Yield the managers that were entered through an exit stack."""
    if is_of(manager, _STACKS):
        for _, leave in list(getattr(manager, "_exit_callbacks", ())):
            if type(leave) is MethodType:
                yield leave.__self__


def _generator_of(manager: Any) -> Any | None:
    """Return the generator that runs a manager made by ``contextmanager`` or ``asynccontextmanager``."""
    return getattr(manager, "gen", None) if is_of(manager, _OF_GENERATORS) else None


def _iterated(frame: Link) -> Iterator[Any]:
    """Yield the async generators that a frame iterates over: it is inside their blocks as well."""
    return (held for held in gc.get_referents(frame) if type(held) is AsyncGeneratorType)


def _lock_of(manager: Any) -> asyncio.Lock | None:
    kind = type(manager)
    if issubclass(kind, asyncio.Lock):
        return manager  # type: ignore[no-any-return]
    if issubclass(kind, asyncio.Condition):
        lock = getattr(manager, "_lock", None)
        return lock if issubclass(type(lock), asyncio.Lock) else None
    return None
