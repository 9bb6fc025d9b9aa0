"""The functions that stand in place of a library's own: the only code of ours in the way of an acquire.

Each calls the original once, outside of all that is ours, and returns or raises what that did. An exception
does not show our frame, and ``books`` raise nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from loopwatch._internals.patches import hide_caller
from loopwatch._store.pools import Acquire

PoolOf = Callable[..., object | None]
"""Takes the arguments of an acquire and returns the pool; None for one that is not to be looked at."""
ThingOf = Callable[[Any], object | None]
"""Takes what an acquire returned and returns the thing that the library's in-use set holds."""


class Books(Protocol):
    """Where acquires are written down. Nothing here raises."""

    def asks(self, pool: object) -> Acquire | None:
        """Begin to wait; None if nobody wants to know."""

    def got(self, acquire: Acquire, pool: object, thing: object | None) -> None:
        """End the wait: ``thing`` is in use from now on."""

    def failed(self, acquire: Acquire, pool: object, error: BaseException) -> None:
        """End the wait with nothing."""

    def made(self, pool: object) -> None:
        """Take note of a new pool."""

    def given(self, function: Callable[..., object | None], /, *args: Any, **kwargs: Any) -> object | None:
        """Call a function of a reader's."""


def awaited(books: Books, pool_of: PoolOf | None, thing_of: ThingOf | None) -> Callable[..., Any]:
    """Return what wraps a coroutine function that acquires."""

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        asks, got, failed, given = books.asks, books.got, books.failed, books.given

        @functools.wraps(original)
        async def acquire(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            pool = self if pool_of is None else given(pool_of, self, *args, **kwargs)
            asked = asks(pool)
            if asked is None:
                return await original(self, *args, **kwargs)
            try:
                result = await original(self, *args, **kwargs)
            except BaseException as error:
                failed(asked, pool, error)
                hide_caller(error)
                raise
            got(asked, pool, result if thing_of is None else given(thing_of, result))
            return result

        return acquire

    return wrapper


def called(books: Books, pool_of: PoolOf | None, thing_of: ThingOf | None) -> Callable[..., Any]:
    """Return what wraps a plain function that acquires."""

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        asks, got, failed, given = books.asks, books.got, books.failed, books.given

        @functools.wraps(original)
        def acquire(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            pool = self if pool_of is None else given(pool_of, self, *args, **kwargs)
            asked = asks(pool)
            if asked is None:
                return original(self, *args, **kwargs)
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                failed(asked, pool, error)
                hide_caller(error)
                raise
            got(asked, pool, result if thing_of is None else given(thing_of, result))
            return result

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
