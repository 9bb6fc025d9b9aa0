"""All readers."""

from __future__ import annotations

from .aio_pika import AioPikaReader
from .aiohttp import AiohttpReader
from .anyio import AnyioReader
from .arq import ArqReader
from .asyncpg import AsyncpgReader
from .httpcore import HttpcoreReader
from .mysql import MysqlReader
from .process_pool import ProcessPoolReader
from .protocol import PoolReader
from .psycopg_pool import PsycopgPoolReader
from .pymongo import PymongoReader
from .redis import RedisReader
from .sqlalchemy import SqlalchemyReader
from .taskiq import TaskiqReader
from .thread_pool import ThreadPoolReader

READERS: tuple[PoolReader, ...] = (
    ThreadPoolReader(),
    AnyioReader(),
    HttpcoreReader("httpcore"),
    HttpcoreReader("httpcore2"),
    SqlalchemyReader(),
    AsyncpgReader(),
    PsycopgPoolReader(),
    RedisReader(),
    AiohttpReader(),
    PymongoReader(),
    MysqlReader("aiomysql"),
    MysqlReader("asyncmy"),
    AioPikaReader(),
    ProcessPoolReader(),
    ArqReader(),
    TaskiqReader(),
)
"""One line per library, the most widely used first."""
