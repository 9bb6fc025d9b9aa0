"""Probe of hand-overs: where work is given to another thread or task and may leave its context behind.

``ThreadPoolExecutor.submit`` (and with it ``run_in_executor``), ``Thread.start``, ``asyncio.Queue``, and
``call_soon_threadsafe`` (and with it ``run_coroutine_threadsafe``). Nothing is wrapped before a variable is
watched or OpenTelemetry is in use. ``create_task`` and ``to_thread`` keep the context, so are not wrapped.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import thread as pools
from contextvars import Context, ContextVar
from types import FrameType
from typing import Any

from loopwatch._context.handover import HANDED, HandOver
from loopwatch._context.lost_contexts import LostContexts
from loopwatch._context.reader import ContextReader, get_current
from loopwatch._internals.interpreter import getframe, place_outside
from loopwatch._internals.patches import Patch
from loopwatch._internals.source_traceback import hide
from loopwatch._internals.threads import target
from loopwatch._journal import Journal
from loopwatch._store.watched import listen

from .loop_classes import LoopClasses

_POOL = pools.__file__
_ON_BEHALF = (
    os.path.dirname(asyncio.__file__) + os.sep,
    os.path.dirname(futures.__file__) + os.sep,
    threading.__file__,
)
"""Paths of code that hands over on behalf of its caller."""

QUEUED = 10_000
"""Items followed through one queue; if it holds more, only those put first are."""

TAKEN = 10
"""Items that some code last took out of queues, remembered to recognise one that it puts back."""
_taken: ContextVar[tuple[tuple[int, int], ...]] = ContextVar("loopwatch.taken", default=())
"""Pairs of ids: of the queue and of the item."""


class HandOverProbe:
    """Wraps the functions that hand over work, once there is a context to lose."""

    def __init__(self, contexts: ContextReader, losses: LostContexts, journal: Journal) -> None:
        self._contexts = contexts
        self._losses = losses
        self._journal = journal
        self._patches: list[Patch] = []
        self._loops = LoopClasses({"call_soon_threadsafe": self._wrap_call_soon}, journal)
        self._deaf: Callable[[], None] | None = None

    def install(self) -> None:
        """Wrap now if there is anything to lose, else once a first variable is watched."""
        self._deaf = listen(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Begin watching if by now a variable is watched or OpenTelemetry is in use."""
        if self._deaf is None or self._patches or not self._contexts.look():
            return
        self._patches += [
            Patch.apply(futures.ThreadPoolExecutor, "submit", self._wrap_submit),
            Patch.apply(threading.Thread, "start", self._wrap_start),
            Patch.apply(asyncio.Queue, "put_nowait", self._wrap_put),
            Patch.apply(asyncio.Queue, "get_nowait", self._wrap_get),
        ]
        self._loops.wrap()
        self._contexts.notice = self._losses.notice

    def remove(self) -> None:
        """Restore what was there before."""
        if self._deaf is not None:
            self._deaf()
            self._deaf = None
        self._contexts.notice = None
        self._loops.unwrap()
        while self._patches:
            self._patches.pop().undo()

    def _handed(self, work: object, frame: FrameType, through_queue: bool = False) -> HandOver | None:
        if self._deaf is None:
            return None  # removed, but still called by somebody's wrapper around ours
        try:
            site = functools.partial(place_outside, frame, _ON_BEHALF)
            return self._losses.hand_over(site, work, through_queue)
        except Exception as error:  # noqa: BLE001 - the work is handed over whatever happens to us
            self._journal.failure("handovers", error)
            return None

    def _wrap_submit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def submit(self_: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            handed = self._handed(fn, getframe(1))
            if handed is None:
                return original(self_, fn, *args, **kwargs)
            return original(self_, functools.partial(_run, handed, fn), *args, **kwargs)

        return submit

    def _wrap_start(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(original)
        def start(thread: threading.Thread) -> None:
            frame = getframe(1)
            if frame.f_code.co_filename == _POOL or thread.name.startswith("loopwatch-"):
                return original(thread)  # the thread serves everybody, or nobody
            handed = self._handed(target(thread), frame)
            if handed is None or "run" in vars(thread):
                return original(thread)

            # The new thread looks ``run`` up, whatever its class, and removes it again.
            thread.run = functools.partial(_run_thread, handed, thread)  # type: ignore[method-assign]
            try:
                original(thread)
            except BaseException:
                vars(thread).pop("run", None)
                raise

        return start

    def _wrap_call_soon(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call_soon_threadsafe(
            self_: Any, callback: Callable[..., Any], *args: Any, context: Context | None = None
        ) -> Any:
            if context is not None and (handed := self._handed(callback, getframe(1))) is not None:
                callback = functools.partial(_run, handed, callback)
            handle = original(self_, callback, *args, context=context)
            if self_.get_debug():
                hide(__file__, handle)
            return handle

        return call_soon_threadsafe

    def _wrap_put(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def put_nowait(queue: Any, item: Any) -> None:
            original(queue, item)
            if (id(queue), id(item)) in get_current(_taken, ()):
                handed = get_current(HANDED)  # a token, a connection, or work to be retried: not new work
            else:
                handed = self._handed(item, getframe(1), through_queue=True)
            try:
                _follow(queue, item, handed)
            except Exception as error:  # noqa: BLE001 - as above
                self._journal.failure("handovers", error)

        return put_nowait

    def _wrap_get(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_nowait(queue: Any) -> Any:
            item = original(queue)
            handed = getattr(queue, "_loopwatch_handed", {}).pop(id(item), None)
            if handed is not None or get_current(HANDED) is not None:
                HANDED.set(handed)  # in the worker's context, for this item
            _taken.set((*_taken.get()[1 - TAKEN :], (id(queue), id(item))))
            return item

        return get_nowait


def _follow(queue: Any, item: object, handed: HandOver | None) -> None:
    """Remember how ``item`` was put into ``queue``, for as long as it is there."""
    on_their_way = getattr(queue, "_loopwatch_handed", None)
    if on_their_way is None:
        on_their_way = queue._loopwatch_handed = {}
    if handed is not None and len(on_their_way) < QUEUED:
        on_their_way[id(item)] = handed  # the queue holds the item, so the id is unique
    else:
        on_their_way.pop(id(item), None)


def _run(handed: HandOver, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run work under its hand-over. Its tracebacks do not show this frame."""
    token = HANDED.set(handed)
    try:
        return work(*args, **kwargs)
    except BaseException as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        raise
    finally:
        HANDED.reset(token)


def _run_thread(handed: HandOver, thread: threading.Thread) -> None:
    """Run a thread under its hand-over, which ends with the thread."""
    del thread.run  # leaves the one of its class
    HANDED.set(handed)
    try:
        thread.run()
    except BaseException as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        raise
