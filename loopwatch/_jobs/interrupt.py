"""Notices a signal during a drain, without taking it from the handler in place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask a program to end."""

_Handler = Callable[[int, FrameType | None], Any]

_notices: list[Callable[[], None]] = []
"""Functions to call, one per ongoing drain of the main thread, the only one that receives signals."""
_ours: dict[int, tuple[_Handler, _Handler]] = {}
"""By signal: the handler that was in place, and ours that calls it."""


@contextmanager
def on_signal(notice: Callable[[], None]) -> Iterator[None]:
    """Call ``notice`` at each signal that arrives within the block, and then the handler in place.

    Does nothing outside the main thread. A signal without a handler still kills.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _notices.append(notice)
    if len(_notices) == 1:
        _put_on()
    try:
        yield
    finally:
        _notices.remove(notice)
        if not _notices:
            _take_off()


def _put_on() -> None:
    for signum in SIGNALS:
        before = signal.getsignal(signum)
        if callable(before):
            _ours[signum] = (before, _noticing(before))
            signal.signal(signum, _ours[signum][1])


def _take_off() -> None:
    for signum, (before, ours) in _ours.items():
        if signal.getsignal(signum) is ours:
            signal.signal(signum, before)
    _ours.clear()


def _noticing(before: _Handler) -> _Handler:
    def handler(signum: int, frame: FrameType | None) -> Any:
        for notice in tuple(_notices):
            notice()
        return before(signum, frame)

    return handler
