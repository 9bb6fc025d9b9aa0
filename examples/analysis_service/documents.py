"""Documents, and the id of the request that submitted one."""

from __future__ import annotations

import asyncio
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

from pydantic import BaseModel

request_id: ContextVar[str] = ContextVar("request_id", default="-")


class Submission(BaseModel):
    """What a client posts."""

    title: str
    sections: list[str]
    deep: bool = False
    """Ask the LLM for the probabilities of all tokens too: answers of 2 MB instead of 2 KB."""


@dataclass(eq=False)
class Document:
    """A submission on its way through the workflow."""

    submission: Submission
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    report: str = ""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the work on it has ended, successfully or not."""
