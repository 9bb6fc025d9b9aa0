"""The links of a suspended task's chain: its coroutine, what that awaits, and so on down to a future.

Only C-level attributes of exact types are read: looking at a task, from whichever thread, executes none of
the program's code. CPython 3.11 to 3.15; coroutines compiled by Cython, as uvloop's are, from 3.0 on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from operator import attrgetter
from types import (
    AsyncGeneratorType,
    CellType,
    CodeType,
    CoroutineType,
    FrameType,
    GeneratorType,
    MemberDescriptorType,
)
from typing import Any, NamedTuple

from loopwatch._places import Place

from .futures import coroutine_of, is_future, is_task, type_name, waiter_of
from .interpreter import uncollected

DEPTH = 100
"""Links followed, from the outermost, of a longer chain."""

Link = Any
"""An object that owns a suspended frame: a coroutine, a generator or an async generator."""


class _Reads(NamedTuple):
    """How the links of one type are read."""

    code: Callable[[Link], CodeType | None]
    frame: Callable[[Link], FrameType | None]
    """None once the link has ended."""
    awaited: Callable[[Link], Any]
    executes: Callable[[Link], bool]


_READS: dict[type, _Reads] = {
    CoroutineType: _Reads(
        attrgetter("cr_code"), attrgetter("cr_frame"), attrgetter("cr_await"), attrgetter("cr_running")
    ),
    GeneratorType: _Reads(
        attrgetter("gi_code"), attrgetter("gi_frame"), attrgetter("gi_yieldfrom"), attrgetter("gi_running")
    ),
    AsyncGeneratorType: _Reads(
        attrgetter("ag_code"),
        attrgetter("ag_frame"),
        attrgetter("ag_await"),
        lambda link: False,  # ``ag_running`` is also true while it is suspended in an ``await`` of its own
    ),
}
_CYTHON = _READS[CoroutineType]
"""For coroutines compiled by Cython, which create a new frame each time theirs is asked for. They drop their
code as they end, which in another thread may happen at any moment."""
_UNKNOWN = compile("", "?", "exec").replace(co_name="?", co_qualname="?")
_COMPILED = frozenset(("coroutine", "iterable_coroutine"))

_WRAPPERS = frozenset(
    ("FutureIter", "anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper")
)
"""Types that stand between two links and have no attribute for the object they wrap."""


def links(task_or_coro: Any) -> tuple[list[Link], Any]:
    """Return the links of a chain, outermost first, and the future that the innermost one waits for."""
    found: list[Link] = []
    if is_task(task_or_coro):
        step, awaited = coroutine_of(task_or_coro), waiter_of(task_or_coro)
    else:
        step, awaited = task_or_coro, None
    for _ in range(2 * DEPTH):  # each link may be wrapped
        reads = _reads(step)
        if reads is not None:
            found.append(step)
            step = None if reads.executes(step) else reads.awaited(step)
        elif is_future(step):
            awaited = step if awaited is None else awaited  # no truth test: its class may define that
            break
        else:
            step = _wrapped_by(step)
        if step is None or len(found) == DEPTH:
            break
    return found, awaited


def code_of(link: Link) -> CodeType:
    """Return the code that a link executes; for a compiled link that has ended, code without a name."""
    return _READS.get(type(link), _CYTHON).code(link) or _UNKNOWN


def awaited_by(link: Link) -> Any | None:
    """Return what a link awaits; None if it runs, has ended, or is suspended at a ``yield`` of its own."""
    return _READS.get(type(link), _CYTHON).awaited(link)


def variables_of(link: Link) -> list[Any]:
    """Return what the frame of a link refers to: its variables, closures included, and its stack."""
    held = gc.get_referents(link)
    return held + gc.get_referents(*(one for one in held if type(one) is CellType))


@uncollected
def globals_of(link: Link) -> list[Any]:
    """Return the values of the global variables of a link's code; none once it has ended."""
    reads = _READS.get(type(link))
    frame = None if reads is None else reads.frame(link)
    return [] if frame is None else list(dict.values(frame.f_globals))


@uncollected
def place_of(link: Link) -> Place | None:
    """Return where a link is suspended; None once it has ended."""
    reads = _READS.get(type(link))
    if reads is None:
        code = code_of(link)
        if code is _UNKNOWN:
            return None
        return code, 0, code.co_filename.removesuffix(".pyx").replace("/", ".")
    frame = reads.frame(link)
    if frame is None:
        return None
    module = dict.get(frame.f_globals, "__name__")
    return frame.f_code, frame.f_lasti, module if type(module) is str else ""


def _reads(step: object) -> _Reads | None:
    kind = type(step)
    for of, reads in _READS.items():  # not looked up by key: that would hash the class
        if kind is of:
            return reads
    if type_name(kind) in _COMPILED and type(vars(kind).get("cr_await")) is MemberDescriptorType:
        return _CYTHON
    return None


def _wrapped_by(step: object) -> Any:
    """Return the link or future inside a wrapper; None if ``step`` is not a wrapper."""
    if type_name(type(step)) not in _WRAPPERS:
        return None
    for inner in gc.get_referents(step):
        if _reads(inner) is not None or is_future(inner) or type_name(type(inner)) in _WRAPPERS:
            return inner
    return None
