"""What users of each library call its pool, and which setting changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loopwatch._agent_records import Pool
from loopwatch._measures import Distribution

from .rule import View


@dataclass(frozen=True, slots=True)
class Library:
    """The words for pools of one kind."""

    name: str
    """As in "the httpx pool"."""
    limit: str
    """The argument that bounds the pool."""
    written: str
    """That argument, as written in code."""
    client: str
    """The object that owns the pool: to be created once, and used for everything."""
    facts: Literal["pool", "database", "executor"]
    """The prefix of its facts' stems."""
    turns_away: str = ""
    """What to do so that the pool lets callers wait instead of turning them away."""


def _http(package: str) -> Library:
    written = f"limits={package}.Limits(max_connections=...)"
    return Library(package, "max_connections", written, f"{package}.AsyncClient", "pool")


def _mysql(package: str) -> Library:
    return Library(package, "maxsize", f"{package}.create_pool(maxsize=...)", f"{package} pool", "database")


LIBRARIES: Mapping[str, Library] = {
    "httpcore": _http("httpx"),
    "httpcore2": _http("httpx2"),
    "aiohttp": Library(
        "aiohttp",
        "limit",
        "connector=aiohttp.TCPConnector(limit=..., limit_per_host=...)",
        "aiohttp.ClientSession",
        "pool",
    ),
    "sqlalchemy": Library(
        "SQLAlchemy",
        "pool_size + max_overflow",
        "create_engine(..., pool_size=..., max_overflow=...)",
        "SQLAlchemy engine",
        "database",
    ),
    "asyncpg": Library("asyncpg", "max_size", "create_pool(max_size=...)", "asyncpg pool", "database"),
    "psycopg_pool": Library(
        "psycopg",
        "max_size",
        "AsyncConnectionPool(max_size=...)",
        "psycopg pool",
        "database",
        "raise max_waiting, the number of callers that may wait",
    ),
    "redis": Library(
        "redis",
        "max_connections",
        "Redis(max_connections=...)",
        "Redis client",
        "database",
        "use a redis.asyncio.BlockingConnectionPool, which lets them wait",
    ),
    "pymongo": Library(
        "MongoDB", "maxPoolSize", "AsyncMongoClient(maxPoolSize=...)", "AsyncMongoClient", "database"
    ),
    "aiomysql": _mysql("aiomysql"),
    "asyncmy": _mysql("asyncmy"),
    "aio_pika": Library("aio-pika", "max_size", "Pool(..., max_size=...)", "aio_pika Pool", "pool"),
    "thread_pool": Library(
        "thread pool", "max_workers", "ThreadPoolExecutor(max_workers=...)", "ThreadPoolExecutor", "executor"
    ),
    "process_pool": Library(
        "process pool",
        "max_workers",
        "ProcessPoolExecutor(max_workers=...)",
        "ProcessPoolExecutor",
        "executor",
    ),
    "anyio": Library(
        "anyio", "total_tokens", "anyio.CapacityLimiter(total_tokens=...)", "anyio.CapacityLimiter", "pool"
    ),
}
"""By kind."""
JOB_RUNNERS = frozenset(("arq", "taskiq"))
"""Kinds that are never short: running as many jobs as allowed, while others wait, is their purpose."""


def library_of(kind: str) -> Library:
    """Return the words for a kind; generic ones for an unknown kind."""
    return LIBRARIES.get(kind) or Library(kind, "its limit", "", f"{kind} pool", "pool")


def higher(pool: Pool, limit: str | None = None) -> str:
    """Write how to raise the limit of a pool, or of each of several that are added up.

    ``limit`` names a limit other than the usual one; its value is not known. Nor are the limits of pools that
    are not all of the same size.
    """
    library = library_of(pool.kind)
    size, rest = divmod(pool.max or 0, max(1, pool.instances))
    above = f" above {size}" if size and not rest and limit is None else ""
    each = f" in each of the {pool.instances} pools" if pool.instances > 1 else ""
    written = f" ({library.written})" if library.written else ""
    return f"raise {limit or library.limit}{above}{each}{written}"


class Waits:
    """The waits that ended in the window."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._found: dict[str, Mapping[tuple[str, ...], Distribution]] = {}

    def of(self, pool: Pool) -> Distribution | None:
        """Return the waits for a pool; None if there were none, or they are not known."""
        facts = library_of(pool.kind).facts
        if facts not in self._found:
            self._found[facts] = self._view.distributions(f"{facts}_wait")
        return self._found[facts].get((pool.label, pool.kind) if facts == "pool" else (pool.label,))
