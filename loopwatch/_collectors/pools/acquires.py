"""The wrappers of a library's functions: our only code on the path of an acquire.

Each calls the original once, outside all other code of ours, and returns or raises what the original did. The
traceback of an exception does not show our frame, and the bookkeeping raises nothing.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from types import CodeType
from typing import Any, Protocol

from loopwatch._internals.patches import hide_caller, like
from loopwatch._internals.tasks import FINDS_LOOP, current_task, running_loop
from loopwatch._store.pools import AT_ONCE, Acquire, WaitCell

from .books import NOWHERE, Asks, Got
from .protocol import Feature

PoolOf = Callable[..., object | None]
"""Takes the arguments of an acquire and returns the pool; None for a pool that is to be ignored."""
Failing = Callable[..., object]
"""Takes the error of an acquire, then the arguments of the acquire."""


class Books(Protocol):
    """Where acquires are recorded. Nothing here raises."""

    on: bool
    """Whether acquires are recorded: a wrapper of ours that others have wrapped outlives its books."""
    asks: Asks
    got: Got
    monotonic: Callable[[], float]
    anchored: str | None
    """The attribute of a pool that is its anchor."""
    anchor_of: Callable[[Any], Any] | None
    """Returns the anchor of a pool, where that is neither the pool itself nor an attribute."""

    def failed(self, acquire: Acquire, pool: Any, error: BaseException, place: WaitCell = ..., /) -> None:
        """End a wait that got nothing."""

    def made(self, pool: Any) -> None:
        """Register a new pool."""

    def given(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the reader."""

    def broke(self, feature: Feature, error: Exception) -> None:
        """Count a failure of ours."""


if FINDS_LOOP:
    _IN_LOOP, _TASK = "True", "_current_task()"
    _MAYBE_IN_LOOP, _MAYBE_TASK = "(_loop := _running_loop()) is not None", "_current_task(_loop)"
else:  # before Python 3.12, getting the running loop takes a system call: a seventh of an acquire's budget
    _IN_LOOP = _MAYBE_IN_LOOP = "_cell.loop is not None and _cell.thread == _get_ident()"
    _TASK = _MAYBE_TASK = "_current_task(_cell.loop())"

_TIMED = """
{a_}def _acquire({parameters}):
    {naming}
    try:
        _watched = {anchor}._loopwatch_watched
        _cell = _watched.cell
        if _books.on and {in_loop}:
            if _cell.asking is not None:
                _cell.make_way()
            _cell.asking = _asked = _watched, _cell.live[id({task})], _monotonic()
        else:
            _cell, _asked = _nowhere, _asks({pool})
    except Exception:
        _cell, _asked = _nowhere, _asks({pool})
    if _asked is None:
        return {await_}_original({arguments})
    try:
        _result = {await_}{call}
    except BaseException as _error:
        {failing}
        _failed(_asked, {pool}, _error, _cell)
        _hide_caller(_error)
        raise
    try:
        {noting}
        if _cell.asking is _asked and (_waited := _monotonic() - _asked[2]) <= {AT_ONCE}:
            _watched.held[id({thing})] = _asked
            _cell.asking = None
            _cell.at_once += 1
            _cell.wait_sum += _waited
        else:
            _got(_asked, {pool}, {thing}, _cell)
    except Exception as _error:
        _books.broke("waits", _error)
        _got(_asked, {pool}, None, _cell)
    return _result
"""
"""The fast path is written out inline: acquires in a known task, in the loop that used the pool last. Each
call saved is a tenth of an acquire's budget. If anything needed for it is missing, the functions of the books
do the same at more length."""

_NOTING = """_thing = {thing}
        try:
            _thing._loopwatch_noted
        except AttributeError:
            _note_given({pool}, _thing)"""


@dataclass(frozen=True, slots=True)
class Form:
    """How a library's function acquires."""

    awaited: bool = True
    """Whether the function is a coroutine function, or returns an awaitable."""
    pool: str | PoolOf | None = None
    """The parameter that is the pool, or a function that returns the pool; None for the first parameter."""
    thing: str | None = None
    """The attribute of the result that ``holders`` will list; None if it lists the result itself."""
    notes: Callable[[Any, Any], None] | None = None
    """Remembers that the pool gives out this thing, for a library that does not do so itself (``given``).
    Called until the thing has a ``_loopwatch_noted``."""
    key: str | None = None
    """The attribute of the result that is copied to the thing, as ``_loopwatch_key``."""
    failing: Failing | None = None
    """Called before a failure is recorded."""


def timed(books: Books, form: Form) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for a function that acquires.

    The wrapper is generated with the exact parameters of the original: passing on ``*args, **kwargs`` takes a
    sixth of an acquire's budget, and a wrong argument would be refused by the original, not by the call.
    """

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        parameters, arguments = _parameters(original)
        pool, naming, noting = form.pool or arguments.partition(",")[0], "", ""
        if not isinstance(pool, str):
            pool, naming = "_pool", f"_pool = _given(_pool_of, {arguments})"
        thing = "_result" if form.thing is None else f"_result.{form.thing}"
        if form.notes is not None:
            noting = _NOTING.format(thing=thing, pool=pool)
        elif form.key is not None:
            noting = f"_thing = {thing}; _thing._loopwatch_key = _result.{form.key}"
        source = _TIMED.format(
            a_="async " if form.awaited else "",
            await_="await " if form.awaited else "",
            parameters=parameters,
            arguments=arguments,
            call=_call(arguments),
            naming=naming,
            pool=pool,
            anchor=_anchor(books, pool),
            in_loop=_IN_LOOP if form.awaited else _MAYBE_IN_LOOP,
            task=_TASK if form.awaited else _MAYBE_TASK,
            thing="_thing" if noting else thing,
            noting=noting,
            failing="" if form.failing is None else f"_given(_failing, _error, {arguments})",
            AT_ONCE=AT_ONCE,
        )
        names: dict[str, Any] = {
            "__name__": __name__,
            "_anchor_of": books.anchor_of,
            "_asks": books.asks,
            "_books": books,
            "_current_task": current_task,
            "_defaults": _defaults(original),
            "_failed": books.failed,
            "_failing": form.failing,
            "_get_ident": get_ident,
            "_given": books.given,
            "_got": books.got,
            "_hide_caller": hide_caller,
            "_monotonic": books.monotonic,
            "_note_given": form.notes,
            "_nowhere": NOWHERE,
            "_original": original,
            "_pool_of": form.pool,
            "_running_loop": running_loop,
        }
        exec(compile(source, __file__, "exec"), names)  # noqa: S102 - made of names in source, no values
        acquire: Callable[..., Any] = functools.wraps(original)(names["_acquire"])
        return acquire

    return wrapper


def _call(arguments: str) -> str:
    """Return the call of the original, leaving out ``*`` and ``**`` arguments while empty, as most are."""
    passed = arguments.split(", ")
    rest = [one.lstrip("*") for one in passed if one.startswith("*")]
    if not rest:
        return f"_original({arguments})"
    others = ", ".join(one for one in passed if not one.startswith("*"))
    return f"(_original({arguments}) if {' or '.join(rest)} else _original({others}))"


def _anchor(books: Books, pool: str) -> str:
    """Return the expression for the anchor of a pool."""
    if books.anchored is not None:
        return f"{pool}.{books.anchored}"
    return pool if books.anchor_of is None else f"_anchor_of({pool})"


def created(books: Books, unless: Callable[[Any], bool] | None = None) -> Callable[..., Any]:
    """Return a decorator for an ``__init__``; pools that ``unless`` is true of are noted when first used."""

    def wrapper(original: Callable[..., None]) -> Callable[..., None]:
        made = books.made

        @functools.wraps(original)
        def create(self: Any, /, *args: Any, **kwargs: Any) -> None:
            try:
                original(self, *args, **kwargs)
            except BaseException as error:
                hide_caller(error)
                raise
            if unless is None or not unless(self):
                made(self)

        return create

    return wrapper


def used(books: Books) -> Callable[..., Any]:
    """Return a decorator for a method, awaited or not, whose call registers the pool."""

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        made = books.made

        @functools.wraps(original)
        def use(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            made(self)
            return original(self, *args, **kwargs)

        return like(original, use)

    return wrapper


_ANY = "_self, /, *_args, **_kwargs", "_self, *_args, **_kwargs"


def _parameters(function: Callable[..., Any]) -> tuple[str, str]:
    """Return the parameters of a function as its definition spells them, and as a call passes them on."""
    code = getattr(function, "__code__", None)
    if type(code) is not CodeType or not code.co_argcount:
        return _ANY  # compiled, or takes self as one of *args
    names = code.co_varnames
    positional, count = names[: code.co_argcount], code.co_argcount + code.co_kwonlyargcount
    keyword = names[code.co_argcount : count]
    defaults = _defaults(function)
    written = [f"{name}=_defaults[{name!r}]" if name in defaults else name for name in positional]
    if code.co_posonlyargcount:
        written.insert(code.co_posonlyargcount, "/")
    passed = list(positional)
    if code.co_flags & inspect.CO_VARARGS:
        written.append(f"*{names[count]}")
        passed.append(f"*{names[count]}")
        count += 1
    elif keyword:
        written.append("*")
    written += [f"{name}=_defaults[{name!r}]" if name in defaults else name for name in keyword]
    passed += [f"{name}={name}" for name in keyword]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        written.append(f"**{names[count]}")
        passed.append(f"**{names[count]}")
    return ", ".join(written), ", ".join(passed)


def _defaults(function: Any) -> dict[str, Any]:
    """Return the default values of a function's parameters, by name."""
    code, values = getattr(function, "__code__", None), getattr(function, "__defaults__", None) or ()
    positional = () if code is None else code.co_varnames[: code.co_argcount]
    named = dict(zip(positional[len(positional) - len(values) :], values, strict=True)) if values else {}
    return named | (getattr(function, "__kwdefaults__", None) or {})
