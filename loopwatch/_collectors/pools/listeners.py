"""PostgreSQL connections that listen for notifications, and so are meant to be held.

The trespass: where asyncpg and psycopg keep the callbacks. Since 3.2.4, psycopg also shows whether its
``notifies()`` is running: it has then taken the backlog.
"""

from __future__ import annotations

from typing import Any


def listens(connection: Any) -> bool:
    """Whether a connection of either driver listens for notifications. Any thread."""
    if getattr(connection, "_listeners", None) or getattr(connection, "_notify_handlers", None):
        return True
    return getattr(connection, "_notifies_backlog", ()) is None
