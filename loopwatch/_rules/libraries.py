"""What users of each library call its pool, and what they write to change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loopwatch._measures import Distribution
from loopwatch._records import Pool

from .rule import View


@dataclass(frozen=True, slots=True)
class Library:
    """The words for pools of one kind."""

    name: str
    """As in "the httpx pool"."""
    limit: str
    """The argument that bounds it."""
    written: str
    """That argument, as it stands in code."""
    client: str
    """What has the pool: to be made once, and used for all."""
    facts: Literal["pool", "database", "executor"]
    """How the names of its facts begin."""
    turns_away: str = ""
    """What to do so that it lets callers wait instead of turning them away."""


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
"""Kinds that are never short: to run as many jobs as they may, while others wait, is what they are for."""


def library_of(kind: str) -> Library:
    """Return the words for a kind; plain ones for that of a reader we do not know."""
    return LIBRARIES.get(kind) or Library(kind, "its limit", "", f"{kind} pool", "pool")


def higher(pool: Pool, limit: str | None = None) -> str:
    """Write how to raise the limit of a pool, or of each of several that are added up.

    ``limit`` names another one than usual, of which it is not known how high it is. Nor is that known of
    pools that are not all of one size.
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
        """Return those for a pool; None if there were none, or they are not known."""
        facts = library_of(pool.kind).facts
        if facts not in self._found:
            self._found[facts] = self._view.distributions(f"{facts}_wait")
        return self._found[facts].get((pool.label, pool.kind) if facts == "pool" else (pool.label,))
