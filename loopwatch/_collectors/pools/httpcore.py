"""httpcore, the pool below httpx, and httpcore2, the one below httpx2. httpcore 0.18 to 1.0, httpcore2 2.x.

The trespass: ``_requests`` and ``_max_connections`` of pools, ``_send_request_headers`` of connections. The
latter is called once per request, when it has an open connection and, in HTTP/2, a stream: there the wait
ends. By the time the pool's public method returns, the request has waited for the server as well.

httpcore up to 1.0.9 assigns all queued requests to the first connection that becomes free. One wins, the
others queue again with a fresh timeout: requests beyond one per HTTP/1 connection count as pending.

A request that is cancelled just after it was assigned a new connection leaves that connection behind: nobody
will open or close it, and it takes a slot of the pool for good. It counts as held by the request's task.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._internals.patches import hide_caller, like
from loopwatch._internals.tasks import FINDS_LOOP, current_task, running_loop
from loopwatch._store.pools import AT_ONCE, Acquire, Family, Outcome, WaitCell

from .binding import Binding
from .books import NOWHERE
from .protocol import PoolReader, Sample, Server, snap

Proxied = dict[int, tuple[Acquire, Any]]
"""Ongoing acquires through a proxy, each with its request, by task id: a task has one at a time."""


NOTE = "_loopwatch_asked"
"""The attribute of a request: its ``Waits`` while it waits, and then its borrowing."""
Waits = tuple[WaitCell, Acquire]
"""The cell to count an ongoing wait in, and the acquire."""

if FINDS_LOOP:
    _task_at_work: Callable[[], Any] = current_task
else:

    def _task_at_work() -> Any:
        return current_task(running_loop())


class HttpcoreReader(PoolReader):
    """Reads pools of HTTP connections. What is held is a request, until its response is closed."""

    family: ClassVar[Family] = "http"
    registers: ClassVar[bool] = False
    carries: ClassVar[str | None] = NOTE

    def __init__(self, package: str) -> None:
        self.kind = package
        self.modules = (package,)
        self._timeout: type[BaseException] | None = None

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            pool = binding.cls("AsyncConnectionPool")
            binding.needs(pool, "connections")
            binding.creates(pool)
        with binding.feature("waits"):
            self._timeout = binding.cls("PoolTimeout")
            proxied: Proxied = {}
            for name in ("AsyncHTTP11Connection", "AsyncHTTP2Connection"):
                wrapper = functools.partial(_sends, binding, proxied)
                connection = binding.cls(name)
                if name == "AsyncHTTP11Connection" or hasattr(connection, "_send_request_headers"):
                    # Without the package h2, the HTTP/2 class is a placeholder without methods.
                    binding.wrap(connection, "_send_request_headers", wrapper, parameters=("request",))
            pool = binding.cls("AsyncConnectionPool")
            tells = "proxy" in inspect.signature(pool).parameters
            handles = functools.partial(_handles, binding, proxied, pool if tells else None)
            binding.wrap(pool, "handle_async_request", handles, ("request",))
        with binding.feature("holders"):
            binding.cls("AsyncConnectionPool")

    def label(self, pool: Any) -> str | None:
        """Return the only server of a pool from before us. Others are named after where they were made."""
        servers = {server for one in snap(pool.connections) if (server := _server(one)) is not None}
        return ":".join(map(str, servers.pop())) if len(servers) == 1 else None

    def outcome(self, error: BaseException) -> Outcome | None:
        """See PoolReader."""
        if self._timeout is not None and isinstance(error, self._timeout):
            return "timeout"
        return super().outcome(error)

    def read(self, anchor: Any) -> Sample:
        """See PoolReader. Never asks a connection whether it has expired: that polls its socket."""
        limit = anchor._max_connections
        connections = snap(anchor.connections)
        assigned = [request.connection for request in snap(anchor._requests)]
        idle = {id(connection): connection.is_idle() for connection in connections}
        requests = Counter(id(connection) for connection in assigned if connection is not None)
        served = {id(connection): _streams(connection) for connection in connections}
        bounced = sum(max(0, count - served[one]) for one, count in requests.items() if one in served)
        opening = {
            id(one) for one in connections if getattr(one, "_connection", 1) is None and not idle[id(one)]
        }
        servers: dict[Server, tuple[int, int]] = {}
        for connection in connections:
            if id(connection) not in opening and (server := _server(connection)) is not None:
                active, free = servers.get(server, (0, 0))
                is_idle = idle[id(connection)]
                servers[server] = (active + (not is_idle), free + is_idle)
        return Sample(
            max=None if limit >= sys.maxsize else limit,
            used=len(connections) - sum(idle.values()) - len(opening),
            idle=sum(idle.values()),
            connecting=len(opening),
            pending=assigned.count(None) + bounced,
            servers=servers,
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the requests that have a connection, and the connections that were left behind.

        A request that nobody closed still names its connection after the pool has discarded it.
        """
        requests = snap(anchor._requests)  # copied first, so that their connections are in the later copy
        there = set(map(id, snap(anchor.connections)))
        return [*(one.request for one in requests if id(one.connection) in there), *_left(anchor)]

    def lasting(self, anchor: Any) -> Iterable[object]:
        """Return the requests that were upgraded, as to a WebSocket, or ask for an event stream."""
        requests = snap(anchor._requests)
        return [one.request for one in requests if _is_upgraded(one.connection) or _wants_events(one.request)]

    def waiting(self, anchor: Any, known: list[Acquire]) -> list[Acquire]:
        """Return the acquires of the waiting requests."""
        asked = [_asked_with(one.request) for one in snap(anchor._requests)]
        return [acquire for acquire in asked if acquire is not None]


def _handles(
    binding: Binding, proxied: Proxied, plain: Any, original: Callable[..., Any]
) -> Callable[..., Any]:
    """Return the wrapper of the pool's ``handle_async_request``, where a wait begins.

    A pool of the ``plain`` class tells whether it uses a proxy; a pool of any other class may use one.
    """
    got, monotonic, task_at_work = binding.got, binding.monotonic, _task_at_work

    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        try:  # inline as in ``acquires``, and for the same reason
            watched = self._loopwatch_watched
            cell = watched.cell
            acquire: Acquire | None = watched, cell.live[id(task_at_work())], monotonic()
            request._loopwatch_asked = cell, acquire
            apart = watched.apart
        except Exception:  # noqa: BLE001 - whatever is missing, ``_begins`` does without
            acquire, apart = _begins(binding, plain, self, request)
        if acquire is None:
            return await original(self, request)
        task = _notes(proxied, acquire, request) if apart else 0
        try:
            response = await original(self, request)
        except BaseException as error:
            proxied.pop(task, None)
            if _ends(request) is not None:
                binding.failed(acquire, self, error)
                binding.given(_leave, binding, self, acquire)
            hide_caller(error)
            raise
        if apart:
            proxied.pop(task, None)
            if _ends(request) is not None:
                got(acquire, self, request)  # its sending was not seen
        return response

    return handle_async_request


def _begins(binding: Binding, plain: Any, pool: Any, request: Any) -> tuple[Acquire | None, bool]:
    """Begin a wait off the fast path; return it, and whether its pool may use a proxy."""
    acquire = binding.asks(pool)
    watched = None if acquire is None else acquire[0]
    if watched is None:
        return acquire, False
    try:
        request._loopwatch_asked = NOWHERE, acquire
        watched.apart = type(pool) is not plain or pool._proxy is not None
    except Exception as error:  # noqa: BLE001 - the request goes on
        binding.broke("waits", error)
    return acquire, watched.apart


def _sends(binding: Binding, proxied: Proxied, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the wrapper of a connection's ``_send_request_headers``, where a wait ends.

    A plain function that passes on what the original returns, to add no coroutine of ours.
    """
    got, monotonic, at_once, nowhere = binding.got, binding.monotonic, AT_ONCE, NOWHERE

    def ends(request: Any) -> None:
        """End a wait off the fast path."""
        if (acquire := _ends(request)) is not None:
            got(acquire, None, request)
        elif proxied and (found := _in_place_of(proxied, request)) is not None:
            got(found[0], None, found[1])

    @functools.wraps(original)
    def send_request_headers(self: Any, request: Any, **stream: Any) -> Any:
        try:
            cell, acquire = request._loopwatch_asked
            waited = monotonic() - acquire[2]
            if waited > at_once or cell is nowhere:
                ends(request)
            else:
                request._loopwatch_asked = acquire
                cell.at_once += 1
                cell.wait_sum += waited
        except Exception:  # noqa: BLE001 - the request is a proxy's, or not ours, or its wait has ended
            ends(request)
        return original(self, request, **stream) if stream else original(self, request)

    return like(original, send_request_headers)


def _notes(proxied: Proxied, acquire: Acquire, request: Any) -> int:
    """Map a task to its request, since a proxy creates another one. Return the task's id; 0 if unknown."""
    record = acquire[1]
    if record is None:
        return 0
    proxied[record.key] = (acquire, request)
    return record.key


def _leave(binding: Binding, pool: Any, acquire: Acquire) -> None:
    """Record the connections that a failed request has left behind."""
    held = () if acquire[0] is None else acquire[0].held
    for connection in _left(pool):
        if id(connection) not in held:
            binding.keeps(acquire, connection)


def _left(pool: Any) -> list[Any]:
    """Return the connections that are not open and that no request will open."""
    connections = snap(pool.connections)
    opening = [one for one in connections if getattr(one, "_connection", 1) is None and not one.is_idle()]
    if not opening:
        return []
    assigned = {id(request.connection) for request in snap(pool._requests)}
    return [one for one in opening if id(one) not in assigned and not one.is_available()]


def _in_place_of(proxied: Proxied, request: Any) -> tuple[Acquire, Any] | None:
    """Return the acquire and the request behind a proxy's request, if their wait ends now."""
    if getattr(request, "method", b"CONNECT") == b"CONNECT":  # this only opens the tunnel
        return None
    found = proxied.get(_task())
    return found if found is not None and _ends(found[1]) else None


def _ends(request: Any) -> Acquire | None:
    """Return the acquire of a request whose wait ends now; None if it had ended before."""
    acquire = _asked_with(request)
    if acquire is not None:
        request._loopwatch_asked = None
    return acquire


def _asked_with(request: Any) -> Acquire | None:
    """Return the acquire of a request; None unless it waits."""
    note: Any = getattr(request, NOTE, None)
    return note[1] if note is not None and isinstance(note[0], WaitCell) else None


def _task() -> int:
    """Return the id of the current task; 0 outside asyncio, as under trio."""
    loop = running_loop()
    task = None if loop is None else current_task(loop)
    return 0 if task is None else id(task)


def _streams(connection: Any) -> int:
    """Return the most requests a connection can have taken on: one, or in HTTP/2 those with a stream."""
    http2: Any = getattr(connection, "_connection", None)
    return len(http2._events) if type(http2).__name__ == "AsyncHTTP2Connection" else 1


def _is_upgraded(connection: Any) -> bool:
    """Whether a connection, under any number of layers, has switched from HTTP/1 to another protocol."""
    while connection is not None and not hasattr(connection, "_h11_state"):
        connection = getattr(connection, "_connection", None)
    return (
        connection is not None and connection._h11_state.their_state is sys.modules["h11"].SWITCHED_PROTOCOL
    )


def _wants_events(request: Any) -> bool:
    return any(
        name.lower() == b"accept" and value.startswith(b"text/event-stream")
        for name, value in request.headers
    )


def _server(connection: Any) -> Server | None:
    origin: Any = getattr(connection, "_origin", None) or getattr(connection, "_remote_origin", None)
    host, port = getattr(origin, "host", None), getattr(origin, "port", None)
    if not isinstance(host, bytes):
        return None
    return host.decode("ascii", "replace"), port or {b"http": 80, b"https": 443}.get(origin.scheme, 0)
