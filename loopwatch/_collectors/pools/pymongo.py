"""PyMongo's asynchronous client, which has one pool per server. 4.13 to 4.20.

The trespass: ``Pool._get_conn``, and the waiters of a pool's two conditions: first for fewer connections in
use, then for fewer being opened. ``active_sockets`` counts all callers that are past the first.

PyMongo's event listeners are fixed when a client is created, so they would miss clients from before us. There
is no set of the connections in use, only of the cancel contexts by which each of them can be interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._store.pools import Family, Outcome

from .acquires import Form
from .binding import Binding
from .protocol import PoolReader, Sample, live, place_of, snap


class PymongoReader(PoolReader):
    """Reads pools of PyMongo. What is held is the cancel context of a connection."""

    kind = "pymongo"
    family: ClassVar[Family] = "database"
    modules = ("pymongo.asynchronous.pool",)

    def __init__(self) -> None:
        self._timeout: type[BaseException] | None = None

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            binding.creates(binding.cls("Pool"))
        with binding.feature("waits"):
            self._timeout = binding.cls("WaitQueueTimeoutError", sys.modules.get("pymongo.errors"))
            form = Form(thing="cancel_context")
            binding.acquires(binding.cls("Pool"), "_get_conn", form, parameters=("self",))
        with binding.feature("holders"):
            binding.cls("Pool")

    def anchor(self, pool: Any) -> Any:
        """Return the pool; None for the pools of monitors, which have a single connection."""
        return None if pool.is_sdam else pool

    def label(self, pool: Any) -> str | None:
        """Return the server."""
        return place_of(*pool.address)

    def outcome(self, error: BaseException) -> Outcome | None:
        """See PoolReader."""
        if self._timeout is not None and isinstance(error, self._timeout):
            return "timeout"
        return super().outcome(error)

    def read(self, anchor: Any) -> Sample:
        """See PoolReader."""
        limit, connecting = anchor.max_pool_size, anchor._pending
        to_use, to_connect = anchor.size_cond._waiters, anchor._max_connecting_cond._waiters
        return Sample(
            max=None if limit == float("inf") else limit,
            used=anchor.active_sockets - connecting - live(to_connect),
            idle=len(anchor.conns),
            connecting=connecting,
            pending=live(to_use, to_connect, anchor.lock._waiters),
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """See PoolReader."""
        return snap(anchor.active_contexts)
