"""The readers there are."""

from __future__ import annotations

from .aiohttp import AiohttpReader
from .asyncpg import AsyncpgReader
from .httpcore import HttpcoreReader
from .protocol import PoolReader
from .psycopg_pool import PsycopgPoolReader
from .sqlalchemy import SqlalchemyReader
from .thread_pool import ThreadPoolReader

READERS: tuple[PoolReader, ...] = (
    ThreadPoolReader(),
    HttpcoreReader("httpcore"),
    HttpcoreReader("httpcore2"),
    SqlalchemyReader(),
    AsyncpgReader(),
    PsycopgPoolReader(),
    AiohttpReader(),
)
"""One line for each, in the order of how many programs have it."""
