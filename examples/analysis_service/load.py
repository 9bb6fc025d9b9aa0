"""The clients: big documents at a steady pace, and now and then 200 small ones at once.

``python -m analysis_service.load http://127.0.0.1:8000``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
import uuid

import httpx

from .documents import Submission
from .standin import answer

PARSE_SECONDS = 0.3
"""How long parsing all answers to one big document is to take, with ``json.loads``."""
TRIED_SECONDS = 0.1
"""For how long that is measured: several clock ticks even where these are coarse, as on Windows."""
BATCH = 200
CONNECTIONS = 50


def sections() -> int:
    """Return the number of sections that a document needs for PARSE_SECONDS: more on a faster machine."""
    sample = answer(random.Random(7), logprobs=True)
    parsed, took = 0, 0.0
    start = time.process_time()  # CPU time: on a busy machine the same work takes longer
    while took < TRIED_SECONDS:
        json.loads(sample)
        parsed, took = parsed + 1, time.process_time() - start
    return math.ceil(PARSE_SECONDS * parsed / took)


class Clients:
    """Sends documents, and records what a client can see."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=CONNECTIONS)
        self._http = httpx.AsyncClient(base_url=url, timeout=60, limits=limits)
        # httpx's pool looks at all waiting requests on each change: with a thousand that takes all of our
        # time, until they give up.
        self._turn = asyncio.Semaphore(CONNECTIONS)
        self._sent = 0
        self._accepted = 0
        self._slowest = 0.0

    async def big_documents(self, every: float) -> None:
        """Send one after the other, whether or not the last one is done."""
        big = Submission(title="contract", sections=[f"§ {n}" for n in range(1, sections() + 1)], deep=True)
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._send(big))
                await asyncio.sleep(every)

    async def batches(self, first: float, every: float) -> None:
        """Send ``BATCH`` small documents at once, again and again."""
        small = Submission(title="note", sections=["all of it"])
        await asyncio.sleep(first)
        async with asyncio.TaskGroup() as group:
            while True:
                for _ in range(BATCH):
                    group.create_task(self._send(small))
                await asyncio.sleep(every)

    async def report(self, every: float) -> None:
        """Print a line now and then: what was sent, and how long the slowest 202 since the last line took."""
        while True:
            await asyncio.sleep(every)
            counts = f"{self._sent} sent, {self._accepted} accepted"
            print(f"{counts}, slowest 202 {self._slowest:.2f} s", flush=True)
            self._slowest = 0.0

    async def _send(self, submission: Submission) -> None:
        self._sent += 1
        start = time.perf_counter()
        headers = {"x-request-id": uuid.uuid4().hex}
        try:
            async with self._turn:
                response = await self._http.post("/documents", json=submission.model_dump(), headers=headers)
        except httpx.ConnectError:
            raise  # nobody listens any more
        except httpx.TransportError:
            return  # the service is slow, or has just closed an idle connection
        response.raise_for_status()
        self._accepted += 1
        self._slowest = max(self._slowest, time.perf_counter() - start)


async def run(url: str, first_batch: float) -> None:
    """Send until the service is gone."""
    clients = Clients(url)
    async with asyncio.TaskGroup() as group:
        group.create_task(clients.big_documents(every=2.0))
        group.create_task(clients.batches(first_batch, every=15.0))
        group.create_task(clients.report(every=1.0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis_service.load", description=__doc__)
    parser.add_argument("url", help="the service's")
    parser.add_argument("--first-batch", type=float, default=8.0, help="seconds until 200 notes come at once")
    options = parser.parse_args()
    try:
        asyncio.run(run(options.url, options.first_batch))
    except* httpx.ConnectError:
        print("the service is gone")
    except* KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
