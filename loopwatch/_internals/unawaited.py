"""``warnings._warn_unawaited_coroutine``: called as a coroutine dies that was never awaited.

Checked on CPython 3.11 to 3.15; where it is absent, only the interpreter's own warning reports such
coroutines. The original gives the warning, and attributes it to its caller by stack level, for the text, for
the filters and for "once": so no frame of ours may stand between it and the interpreter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

NAME = "_warn_unawaited_coroutine"


class UnawaitedHook:
    """Calls ``before`` with each such coroutine, then the original."""

    def __init__(self, before: Callable[[Any], None]) -> None:
        self._before = before
        self._original: Callable[[Any], None] | None = getattr(warnings, NAME, None)
        self._ours: object = None

    def install(self) -> None:
        """Begin watching."""
        if self._original is None:
            return
        original: Callable[[Any], None] = self._original
        before = self._before

        class Noticing:
            """Called like a function: making an instance calls ``__new__``, and then the original.

            The interpreter itself makes both calls, one after the other.
            """

            def __new__(cls, coro: Any) -> Noticing:  # noqa: PYI034 - nobody subclasses it
                before(coro)
                return super().__new__(cls)

            __init__ = staticmethod(original)

        self._ours = Noticing
        setattr(warnings, NAME, Noticing)

    def remove(self) -> None:
        """Restore the original, if ours is still on top."""
        if self._ours is not None and getattr(warnings, NAME, None) is self._ours:
            setattr(warnings, NAME, self._original)
