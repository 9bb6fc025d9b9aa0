"""Asks the LLM, over httpx."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from .settings import Fault, Settings


def options(settings: Settings, connections: int) -> dict[str, Any]:
    """Return the arguments for an httpx client of the LLM."""
    return {
        "base_url": settings.llm_url,
        "limits": httpx.Limits(max_connections=connections),
        "timeout": httpx.Timeout(120.0, pool=5.0 / settings.scale),
    }


class LLM:
    """A client of the LLM's completion endpoint; waits and asks again when told to slow down."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        self._faults = settings.faults
        self._client = client

    async def ask(self, section: str, *, logprobs: bool) -> bytes:
        """Return the LLM's answer on ``section``, as unparsed JSON."""
        question = {"messages": [{"role": "user", "content": section}], "logprobs": logprobs}
        while True:
            response = await self._client.post("/v1/chat/completions", json=question)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return response.raise_for_status().content
            delay = int(response.headers["retry-after-ms"]) / 1000
            if Fault.RETRY in self._faults:
                time.sleep(delay)
            else:
                await asyncio.sleep(delay)

    async def close(self) -> None:
        await self._client.aclose()
