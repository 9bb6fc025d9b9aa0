"""What happens on a signal: a handler of ``signal.signal``, or one of a loop (``add_signal_handler``)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from loopwatch._internals.loop_signals import callback_of, handlers

Handler = Callable[[int, FrameType | None], Any]

OURS = "loopwatch"
"""The package whose handlers never take precedence over each other."""


class Disposition:
    """What a program has set for a signal, and how a handler of ours takes precedence over it.

    Ours is installed in the same way, so that a program which removes its own removes ours: from the loop
    by ``remove_signal_handler``, from ``signal`` by setting another.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, signum: int, ours: Handler) -> None:
        self._loop = loop
        self._signum = signum
        self._ours = ours
        self._handler: Any = signal.getsignal(signum)
        self._table = handlers(loop)
        self._handle = self._table.get(signum)
        self._our_handle: Any = None

    @property
    def of_loop(self) -> bool:
        """Whether the handler was set with the loop."""
        return self._handle is not None

    @property
    def callback(self) -> Any:
        """The program's handler function."""
        return callback_of(self._handle) if self.of_loop else self._handler

    @property
    def owner(self) -> str:
        """The package of the handler function."""
        return _package(self.callback)

    @property
    def is_default(self) -> bool:
        """Whether it is Python's own default."""
        return self._handler in (signal.SIG_DFL, signal.default_int_handler)

    @property
    def can_be_taken(self) -> bool:
        """Whether there is a handler that ours can take precedence over.

        There is none if the signal is ignored, if its handler was not set from Python, so that it could not
        be restored, or if it is ours, such as that of a drain, which removes itself.
        """
        return self._handler not in (signal.SIG_IGN, None) and self.owner != OURS

    @property
    def stands(self) -> bool:
        """Whether nothing else has been set since."""
        return signal.getsignal(self._signum) is self._handler

    @property
    def is_taken(self) -> bool:
        """Whether our handler is the one that is called."""
        if self.of_loop:
            return self._table.get(self._signum) is self._our_handle
        return signal.getsignal(self._signum) == self._ours

    def take(self) -> None:
        """Install our handler in place of the program's."""
        if self.of_loop:
            self._loop.add_signal_handler(self._signum, self._ours, self._signum, None)
            self._our_handle = self._table.get(self._signum)
        else:
            signal.signal(self._signum, self._ours)

    def restore(self) -> None:
        """Restore the program's handler, whatever is set now."""
        if self.of_loop:
            self._table[self._signum] = self._handle
        signal.signal(self._signum, self._handler)

    def give_back(self) -> bool:
        """Restore the program's handler unless others were set over ours. Return whether it was restored."""
        on_top = self.is_taken or _package(signal.getsignal(self._signum)) == OURS
        if on_top:
            self.restore()
        return on_top


def set_default(signum: int) -> None:
    """Restore Python's default for this signal if a handler of ours is set."""
    if _package(signal.getsignal(signum)) == OURS:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


def name_of(callback: object) -> str:
    """Return the dotted name of a handler's function."""
    name = getattr(callback, "__qualname__", None) or type(callback).__qualname__
    return f"{getattr(callback, '__module__', None)}.{name}"


def _package(callback: object) -> str:
    return (getattr(callback, "__module__", None) or "").partition(".")[0]
