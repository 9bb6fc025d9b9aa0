"""``redis.asyncio``: its pool, which is full or not, and the one that waits. redis-py 5.0 to 8.1.

The trespass: ``_in_use_connections`` and ``_available_connections``, and who waits for the ``_condition`` and
the ``_lock``: some versions open connections while they hold one of these, so that everybody waits for that.

A pool that is full refuses, unless it is a ``BlockingConnectionPool``. Not every version has a class for each
of these errors: they are known by their text.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._store.pools import Family, Outcome

from .acquires import Form
from .binding import Binding
from .protocol import PoolReader, Sample, live, place_of, snap

NO_LIMIT = 2**31
_OUTCOMES: dict[str, Outcome] = {
    "No connection available.": "timeout",
    "Too many connections": "rejected",
}


class RedisReader(PoolReader):
    """Reads pools of redis-py. What is held of one is a connection."""

    kind = "redis"
    family: ClassVar[Family] = "database"
    modules = ("redis.asyncio.connection",)

    def __init__(self) -> None:
        self._error: type[BaseException] | None = None
        self._records = False

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        self._records = hasattr(module, "record_connection_count")
        with binding.feature("gauges"):
            pool = binding.cls("ConnectionPool")
            binding.creates(pool)
        with binding.feature("waits"):
            self._error = binding.cls("ConnectionError")
            pool, blocking = binding.cls("ConnectionPool"), binding.cls("BlockingConnectionPool")
            binding.needs(blocking, "get_connection")
            waits: Any = blocking
            twice = "get_connection" in inspect.unwrap(waits.get_connection).__code__.co_names
            binding.acquires(pool, "get_connection", Form(pool=_unless(blocking) if twice else None))
            binding.acquires(blocking, "get_connection")
        with binding.feature("holders"):
            binding.cls("ConnectionPool")

    def label(self, pool: Any) -> str | None:
        """Return the server and the database; of one behind Sentinel the name of the service."""
        settings = pool.connection_kwargs
        service = getattr(pool, "service_name", None)
        host = settings.get("path") or settings.get("host") or service
        port = settings.get("port", 6379) if settings.get("host") else None
        return place_of(host, port, str(settings.get("db") or 0))

    def outcome(self, error: BaseException) -> Outcome | None:
        """See PoolReader."""
        if self._error is not None and isinstance(error, self._error):
            return _OUTCOMES.get(str(error))
        return super().outcome(error)

    def read(self, anchor: Any) -> Sample:
        """See PoolReader."""
        limit = anchor.max_connections
        condition, lock = getattr(anchor, "_condition", None), getattr(anchor, "_lock", None)
        waiters = [] if lock is None else [lock._waiters]
        if condition is not None:
            waiters += [condition._waiters, condition._lock._waiters]
        return Sample(
            max=None if limit >= NO_LIMIT else limit,
            used=len(anchor._in_use_connections),
            idle=len(anchor._available_connections),
            pending=live(*waiters),
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """See PoolReader."""
        return snap(anchor._in_use_connections)

    def exports(self) -> bool:
        """Whether the program has switched on redis-py's own metrics."""
        # Not its public function, which makes the one instance: another thread may be doing that.
        providers = sys.modules.get("redis.observability.providers")
        instance: Any = getattr(providers, "_observability_instance", None)
        return self._records and instance is not None and bool(instance.is_enabled())


def _unless(blocking: type) -> Any:
    """Return what leaves out the pools that wait: up to 5.0 they call the method that others have."""

    def pool_of(pool: Any, *_args: Any, **_options: Any) -> Any:
        return None if isinstance(pool, blocking) else pool

    return pool_of
