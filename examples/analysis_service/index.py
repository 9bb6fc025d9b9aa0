"""Makes finished reports searchable: a queue, and a worker that lives as long as the service."""

from __future__ import annotations

import asyncio
import contextvars
import logging

from .documents import Document, request_id
from .jobs import Jobs
from .settings import Fault
from .store import Store

logger = logging.getLogger(__name__)


class Index:
    """The worker's own context is that of the start-up, so a document's context must travel with it."""

    def __init__(self, store: Store, jobs: Jobs, faults: frozenset[Fault]) -> None:
        self._store = store
        self._jobs = jobs
        self._faults = faults
        self._queue: asyncio.Queue[tuple[contextvars.Context, Document]] = asyncio.Queue()

    def add(self, document: Document) -> None:
        self._queue.put_nowait((contextvars.copy_context(), document))

    async def work(self) -> None:
        while True:
            context, document = await self._queue.get()
            carried = None if Fault.CONTEXT in self._faults else context
            self._jobs.start(self._write(document), context=carried)

    async def _write(self, document: Document) -> None:
        await asyncio.to_thread(self._store.add_words, document)
        logger.info("request %s: document %s is searchable", request_id.get(), document.id)
