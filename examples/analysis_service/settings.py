"""The service's configuration: where things are, and which mistakes to make."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Fault(Enum):
    """A mistake that real services make. Without it, the service does the same thing correctly."""

    JSON = "parses the answers, 2 MB each, on the event loop instead of in another process"
    REPORT = "compares the findings in pure Python on the event loop instead of in another process"
    RETRY = "waits with time.sleep when the LLM says 429"
    POOL = "sends 200 jobs through an httpx pool of 5 connections"
    FORGET = "starts background tasks that nobody holds and whose exceptions nobody reads"
    CONTEXT = "loses the request id on the way through an executor and a queue worker"
    DEPLOY = "shuts down without waiting for background jobs"

    @classmethod
    def parse(cls, text: str) -> frozenset[Fault]:
        """Parse ``all``, ``none`` or names separated by commas; a ValueError names an unknown one."""
        if text in ("all", "none"):
            return frozenset(cls) if text == "all" else frozenset()
        known = {fault.name.lower(): fault for fault in cls}
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise ValueError(f"no fault is called {name!r}; known are all, none, {', '.join(known)}")
        return frozenset(known[name] for name in names)


@dataclass(frozen=True)
class Settings:
    """All settings; ``from_environ`` reads them from ``ANALYSIS_*``."""

    llm_url: str = "http://127.0.0.1:8001"
    database: Path = Path("analysis.db")
    scale: float = 1.0
    """The factor by which the LLM is faster than a real one: its latencies, and our timeouts for it."""
    faults: frozenset[Fault] = frozenset()

    @classmethod
    def from_environ(cls) -> Settings:
        return cls(
            llm_url=os.environ.get("ANALYSIS_LLM_URL", cls.llm_url),
            database=Path(os.environ.get("ANALYSIS_DATABASE", cls.database)),
            scale=float(os.environ.get("ANALYSIS_SCALE", cls.scale)),
            faults=Fault.parse(os.environ.get("ANALYSIS_FAULTS", "none")),
        )
