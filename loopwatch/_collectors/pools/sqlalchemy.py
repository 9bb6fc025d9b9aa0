"""SQLAlchemy, sync and async. 1.4 to 2.1.

The trespass: ``_ConnectionRecord.checkout``, which every acquire passes once, in whichever greenlet;
``_overflow`` and the queue of ``QueuePool``. An async pool creates its queue on first access, also through
``checkedin()`` and ``status()``: called in another thread, these would create a second one, so the attribute
is read directly. A pool does not track what is out: that is what was given out and has not come back. What
the pool counts beyond that is being opened.

A pool is registered when it opens its first connection. The ``__init__`` of pools and engines cannot be
wrapped: ``create_engine`` inspects its code for the arguments to pass on.

Pools without a queue (``NullPool``, ``StaticPool``) have no gauges; their waits are only for the server.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._internals.patches import hide_caller
from loopwatch._store.pools import Family, Outcome

from .acquires import Form
from .binding import Binding
from .given import given_out, note_given
from .listeners import listens
from .protocol import PoolReader, Sample, Unsupported, live, place_of, snap


class SqlalchemyReader(PoolReader):
    """Reads pools of engines. What is held is the record of a connection."""

    kind = "sqlalchemy"
    family: ClassVar[Family] = "database"
    modules = ("sqlalchemy.pool.impl",)

    def __init__(self) -> None:
        self._queue_pool: type = object
        self._timeout: type[BaseException] | None = None
        self._binding: Binding | None = None

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        self._binding = binding
        with binding.feature("gauges"):
            self._queue_pool = binding.cls("QueuePool")
            binding.needs(self._queue_pool, "size")
            binding.needs(binding.cls("AsyncAdaptedQueue", within=module.sqla_queue), "_queue")
            binding.wrap(
                binding.cls("_ConnectionRecord"),
                "__init__",
                functools.partial(_connects, binding),
                parameters=("pool",),
            )
        with binding.feature("waits"):
            self._timeout = binding.cls("TimeoutError", within=module.exc)
            form = Form(awaited=False, pool="pool", thing="_connection_record", notes=note_given)
            binding.acquires(binding.cls("_ConnectionRecord"), "checkout", form, parameters=("pool",))
        with binding.feature("holders"):
            binding.needs(binding.cls("_ConnectionRecord"), "in_use")

    def noted(self, pool: Any) -> None:
        """Note whether all that the pool has given out is known: only if it has given out nothing so far."""
        pool._loopwatch_all_known = False  # disregards what a previous agent noted
        sample = None if self._binding is None else self._binding.sample(pool)
        pool._loopwatch_all_known = sample is not None and sample.used == 0

    def label(self, pool: Any) -> str | None:
        """Return its ``pool_logging_name``, else the kind of database, the server and the database's name."""
        if pool._orig_logging_name:
            return str(pool._orig_logging_name)
        database = _database(pool._creator)
        return None if database is None else f"{pool._dialect.name}://{database}"

    def outcome(self, error: BaseException) -> Outcome | None:
        """See PoolReader."""
        if self._timeout is not None and isinstance(error, self._timeout):
            return "timeout"
        return super().outcome(error)

    def read(self, anchor: Any) -> Sample:
        """See PoolReader. If a pool gave out connections before us, those being opened count as in use."""
        if not issubclass(type(anchor), self._queue_pool):
            return Sample()
        size, beyond = anchor.size(), anchor._max_overflow
        idle, pending = _queued(anchor._pool)
        used, connecting = size - idle + anchor._overflow, None
        all_known = getattr(anchor, "_loopwatch_all_known", False)
        if all_known and self._binding is not None and self._binding.on:
            out = len(list(self.holders(anchor)))
            used, connecting = out, max(0, used - out)
        return Sample(
            max=None if beyond < 0 else size + beyond,
            used=used,
            idle=idle,
            pending=pending,
            connecting=connecting,
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the records of the connections that were given out and did not come back."""
        return [record for record in given_out(anchor) if record.in_use]

    def lasting(self, anchor: Any) -> Iterable[object]:
        """Return the records of the connections that listen, by their driver's account."""
        return [record for record in given_out(anchor) if listens(record.driver_connection)]


def _connects(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return the wrapper of ``_ConnectionRecord.__init__``, which opens a connection."""

    @functools.wraps(original)
    def create(self: Any, pool: Any, *args: Any, **kwargs: Any) -> None:
        binding.made(pool)
        try:
            original(self, pool, *args, **kwargs)
        except BaseException as error:
            hide_caller(error)
            raise

    return create


def _queued(queue: Any) -> tuple[int, int]:
    """Return how many connections are in a queue of either kind, and how many callers wait for one."""
    parts = vars(queue)
    if "queue" in parts:
        return len(parts["queue"]), len(snap(parts["not_empty"]._waiters))
    if not hasattr(type(queue), "_queue"):
        raise Unsupported(f"{type(queue).__qualname__} is of no kind that is known")
    inner = parts.get("_queue")  # absent before its first use
    return (0, 0) if inner is None else (inner.qsize(), live(inner._getters))


def _database(creator: Any) -> str | None:
    """Return the server and the database that a pool's ``creator`` connects to.

    ``create_engine`` gives its pool a closure over the arguments of ``connect()``, which ``dispose()`` passes
    on to the next pool. These arguments include the password: only host, port and database are read.
    """
    names = getattr(getattr(creator, "__code__", None), "co_freevars", ())
    if "cparams" not in names:
        return None
    arguments = creator.__closure__[names.index("cparams")].cell_contents
    database = arguments.get("database") or arguments.get("dbname") or arguments.get("db")
    return place_of(arguments.get("host"), arguments.get("port"), database)
