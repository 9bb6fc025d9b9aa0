"""The work behind a 202: ask, parse, report, store."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import httpx

from . import answers
from .documents import Document, request_id
from .index import Index
from .jobs import Jobs
from .llm import LLM, options
from .settings import Fault, Settings
from .store import Store

logger = logging.getLogger(__name__)

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Workflow:
    """Accepts documents and processes each to its end, in the background."""

    def __init__(self, settings: Settings) -> None:
        self.store = Store(settings.database)
        self._faults = settings.faults
        self._jobs = Jobs(settings.faults)
        self._deep_llm = LLM(settings, httpx.AsyncClient(**options(settings, 400)))
        few = 5 if Fault.POOL in settings.faults else 400
        self._quick_llm = LLM(settings, httpx.AsyncClient(**options(settings, few)))
        self._index = Index(self.store, self._jobs, settings.faults)
        # Ctrl-C reaches the workers too; they ignore it, and we shut them down.
        self._workers = ProcessPoolExecutor(
            max_workers=2,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_IGN),
        )

    async def serve(self) -> None:
        """Run the parts that run for as long as the service does."""
        await self._index.work()

    async def close(self) -> None:
        """Let the running jobs finish, then release everything."""
        if Fault.DEPLOY not in self._faults:
            await self._jobs.finish(timeout=300)  # seconds, which only a starved machine needs
            await self._deep_llm.close()
            await self._quick_llm.close()
        # Once the server is done, SIGTERM ends this process at once: the workers would be left behind.
        await asyncio.to_thread(self._workers.shutdown, cancel_futures=True)

    async def accept(self, document: Document) -> None:
        """Store ``document`` and begin to work on it."""
        await asyncio.to_thread(self.store.add, document)
        self._jobs.start(self._index_once_settled(document))
        self._jobs.start(self._run(document))

    async def _run(self, document: Document) -> None:
        try:
            document.report = await self._analyse(document)
            await self._settle(document, "Done")
        except Exception as error:
            if Fault.FORGET in self._faults:
                raise
            logger.warning("request %s: document %s: %r", request_id.get(), document.id, error)
            await self._settle(document, "Failed")

    async def _analyse(self, document: Document) -> str:
        submission = document.submission
        llm = self._deep_llm if submission.deep else self._quick_llm
        asked = [llm.ask(section, logprobs=submission.deep) for section in submission.sections]
        found = await self._parse(await asyncio.gather(*asked))
        await asyncio.to_thread(self.store.add_findings, document, found)
        return await self._merge(found)

    async def _parse(self, answered: list[bytes]) -> list[list[str]]:
        if Fault.JSON in self._faults:
            return answers.parse(answered)
        # One at a time: pickling all of them at once for the other process would take 90 ms.
        return [section for answer in answered for section in await self._in_worker(answers.parse, [answer])]

    async def _merge(self, found: list[list[str]]) -> str:
        if Fault.REPORT in self._faults:
            return answers.merge(found)
        return await self._in_worker(answers.merge, found)

    async def _in_worker(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """Call ``function`` in another process: it computes for long, and in a thread would hold the GIL."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, function, argument)

    async def _settle(self, document: Document, status: str) -> None:
        if Fault.CONTEXT in self._faults:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self.store.settle, document, status)
        else:
            await asyncio.to_thread(self.store.settle, document, status)
        document.settled.set()

    async def _index_once_settled(self, document: Document) -> None:
        await document.settled.wait()
        if document.report:
            self._index.add(document)
