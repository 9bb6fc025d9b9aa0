"""Probe of lost tasks: ``call_exception_handler`` of the loop classes, where asyncio reports them.

It is called from the task's finaliser, the last moment at which the task's context and exception exist. The
garbage collector has closed its coroutine before that: where a pending task stood is known only from an
earlier look at it, if there was one. Each message is one loss. It is noted before the program's handler is
called, which may do anything, such as resurrect the task. The message arrives as it would without us: the
original is always called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from loopwatch._context.reader import ContextReader
from loopwatch._internals.await_chain import stand_of
from loopwatch._internals.futures import coroutine_of, is_task, loop_of, name_of
from loopwatch._internals.interpreter import raised_in
from loopwatch._internals.tasks import exception_of, function_of
from loopwatch._journal import Journal
from loopwatch._places import Place, Stand
from loopwatch._store.tasks import Fall, LoopTasks

from .creators import beginning

DESTROYED = "Task was destroyed but it is pending!"
UNRETRIEVED = " exception was never retrieved"
"""How that message ends: it begins with the name of the class, which may be the program's."""


class FallProbe:
    """Notes how each lost task of one loop was found to be lost."""

    def __init__(
        self, tasks: LoopTasks, contexts: ContextReader, journal: Journal, fell: Callable[[], None]
    ) -> None:
        self._tasks = tasks
        self._contexts = contexts
        self._journal = journal
        self._fell = fell

    def note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Note the task of an exception-handler context, if it has one of the two messages. Never raises.

        A message passed on to another loop's handler has already been noted by the first loop.
        """
        try:
            message = context.get("message")
            if message == DESTROYED:
                task, exception = context["task"], None
            elif isinstance(message, str) and message.endswith(UNRETRIEVED) and is_task(context["future"]):
                task = context["future"]
                exception = exception_of(task)
            else:
                return
            if loop_of(task) is loop and (exception is not None or message == DESTROYED):
                self._note(task, exception)
        except Exception as error:  # noqa: BLE001 - the program's own message must still arrive
            self._journal.failure("exceptions", error)

    def _note(self, task: Any, exception: BaseException | None) -> None:
        record = self._tasks.record_of(task)
        if record is None:
            stood = _stand(task, exception)
            site = self._beginning(task, stood)
            coroutine = site[0].co_qualname if coroutine_of(task) is None else function_of(task)
            started = values = None
        elif record.fall is None:
            stood = _stand(task, exception) or record.stood
            site, coroutine, started, values = record.origin
        else:  # somebody repeats what asyncio reported
            return
        fall = Fall(
            reason="destroyed_pending" if exception is None else "unretrieved_exception",
            site=site,
            coroutine=coroutine,
            started=started,
            name=name_of(task),
            stood=stood,
            values=self._contexts.of_task(task, values),
            error=None if exception is None else type(exception).__name__,
            record=record,
        )
        if record is not None:
            record.fall = fall
        self._tasks.fall(fall)
        self._fell()

    def _beginning(self, task: Any, stood: Stand | None) -> Place:
        """Return where the coroutine function begins, for a task that was not created through the loop."""
        begins = beginning(coroutine_of(task))
        if stood is not None and stood.places:
            code, _, module = stood.places[0]
            if begins is None or begins[0] is code:
                return code, 0, module  # a coroutine that has ended no longer tells the module
        return begins or self._tasks.sites.further.place


def _stand(task: Any, exception: BaseException | None) -> Stand | None:
    return stand_of(task) if exception is None else Stand(raised_in(exception), None)
