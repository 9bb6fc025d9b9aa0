"""psycopg_pool, for coroutines and for threads. 3.1 to 3.3.

The trespass: ``_waiting`` of pools, where clients stay after their timeout, so that the library's own
``requests_waiting`` also counts clients that have left; ``_pool`` of connections, which is their pool while
they are out. A pool does not track what is out: that is what was given out and has not come back.

A connection that is broken when it comes back still names the pool, although the pool has discarded it. A
connection that is dropped instead of returned leaves its slot taken. So returns are recorded, for both cases.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._internals.patches import hide_caller, like
from loopwatch._store.pools import Family, Outcome

from .acquires import Form
from .binding import Binding
from .given import given_out, note_given
from .listeners import listens
from .lost import comes_back, lost_by, watch_over
from .protocol import PoolReader, Sample, place_of, snap

_POOLS = {"AsyncConnectionPool": True, "ConnectionPool": False}
"""The base classes of all pools, and whether their acquire is awaited."""


class PsycopgPoolReader(PoolReader):
    """Reads pools of PostgreSQL connections. What is held is a connection."""

    kind = "psycopg_pool"
    family: ClassVar[Family] = "database"
    modules = ("psycopg_pool",)

    def __init__(self) -> None:
        self._outcomes: dict[type, Outcome] = {}
        self._binding: Binding | None = None

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        self._binding = binding
        with binding.feature("gauges"):
            for name in _POOLS:
                pool = binding.cls(name)
                binding.needs(pool, "get_stats")
                binding.creates(pool)
        with binding.feature("waits"):
            self._outcomes = {
                binding.cls("PoolTimeout"): "timeout",
                binding.cls("TooManyRequests"): "rejected",
            }
            for name, awaited in _POOLS.items():
                form = Form(awaited=awaited, notes=_note)
                binding.acquires(binding.cls(name), "getconn", form, parameters=("timeout",))
        with binding.feature("holders"):
            for name in _POOLS:
                gives_back = functools.partial(_gives_back, binding)
                binding.wrap(binding.cls(name), "putconn", gives_back, ("conn",))

    def noted(self, pool: Any) -> None:
        """Note whether all that the pool has given out is known: only if it has given out nothing so far."""
        pool._loopwatch_all_known = not pool.get_stats().get("requests_num")

    def label(self, pool: Any) -> str | None:
        """Return its name if the program gave it one, else the server and the database of its DSN."""
        name = str(pool.name)  # the program may have passed any object
        made_up = name.startswith("pool-") and name.rpartition("-")[2].isdigit()
        return _database(pool) if made_up else name

    def outcome(self, error: BaseException) -> Outcome | None:
        """See PoolReader."""
        return self._outcomes.get(type(error)) or super().outcome(error)

    def read(self, anchor: Any) -> Sample:
        """See PoolReader. The pool's size includes connections being opened or, before it is open, yet to be.

        Hence ``used`` is an upper bound for a pool that gave out connections before us.
        """
        stats = anchor.get_stats()
        idle = stats["pool_available"]
        used, connecting = stats["pool_size"] - idle, None
        if self._binding is not None and self._binding.on and anchor._loopwatch_all_known:
            out = len(list(self.holders(anchor)))
            used, connecting = out, 0 if anchor.closed else max(0, used - out)
        pending = sum(client.conn is None and client.error is None for client in snap(anchor._waiting))
        return Sample(
            max=stats["pool_max"] or None, used=used, idle=idle, connecting=connecting, pending=pending
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the connections that were given out and did not come back, including lost ones."""
        out = [
            connection
            for connection in given_out(anchor)
            if connection._pool is anchor and not hasattr(connection, "_loopwatch_discarded")
        ]
        return [*out, *lost_by(anchor)]

    def lasting(self, anchor: Any) -> Iterable[object]:
        """Return the connections that listen."""
        return [connection for connection in given_out(anchor) if listens(connection)]


def _gives_back(binding: Binding, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the wrapper of ``putconn``."""

    @functools.wraps(original)
    def putconn(self: Any, conn: Any, *args: Any, **kwargs: Any) -> Any:
        binding.given(_come_back, self, conn)
        try:
            return original(self, conn, *args, **kwargs)
        except BaseException as error:
            hide_caller(error)
            raise

    return like(original, putconn)


def _come_back(pool: Any, connection: Any) -> None:
    if connection._pool is pool:
        comes_back(pool, connection)
        if connection.closed:
            connection._loopwatch_discarded = True


def _note(pool: Any, connection: Any) -> None:
    note_given(pool, connection)
    watch_over(pool, connection)


def _database(pool: Any) -> str | None:
    """Return the server and the database that a pool connects to, if its own settings tell."""
    conninfo, keywords = pool.conninfo, pool.kwargs
    if not isinstance(conninfo, str) or not isinstance(keywords or {}, dict):
        return None  # from psycopg_pool 3.3 on these may be functions
    psycopg = sys.modules["psycopg"]
    try:
        options = psycopg.conninfo.conninfo_to_dict(conninfo, **(keywords or {}))
    except psycopg.ProgrammingError:
        return None  # the program will hear of it when it connects
    return place_of(options.get("host"), options.get("port"), options.get("dbname"))
