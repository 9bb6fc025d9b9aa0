"""A share of a core that work may take: after a round, the next one waits until its cost is paid off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loopwatch._clock import Clock


class Budget:
    """Keeps the work of one thread to a share of a core on average."""

    def __init__(self, share: float, clock: Clock) -> None:
        self._share = share
        self._clock = clock
        self._paid_off_at = 0.0

    @property
    def allows(self) -> bool:
        """Whether what was spent before is paid off."""
        return self._clock.monotonic() >= self._paid_off_at

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Charge the CPU time of the block."""
        now, began = self._clock.monotonic(), self._clock.thread_cpu()
        try:
            yield
        finally:
            self._paid_off_at = now + (self._clock.thread_cpu() - began) / self._share
