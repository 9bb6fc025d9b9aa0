"""The functions that stand in place of a library's own: the only code of ours in the way of an acquire.

Each calls the original once, outside of all that is ours, and returns or raises what that did. An exception
does not show our frame, and what writes the books raises nothing.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, Protocol

from loopwatch._internals.patches import hide_caller
from loopwatch._store.pools import Acquire

from .books import Asks, Got

PoolOf = Callable[..., object | None]
"""Takes the arguments of an acquire and returns the pool; None for one that is not to be looked at."""
ThingOf = Callable[[Any], object | None]
"""Takes what an acquire returned and returns the thing that the library's in-use set holds."""


class Books(Protocol):
    """Where acquires are written down. Nothing here raises."""

    asks: Asks
    got: Got

    def failed(self, acquire: Acquire, pool: Any, error: BaseException) -> None:
        """End the wait with nothing."""

    def made(self, pool: Any) -> None:
        """Take note of a new pool."""

    def given(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function of a reader's."""


_TIMED = """
{a_}def _acquire({parameters}):
    _pool = {pool}
    _asked = _asks(_pool)
    if _asked is None:
        return {await_}_original({arguments})
    try:
        _result = {await_}_original({arguments})
    except BaseException as _error:
        _failed(_asked, _pool, _error)
        _hide_caller(_error)
        raise
    _got(_asked, _pool, {thing})
    return _result
"""


def timed(
    books: Books, *, awaited: bool, pool_of: PoolOf | None, thing_of: ThingOf | None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what wraps a function that acquires; ``awaited`` if it is a coroutine function.

    It is written to the very parameters of the original: to pass on ``*args, **kwargs`` takes a sixth of what
    an acquire may cost, and a wrong argument would be refused by the original instead of by the call.
    """

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        parameters, arguments = _parameters(original)
        source = _TIMED.format(
            a_="async " if awaited else "",
            await_="await " if awaited else "",
            parameters=parameters,
            arguments=arguments,
            pool=arguments.partition(",")[0] if pool_of is None else f"_given(_pool_of, {arguments})",
            thing="_result" if thing_of is None else "_given(_thing_of, _result)",
        )
        names: dict[str, Any] = {
            "__name__": __name__,
            "_asks": books.asks,
            "_got": books.got,
            "_failed": books.failed,
            "_given": books.given,
            "_hide_caller": hide_caller,
            "_original": original,
            "_pool_of": pool_of,
            "_thing_of": thing_of,
            "_defaults": _defaults(original),
        }
        exec(compile(source, __file__, "exec"), names)  # noqa: S102 - of names of parameters, no values
        acquire: Callable[..., Any] = functools.wraps(original)(names["_acquire"])
        return acquire

    return wrapper


def created(books: Books) -> Callable[..., Any]:
    """Return what wraps an ``__init__``."""

    def wrapper(original: Callable[..., None]) -> Callable[..., None]:
        made = books.made

        @functools.wraps(original)
        def create(self: Any, /, *args: Any, **kwargs: Any) -> None:
            try:
                original(self, *args, **kwargs)
            except BaseException as error:
                hide_caller(error)
                raise
            made(self)

        return create

    return wrapper


def used(books: Books) -> Callable[..., Any]:
    """Return what wraps a method that a pool is known by when it is called."""

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        made = books.made

        @functools.wraps(original)
        def use(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            made(self)
            return original(self, *args, **kwargs)

        return use

    return wrapper


_ANY = "_self, /, *_args, **_kwargs", "_self, *_args, **_kwargs"


def _parameters(function: Callable[..., Any]) -> tuple[str, str]:
    """Return the parameters of a function as its definition has them, and as they are passed on."""
    code = getattr(function, "__code__", None)
    if type(code) is not CodeType or not code.co_argcount:
        return _ANY  # compiled, or it takes self as one of *args
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
    """Return the values of those parameters that need not be passed."""
    code, values = getattr(function, "__code__", None), getattr(function, "__defaults__", None) or ()
    positional = () if code is None else code.co_varnames[: code.co_argcount]
    named = dict(zip(positional[len(positional) - len(values) :], values, strict=True)) if values else {}
    return named | (getattr(function, "__kwdefaults__", None) or {})
