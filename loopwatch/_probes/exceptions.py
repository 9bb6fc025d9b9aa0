"""Probe of tasks that fall: ``call_exception_handler`` of the loop classes, where asyncio reports them.

It is called from the task's finaliser, the last moment at which its context and its exception still stand.
Its coroutine the garbage collector has closed before: where a pending task stood is known from an earlier
look at it, if there was one. The program's own message comes as it would: the original is always called.
"""

from __future__ import annotations

from typing import Any

from loopwatch._context.reader import ContextReader
from loopwatch._internals.await_chain import stand_of
from loopwatch._internals.futures import name_of
from loopwatch._internals.interpreter import raised_in
from loopwatch._internals.tasks import exception_of
from loopwatch._journal import Journal
from loopwatch._places import Stand
from loopwatch._store.tasks import Fall, LoopTasks

DESTROYED = "Task was destroyed but it is pending!"
UNRETRIEVED = "Task exception was never retrieved"


class FallProbe:
    """Notes how each lost task of one loop was found."""

    def __init__(self, tasks: LoopTasks, contexts: ContextReader, journal: Journal) -> None:
        self._tasks = tasks
        self._contexts = contexts
        self._journal = journal

    def note(self, context: dict[str, Any]) -> None:
        """Note the task of an exception-handler context, if it is one of the two messages. Never raises."""
        message = context.get("message")
        if message not in (DESTROYED, UNRETRIEVED):
            return
        try:
            self._note(context["task"] if "task" in context else context["future"], message)
        except Exception as error:  # noqa: BLE001 - the program's own message must come
            self._journal.failure("exceptions", error)

    def _note(self, task: Any, message: str) -> None:
        tasks, key = self._tasks, id(task)
        record = tasks.live.get(key) or tasks.failed.get(key)
        if record is None:
            return
        exception = exception_of(task) if message == UNRETRIEVED else None
        record.fall = Fall(
            reason="destroyed_pending" if exception is None else "unretrieved_exception",
            name=name_of(task),
            stood=stand_of(task) or record.stood if exception is None else Stand(raised_in(exception), None),
            values=self._contexts.of_task(task, record.values),
            error=type(exception).__name__ if exception is not None else None,
        )
        if exception is not None:
            tasks.fall(record)
