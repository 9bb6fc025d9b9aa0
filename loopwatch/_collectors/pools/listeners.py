"""Connections to PostgreSQL that listen for notifications: these are meant to be held.

The trespass: where asyncpg and psycopg keep the functions to call. psycopg since 3.2.4 also shows that its
``notifies()`` is at work: it has taken the backlog.
"""

from __future__ import annotations

from typing import Any


def listens(connection: Any) -> bool:
    """Whether a connection of one of these drivers listens. Any thread."""
    if getattr(connection, "_listeners", None) or getattr(connection, "_notify_handlers", None):
        return True
    return getattr(connection, "_notifies_backlog", ()) is None
