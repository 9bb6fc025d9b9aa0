"""The readers there are."""

from __future__ import annotations

from .aio_pika import AioPikaReader
from .anyio import AnyioReader
from .httpcore import HttpcoreReader
from .mysql import MysqlReader
from .process_pool import ProcessPoolReader
from .protocol import PoolReader
from .pymongo import PymongoReader
from .redis import RedisReader
from .thread_pool import ThreadPoolReader

READERS: tuple[PoolReader, ...] = (
    ThreadPoolReader(),
    AnyioReader(),
    HttpcoreReader("httpcore"),
    HttpcoreReader("httpcore2"),
    RedisReader(),
    PymongoReader(),
    MysqlReader("aiomysql"),
    MysqlReader("asyncmy"),
    AioPikaReader(),
    ProcessPoolReader(),
)
"""One line for each, in the order of how many programs have it."""
