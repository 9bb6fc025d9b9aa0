"""The workers of arq: how many jobs they run, and how many they may. 0.26 to 0.28.

A worker takes only jobs that it has room for, so none wait inside it; those left in Redis are not known here.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

from loopwatch._store.pools import Family

from .binding import Binding
from .protocol import PoolReader, Sample


class ArqReader(PoolReader):
    """Reads workers."""

    kind = "arq"
    family: ClassVar[Family] = "executor"
    modules = ("arq.worker",)

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            worker = binding.cls("Worker")
            binding.creates(worker)
            binding.uses(worker, "start_jobs")

    def label(self, pool: Any) -> str | None:
        """Return the name of the queue."""
        return str(pool.queue_name)

    def read(self, anchor: Any) -> Sample:
        """See PoolReader."""
        limit, used = anchor.max_jobs, anchor.job_counter
        return Sample(max=limit, used=used, idle=limit - used)
