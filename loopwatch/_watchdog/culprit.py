"""From a stack to the culprit: which frame to name, and what it was calling."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import dropwhile

from loopwatch._places import Place

from .calls import call_at
from .code_owner import CodeOwner

_WRAPPERS = ("loopwatch._probes.", "loopwatch._collectors.pools.")
"""Modules of our functions that replace others', and that the program never calls by name."""


def find(stack: Iterable[Place], owner: CodeOwner) -> Place | None:
    """Return the innermost place of application code, failing that of a library; None if there is neither."""
    first_library: Place | None = None
    for place in stack:
        whose = owner.of(place[0].co_filename, place[2])
        if whose == "app":
            return place
        if whose == "library" and first_library is None:
            first_library = place
    return first_library


def theirs(stack: Iterable[Place], owner: CodeOwner) -> tuple[Place, ...]:
    """Return the stack as it would be without us: without our ``select``, or a probe in the middle of it.

    Of our own frames, only those that the program itself called stay.
    """
    outer = dropwhile(lambda place: owner.of(place[0].co_filename, place[2]) == "own", stack)
    return tuple(place for place in outer if not place[2].startswith(_WRAPPERS))


def call_of(place: Place | None) -> str | None:
    """Return what the code at ``place`` was calling."""
    return None if place is None else call_at(place[0], place[1])
