"""Keeps documents and reports in SQLite. All calls block, so they belong in a thread."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .documents import Document, request_id

logger = logging.getLogger(__name__)

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS document (id TEXT PRIMARY KEY, title TEXT, status TEXT, report TEXT);
CREATE TABLE IF NOT EXISTS finding (document TEXT, section INTEGER, finding TEXT);
CREATE TABLE IF NOT EXISTS word (word TEXT, document TEXT);
"""


class Store:
    """One SQLite file, with a connection per call, so that any thread may call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connection() as connection:
            connection.executescript(SCHEMA)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection

    def add(self, document: Document) -> None:
        row = (document.id, document.submission.title, "Processing")
        with self._connection() as connection:
            connection.execute("INSERT INTO document (id, title, status) VALUES (?, ?, ?)", row)

    def add_findings(self, document: Document, found: list[list[str]]) -> None:
        rows = [(document.id, number, text) for number, texts in enumerate(found) for text in texts]
        with self._connection() as connection:
            connection.executemany("INSERT INTO finding VALUES (?, ?, ?)", rows)

    def settle(self, document: Document, status: str) -> None:
        with self._connection() as connection:
            row = (status, document.report, document.id)
            connection.execute("UPDATE document SET status = ?, report = ? WHERE id = ?", row)
        logger.info("request %s: document %s is %s", request_id.get(), document.id, status)

    def add_words(self, document: Document) -> None:
        rows = {(word, document.id) for word in document.report.split()}
        with self._connection() as connection:
            connection.executemany("INSERT INTO word VALUES (?, ?)", rows)

    def status(self, document_id: str) -> str | None:
        with self._connection() as connection:
            query = "SELECT status FROM document WHERE id = ?"
            row = connection.execute(query, (document_id,)).fetchone()
        return row and str(row[0])

    def totals(self) -> dict[str, int]:
        with self._connection() as connection:
            return dict(connection.execute("SELECT status, count(*) FROM document GROUP BY status"))
