"""What to write instead of a call that waits, or computes, in the event loop."""

from __future__ import annotations

from collections.abc import Container, Iterable

from loopwatch._agent_records import Stall

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
"""What to do, by the name of the call, or the module in which the thread stood."""

_WITHOUT_THE_GIL = (
    ("hashlib.", "pbkdf2_hmac", "scrypt", "bcrypt.", "hashpw", "checkpw", "zlib.", "bz2.", "lzma.", "gzip."),
    ("bcrypt", "argon2", "gzip", "bz2", "lzma"),
)
"""Computations in C that release the GIL, named as above."""
_QUERIES = ("execute", "executemany", "executescript", "fetchall", "fetchone")
"""Methods that also do so where a database library implements them in C, like sqlite3."""


def remedy(stall: Stall) -> str:
    """Return what to do about a call that waits: unlike most computations, it can be moved to a thread."""
    for written, modules, instead in _REMEDIES:
        if _is_one(stall, written, modules):
            return instead
    return f"call its asynchronous version, or {THREAD}"


def relief(stall: Stall, held_the_gil: bool) -> str:
    """Return what to do about a call that computes."""
    if held_the_gil:
        return "move it to a process pool: a thread does not help, the GIL is held"
    if works_without_the_gil(stall):
        return f"{THREAD}: it computes without the GIL, so the loop runs beside it"
    return (
        "move it to a process pool, or do it in pieces with `await asyncio.sleep(0)` between them: "
        "in a thread it would take turns with the loop at the GIL"
    )


def works_without_the_gil(stall: Stall) -> bool:
    """Whether a call that computes is known to release the GIL."""
    in_c = stall.stack[-1:] == (stall.culprit,)
    return _is_one(stall, *_WITHOUT_THE_GIL) or (in_c and _is_one(stall, _QUERIES, ()))


def _is_one(stall: Stall, written: Iterable[str], modules: Container[str]) -> bool:
    call = stall.call or ""
    return any(_is_call(call, one) for one in written) or any(
        frame.module.partition(".")[0] in modules or frame.module in modules for frame in stall.stack[-3:]
    )


def _is_call(call: str, written: str) -> bool:
    if written.endswith("."):
        return call.startswith(written)
    return call == written or call.endswith(written if written.startswith(".") else f".{written}")
