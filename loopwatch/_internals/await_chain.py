"""Where a suspended task stands, and what it waits for, in words.

Read from another thread while the task's own thread may run, so a reader stops at what it cannot see instead
of failing. What is waited for is told from the functions at the end of the chain, else from the future. Knows
asyncio's own names on CPython 3.11 to 3.15, those of uvloop 0.23, of anyio 4, and of connection pools as
``_POOLS`` lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from loopwatch._places import Place, Stand

from .dependencies import group_awaited, task_inside
from .futures import gathered, in_executor, is_task, name_of, shielded
from .links import Link, code_of, links, place_of

WaitKind = Literal[
    "task",
    "future",
    "timer",
    "lock",
    "semaphore",
    "condition",
    "event",
    "queue",
    "stream",
    "socket",
    "process",
    "executor",
    "pool",
]


class Chain(NamedTuple):
    """Where a task stands."""

    places: tuple[Place, ...]
    """Outermost first, down to the innermost suspended frame. While the task runs, only the outermost."""
    awaited: Any
    """The future or task waited for; None when the task runs or is ready to. Not to be kept."""
    links: tuple[Link, ...]
    """What owns the frames. Not to be kept either."""


class Wait(NamedTuple):
    """What a task waits for."""

    kind: WaitKind
    text: str
    """As an engineer would put it: ``Queue.get``, ``sleep``, ``task 'refresh' (app.refresh)``."""


_OURS = "loopwatch._collectors.pools."
"""Modules whose functions replace those of a library, and stand above them in a chain."""
_LIBRARIES = ("asyncio", "anyio", "uvloop")
"""Packages whose functions at the end of a chain name the wait."""
_TRANSPARENT = frozenset(("run", "wait_for"))
"""Functions of those packages that wait for what they were given."""
_KIND_OF_CLASS: dict[str, WaitKind] = {
    "Barrier": "condition",
    "CapacityLimiter": "semaphore",
    "Condition": "condition",
    "Event": "event",
    "Lock": "lock",
    "MemoryObjectReceiveStream": "queue",
    "MemoryObjectSendStream": "queue",
    "Process": "process",
    "Queue": "queue",
    "Semaphore": "semaphore",
    "SocketStream": "stream",
    "StreamReader": "stream",
    "StreamWriter": "stream",
    "UNIXSocketStream": "stream",
}
_KIND_OF_FUNCTION: dict[str, WaitKind] = {
    "as_completed": "task",
    "create_connection": "socket",
    "create_unix_connection": "socket",
    "getaddrinfo": "executor",
    "getnameinfo": "executor",
    "open_connection": "socket",
    "open_unix_connection": "socket",
    "run_sync": "executor",
    "shutdown_default_executor": "executor",
    "sleep": "timer",
    "sock_accept": "socket",
    "sock_connect": "socket",
    "sock_recv": "socket",
    "sock_recv_into": "socket",
    "sock_recvfrom": "socket",
    "sock_recvfrom_into": "socket",
    "sock_sendall": "socket",
    "sock_sendfile": "socket",
    "sock_sendto": "socket",
    "start_tls": "socket",
    "to_thread": "executor",
}
_PRIVATE = {"_AsCompletedIterator._wait_for_one": "as_completed"}
"""Functions that are better known by another name."""
_POOLS = {
    ("aio_pika.pool", "Pool._get"): "aio_pika Pool",
    ("aiohttp.connector", "BaseConnector._wait_for_available_connection"): "aiohttp connector",
    ("aiomysql.pool", "Pool._acquire"): "aiomysql Pool",
    ("asyncmy.pool", "Pool._acquire"): "asyncmy Pool",
    ("asyncpg.pool", "Pool._acquire"): "asyncpg Pool",
    ("httpcore._async.connection_pool", "AsyncPoolRequest.wait_for_connection"): "httpcore connection pool",
    ("httpcore2._async.connection_pool", "AsyncPoolRequest.wait_for_connection"): "httpcore2 connection pool",
    ("psycopg_pool.pool_async", "AsyncConnectionPool.getconn"): "psycopg_pool AsyncConnectionPool",
    ("pymongo.asynchronous.pool", "Pool._get_conn"): "pymongo Pool",
    ("redis.asyncio.connection", "BlockingConnectionPool.get_connection"): "redis BlockingConnectionPool",
}
"""Functions that wait for a free connection, by module and qualified name."""
_PRIMITIVES = frozenset(("condition", "event", "future", "lock", "queue", "semaphore"))
"""Kinds of wait that a pool uses. While it waits for anything else, it is opening a connection."""


def chain(task_or_coro: Any) -> Chain:
    """Return where ``task_or_coro`` stands; if the chain changes meanwhile, what is still there of it."""
    found, awaited = links(task_or_coro)
    places = (place for one in found if (place := place_of(one)) and not place[2].startswith(_OURS))
    return Chain(tuple(places), awaited, tuple(found))


def stand_of(task: Any) -> Stand | None:
    """Return where ``task`` stands; None if that cannot be seen: it has ended, or is being collected."""
    found = chain(task)
    return Stand(found.places, describe(found)) if found.places else None


def describe(found: Chain) -> str | None:
    """Return what the task at ``found`` waits for, as an engineer would put it; None as for ``wait_of``."""
    wait = wait_of(found)
    return None if wait is None else wait.text


def wait_of(found: Chain) -> Wait | None:
    """Return what the task at ``found`` waits for; None when it runs, is ready to run or has ended.

    None also for a task that is being collected: its coroutine goes before it does.
    """
    if found.awaited is None or (found.links and not found.places):
        return None
    wait = _of_tasks(found) or _of_code(found.places) or _of_future(found.awaited)
    pool = _pool(found.places) if wait.kind in _PRIMITIVES else None
    return wait if pool is None else Wait("pool", pool)


def task_text(task: Any) -> str:
    """Return name and coroutine of a task."""
    walked, _ = links(task)
    coroutine = code_of(walked[0]).co_qualname if walked else "?"
    name = name_of(task)
    return f"task {coroutine}" if name is None else f"task {name!r} ({coroutine})"


def _of_tasks(found: Chain) -> Wait | None:
    """Describe the tasks waited for, one or several."""
    group, children = group_awaited(found.links), gathered(found.awaited)
    if group is not None:
        what = "TaskGroup of" if group.task_group else "wait for first of" if group.any_of else "wait for"
        return Wait("task", f"{what} {len(group.futures)}")
    if children is not None:
        return Wait("task", f"gather of {len(children)}")
    if is_task(found.awaited):
        return Wait("task", task_text(found.awaited))
    return _inside(found)


def _inside(found: Chain) -> Wait | None:
    """Describe what is waited for by the task that ``wait_for`` runs, which may be in ``wait_for`` itself."""
    seen: set[int] = set()
    inner = task_inside(found.links)
    while inner is not None:
        if id(inner) in seen:  # they wait for each other
            return Wait("task", task_text(inner))
        seen.add(id(inner))
        found = chain(inner)
        inner = task_inside(found.links)
    return wait_of(found) if seen else None


def _of_code(places: Sequence[Place]) -> Wait | None:
    """Name the function that was called to wait: the outermost library function at the chain's end."""
    called: list[str] = []
    for code, _, module in reversed(places):
        if module.partition(".")[0] not in _LIBRARIES:
            break
        called.append(_PRIVATE.get(code.co_qualname) or code.co_qualname.partition(".<locals>")[0])
    for qualname in reversed(called):
        owner, _, function = qualname.rpartition(".")
        owner = owner.removesuffix("Adapter")  # of anyio's objects that were made before the loop ran
        if function.startswith("_") or qualname in _TRANSPARENT:
            continue
        if owner.endswith(("Loop", "Backend")):
            owner = ""
        kind = _KIND_OF_CLASS.get(owner) or _KIND_OF_FUNCTION.get(function, "future")
        return Wait(kind, f"{owner}.{function}" if owner else function)
    return None


def _of_future(awaited: Any) -> Wait:
    inner = shielded(awaited)
    if is_task(inner):
        return Wait("task", f"{task_text(inner)}, shielded")
    return Wait("executor", "executor") if in_executor(awaited) else Wait("future", "future")


def _pool(places: Sequence[Place]) -> str | None:
    """Return the pool for whose free connection a chain waits, told by the function that it stands in."""
    return next(
        (text for code, _, module in places if (text := _POOLS.get((module, code.co_qualname)))), None
    )
