"""Reads watched variables and trace ids from a context other than the reader's own, without entering it.

From another thread only ``Context.get`` is safe: ``run`` would enter the context, and its task could not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

from loopwatch._internals.futures import context_of
from loopwatch._internals.otel_context import current_span_variable, ids_of
from loopwatch._internals.tasks import running_loop
from loopwatch._journal import Journal
from loopwatch._store.watched import ABSENT, LENGTH, PLAIN, TraceIds, Values, Watch, is_plain, watches

UNSHOWN = 2000
"""Contexts that may wait for ``show``, holding objects of the program until then."""
READS_TASKS = hasattr(asyncio.Task, "get_context")
"""Whether a task's own context is accessible: from Python 3.12 on. Before, it is read when a task is made."""

Get = Callable[..., Any]
"""Returns a context's value of a variable, else the second argument: the ``get`` of a ``Context``."""


class Context(NamedTuple):
    """What is known of a context, as text."""

    values: Mapping[str, str]
    trace_id: str | None
    span_id: str | None
    trace_flags: int | None


NOTHING = Context({}, None, None, None)


def get_current(var: ContextVar[Any], default: object = None) -> Any:
    """Return the value of ``var`` in the calling thread's current context: its ``Context.get``."""
    return var.get(default)


class ContextReader:
    """Reads contexts in any thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._unshown: deque[Values] = deque()
        self._span = current_span_variable()
        self.unshown_dropped = 0
        """Contexts whose values are shown only by their types, since too many waited for ``show``."""
        self.active = False
        """Whether there was anything to read at the last look; tested for each task."""
        self.notice: Callable[..., None] | None = None
        """Checks whether a context was lost; None while hand-overs are not watched."""
        self.refresh()

    def look(self) -> bool:
        """Check whether there is anything to read by now: variables to watch, OpenTelemetry in use."""
        self._span = self._span or current_span_variable()
        self.active = self.watching
        return self.active

    def refresh(self) -> None:
        """Look, and convert waiting values to text.

        A watchdog chore: objects of the program are held no longer than until the next run.
        """
        self.look()
        while (values := self._next_unshown(more_than=0)) is not None:
            self._show(values)

    def of_task(self, task: Any, at_creation: Values | None = None) -> Values | None:
        """Read the context of ``task``, or return what was read ``at_creation`` if we cannot. Cheap."""
        if not READS_TASKS:
            return at_creation
        context = context_of(task)
        return None if context is None else self._read(context.get)

    def at_creation(self) -> Values | None:
        """Read the current context for a task being created; None if the task's own can be read later."""
        return None if READS_TASKS else self.current()

    def current(self) -> Values | None:
        """Read the calling thread's current context."""
        return self._read(get_current)

    def current_texts(self) -> tuple[dict[str, str | None], TraceIds | None]:
        """Read the calling thread's current context, as text, for a log line that cannot wait.

        In the thread of a running loop no ``show`` runs: the name of the value's type is used instead.
        """
        texts: dict[str, str | None] = {}
        for watch in watches():
            value = watch.var.get(None)
            if value is None:
                texts[watch.name] = None
            elif watch.show is not None and running_loop() is not None:
                texts[watch.name] = type(value).__qualname__
            else:
                texts[watch.name] = self._text(watch, value)
        return texts, self._trace(get_current)

    def failed(self, error: Exception) -> None:
        """Count a failure to read."""
        self._journal.failure("context", error)

    @property
    def watching(self) -> bool:
        """Whether there is anything to read in any context."""
        return self._span is not None or bool(watches())

    def missing(self, values: Values, get: Get) -> tuple[str, ...]:
        """Name the variables of ``values`` that another context lacks, and ``trace`` if it lacks that."""
        named = zip(values.watches, values.raw, strict=True)
        names = [w.name for w, value in named if value is not ABSENT and get(w.var, None) is None]
        if values.trace is not None and self._trace(get) is None:
            names.append("trace")
        return tuple(names)

    def shape(self, values: Values | None) -> Context:
        """Convert what was read to text. Off the loop: runs the program's ``show`` functions."""
        if values is None:
            return NOTHING
        self._show(values)
        named = zip(values.watches, values.raw, strict=True)
        texts = {watch.name: str(value) for watch, value in named if value is not ABSENT}
        return Context(
            texts, *hexadecimal(values.trace), None if values.trace is None else int(values.trace[2])
        )

    def _trace(self, get: Get) -> TraceIds | None:
        if self._span is None:
            return None
        variable, key = self._span
        held = get(variable, None)
        return None if held is None else ids_of(held, key)

    def _read(self, get: Get) -> Values | None:
        """Read a context, in one pass and with few calls: this runs for each task."""
        watched, trace, span = watches(), None, self._span
        if span is not None and (held := get(span[0], None)) is not None:
            trace = ids_of(held, span[1])
        if trace is None and not watched:
            return None  # early: a framework may import OpenTelemetry although nobody uses it
        raw: list[object] = []
        found, waits = trace is not None, False
        for watch in watched:
            value = get(watch.var, None)
            if value is None:
                value = ABSENT
            else:
                found, kind = True, type(value)
                if kind not in PLAIN or (kind is str and len(value) > LENGTH):
                    if watch.show is not None:
                        waits = True
                    else:
                        value = _kept(value, kind)
            raw.append(value)
        if not found:
            return None
        values = Values(watched, raw, trace)
        if waits:
            self._unshown.append(values)
            while (oldest := self._next_unshown(more_than=UNSHOWN)) is not None:
                self._give_up(oldest)
        return values

    def _next_unshown(self, more_than: int) -> Values | None:
        """Take the oldest waiting values if more than ``more_than`` wait. Any thread."""
        if len(self._unshown) > more_than:
            with contextlib.suppress(IndexError):  # another thread has taken them
                return self._unshown.popleft()
        return None

    def _give_up(self, values: Values) -> None:
        """Keep only the type's name of each value that waits for ``show``."""
        named = zip(values.watches, values.raw, strict=True)
        if not values.shown:
            self.unshown_dropped += 1
            values.raw = tuple(
                value if watch.show is None or value is ABSENT else type(value).__qualname__
                for watch, value in named
            )

    def _show(self, values: Values) -> None:
        raw = values.raw
        if type(raw) is list:
            named = zip(values.watches, raw, strict=True)
            values.raw = tuple(value if value is ABSENT else self._text(w, value) for w, value in named)

    def _text(self, watch: Watch, value: object) -> str:
        try:
            return watch.text(value)
        except Exception as error:  # noqa: BLE001 - ``show`` is the program's
            self._journal.failure("show", error)
            return type(value).__qualname__


def _kept(value: Any, kind: type) -> object:
    """Return what to keep of a long value, or of one that may be the program's object, not to be held."""
    if kind is str:
        return value[:LENGTH]
    return value if is_plain(kind) else kind.__qualname__


def hexadecimal(trace: TraceIds | None) -> tuple[str | None, str | None]:
    """Return trace id and span id in the hexadecimal form used to search for traces."""
    return (f"{trace[0]:032x}", f"{trace[1]:016x}") if trace else (None, None)
