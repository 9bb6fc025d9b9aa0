"""What to write instead of a call that waits in the event loop."""

from __future__ import annotations

from loopwatch._records import Stall

THREAD = "await it in a thread: `await asyncio.to_thread(...)`"

_REMEDIES: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("time.sleep", "sleep"), (), "write `await asyncio.sleep(...)`"),
    (
        ("requests.", "urlopen", "urllib.", "urllib3.", "http.client."),
        ("requests", "urllib3", "urllib", "http.client", "botocore"),
        f"use an asynchronous client, such as httpx.AsyncClient or aiohttp, or {THREAD}",
    ),
    (
        ("subprocess.", "os.system", "Popen"),
        ("subprocess",),
        f"write `await asyncio.create_subprocess_exec(...)`, or {THREAD}",
    ),
    (
        ("getaddrinfo", "gethostbyname"),
        (),
        "write `await loop.getaddrinfo(...)`, which asks in a thread",
    ),
    (
        ("execute", "executemany", "fetchall", "fetchone", "commit"),
        ("sqlite3", "psycopg2", "pymysql", "MySQLdb", "sqlalchemy"),
        f"use the asynchronous driver of the database, or {THREAD}",
    ),
    (
        (".acquire", ".join", ".result", ".wait", "queue.get", "queue.put"),
        ("threading", "queue", "concurrent.futures"),
        f"wait for it as a coroutine: asyncio's own Lock, Event or Queue, asyncio.wrap_future(); or {THREAD}",
    ),
    (
        ("open", ".read", ".write", ".read_text", ".write_text", ".read_bytes", ".write_bytes", ".fsync"),
        ("pathlib", "shutil", "tempfile"),
        f"files are read and written synchronously: {THREAD}",
    ),
    (
        ("input", "readline"),
        (),
        THREAD,
    ),
)
"""By how the call is written, or in which module the thread stood: what to do."""


def remedy(stall: Stall) -> str:
    """Return what to do about a call that waits: a thread may do that, unlike a computation."""
    call = stall.call or ""
    inner = stall.stack[-3:]
    for written, modules, instead in _REMEDIES:
        if any(_is_call(call, one) for one in written):
            return instead
        if any(frame.module.partition(".")[0] in modules or frame.module in modules for frame in inner):
            return instead
    return f"call its asynchronous version, or {THREAD}"


def _is_call(call: str, written: str) -> bool:
    if written.endswith("."):
        return call.startswith(written)
    return call == written or call.endswith(written if written.startswith(".") else f".{written}")
