"""``python -m clients URL``: the demo's clients, at a pace that a busy machine can keep up with.

200 documents come at once before the last 200 are done, so that a pool that is too small stays full.
"""

from __future__ import annotations

import asyncio
import sys

from analysis_service.load import Clients


async def send(url: str) -> None:
    """Send until we are killed."""
    clients = Clients(url)
    async with asyncio.TaskGroup() as group:
        group.create_task(clients.big_documents(every=15.0))
        group.create_task(clients.batches(0.5, every=15.0))
        group.create_task(clients.report(every=1.0))


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
