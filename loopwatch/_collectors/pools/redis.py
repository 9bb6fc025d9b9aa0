"""``redis.asyncio``: its pool that refuses when full, and its pool that waits. redis-py 5.0 to 8.1.

The trespass: ``_in_use_connections`` and ``_available_connections``, and the waiters of the ``_condition``
and the ``_lock``: some versions open connections while holding one of these, so that all callers wait.

A full pool refuses, unless it is a ``BlockingConnectionPool``. Not every version has a class of its own for
each of these errors, so they are recognised by their text.

Since 7.2 redis-py has its own metrics, which a program may switch on in groups. We withhold those of our
facts that redis-py's own connection module records in the groups that are on.
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
    """Reads pools of redis-py. What is held is a connection."""

    kind = "redis"
    family: ClassVar[Family] = "database"
    modules = ("redis.asyncio.connection",)

    def __init__(self) -> None:
        self._error: type[BaseException] | None = None
        self._records: tuple[tuple[str, str], ...] = ()

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        self._records = tuple(
            (group, stem) for group, recorder, stem in _OWN_METRICS if hasattr(module, recorder)
        )
        with binding.feature("gauges"):
            binding.creates(binding.cls("ConnectionPool"), unless=_is_of_sentinel)
        with binding.feature("waits"):
            self._error = binding.cls("ConnectionError")
            pool, blocking = binding.cls("ConnectionPool"), binding.cls("BlockingConnectionPool")
            binding.needs(blocking, "get_connection")
            waits: Any = blocking
            twice = "get_connection" in inspect.unwrap(waits.get_connection).__code__.co_names
            own = ("self",)
            plain = Form(pool=_unless(blocking) if twice else None)
            binding.acquires(pool, "get_connection", plain, parameters=own)
            binding.acquires(blocking, "get_connection", parameters=own)
        with binding.feature("holders"):
            binding.cls("ConnectionPool")

    def label(self, pool: Any) -> str | None:
        """Return the server and the database; with Sentinel, the service in place of the server."""
        settings = pool.connection_kwargs
        database = settings.get("db") or 0
        if _is_of_sentinel(pool):
            return place_of(pool.service_name, None if pool.is_master else "replicas", database)
        host = settings.get("path") or settings.get("host")
        port = settings.get("port", 6379) if settings.get("host") else None
        return place_of(host, port, str(database))

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

    def lasting(self, anchor: Any) -> Iterable[object]:
        """Return the connections of pub/sub, which registers a reconnect callback with each of them."""
        pubsub = getattr(sys.modules.get("redis.asyncio.client"), "PubSub", ())
        return [
            connection
            for connection in snap(anchor._in_use_connections)
            if any(isinstance(getattr(ref(), "__self__", None), pubsub) for ref in _callbacks(connection))
        ]

    def exports(self) -> frozenset[str]:
        """Return the facts that redis-py's own metrics replace, if the program has switched them on."""
        # The public function would create the singleton, and another thread may be doing so.
        providers = sys.modules.get("redis.observability.providers")
        instance: Any = getattr(providers, "_observability_instance", None)
        manager = None if instance is None else instance.get_provider_manager()
        if manager is None or not manager.config.is_enabled():
            return frozenset()
        groups = manager.config.metric_groups
        return frozenset(stem for group, stem in self._records if type(groups)[group] in groups)


_OWN_METRICS = (
    ("CONNECTION_BASIC", "record_connection_count", "database_connections"),
    ("CONNECTION_ADVANCED", "record_connection_wait_time", "database_wait"),
    ("CONNECTION_ADVANCED", "record_connection_timeout", "database_timeouts"),
)
"""A group of redis-py's metrics, the function that records one of its metrics, and our fact for the same. Up
to 8.1 the last function exists but is never called."""


def _is_of_sentinel(pool: Any) -> bool:
    """Whether a pool uses Sentinel: it then has no name yet when its ``__init__`` ends."""
    return hasattr(type(pool), "get_master_address")


def _callbacks(connection: Any) -> list[Any]:
    return snap(getattr(connection, "_connect_callbacks", ()))


def _unless(blocking: type) -> Any:
    """Return a function that ignores the pools that wait: up to 5.0 they call the plain pool's method."""

    def pool_of(pool: Any, *_args: Any, **_options: Any) -> Any:
        return None if isinstance(pool, blocking) else pool

    return pool_of
