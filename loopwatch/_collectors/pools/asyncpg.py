"""asyncpg. 0.29 to 0.32.

The trespass: ``Pool._acquire``, which every acquire passes; the pool's queue of free connection holders;
``_con``, ``_in_use`` and ``_proxy`` of holders. A pool cannot be weakly referenced, but its queue can: it
lives as long as the pool, and we attach the list of holders to it.

A timeout covers the whole acquire, so it may be due to the server rather than the pool.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._internals.patches import hide_caller
from loopwatch._store.pools import Family, Outcome

from .binding import Binding
from .listeners import listens
from .protocol import PoolReader, Sample, live, place_of, snap


class AsyncpgReader(PoolReader):
    """Reads pools of PostgreSQL connections. What is held is asyncpg's proxy of a connection."""

    kind = "asyncpg"
    family: ClassVar[Family] = "database"
    modules = ("asyncpg.pool",)
    anchored: ClassVar[str | None] = "_queue"  # created when the pool is initialised

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            binding.needs(binding.cls("PoolConnectionHolder"), "_con", "_in_use", "is_connected")
            binding.needs(binding.cls("Pool"), "_queue", "_holders")
            binding.wrap(binding.cls("Pool"), "_initialize", functools.partial(_initializes, binding))
        with binding.feature("waits"):
            binding.acquires(binding.cls("Pool"), "_acquire", parameters=("timeout",))
        with binding.feature("holders"):
            binding.needs(binding.cls("PoolConnectionHolder"), "_in_use", "_proxy")

    def noted(self, pool: Any) -> None:
        """Attach the holders to the queue. They refer to the pool, so they live no longer than it does."""
        pool._queue._loopwatch_holders = pool._holders

    def label(self, pool: Any) -> str | None:
        """Return the server and the database of one of its connections."""
        connections = [holder._con for holder in snap(pool._holders)]
        connection: Any = next((one for one in connections if one is not None), None)
        if connection is None:
            return None
        address, database = connection._addr, connection._params.database
        host, port = address if isinstance(address, tuple) else (address, None)  # or a Unix socket's path
        return place_of(host, port, database)

    def outcome(self, error: BaseException) -> Outcome | None:
        """See PoolReader."""
        return "timeout" if isinstance(error, TimeoutError) else super().outcome(error)

    def read(self, anchor: Any) -> Sample:
        """See PoolReader. Each holder is counted once, whatever happens to it meanwhile."""
        free = set(map(id, snap(anchor._queue)))
        used = idle = connecting = 0
        for holder in snap(anchor._loopwatch_holders):
            if holder._in_use is not None:
                used += 1
            elif id(holder) not in free:
                connecting += 1
            elif holder.is_connected():
                idle += 1
        return Sample(
            max=anchor.maxsize, used=used, idle=idle, connecting=connecting, pending=live(anchor._getters)
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the proxies of the connections that are out."""
        return [holder._proxy for holder in snap(anchor._loopwatch_holders) if holder._in_use is not None]

    def lasting(self, anchor: Any) -> Iterable[object]:
        """Return the proxies of the connections that listen."""
        return [holder._proxy for holder in snap(anchor._loopwatch_holders) if listens(holder._con)]


def _initializes(binding: Binding, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the wrapper of ``Pool._initialize``: once that has returned, the pool can be read."""

    @functools.wraps(original)
    async def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            await original(self, *args, **kwargs)
        except BaseException as error:
            hide_caller(error)
            raise
        binding.made(self)

    return initialize
