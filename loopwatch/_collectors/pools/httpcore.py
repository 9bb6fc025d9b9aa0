"""httpcore, the pool below httpx, and httpcore2, the one below httpx2. httpcore 0.18 to 1.0, httpcore2 2.x.

The trespass: ``_requests`` and ``_max_connections`` of pools, ``_send_request_headers`` of connections. That
is called once for each request, when it has an open connection and, in HTTP/2, a stream: there the wait ends.
What returns from the pool's public method has waited for the server as well.

httpcore up to 1.0.9 assigns all queued requests to the first connection that gets free. One wins, the others
queue again, and their timeout starts again: requests beyond one for each HTTP/1 connection are pending.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._internals.patches import hide_caller
from loopwatch._internals.tasks import current_task, running_loop
from loopwatch._store.pools import Acquire, Family, Outcome

from .binding import Binding
from .protocol import PoolReader, Sample, Server, snap

Asking = dict[int, tuple[Acquire, Any, Any]]
"""Acquires under way: with the pool and the request, by the id of the task, which has one at a time."""


class HttpcoreReader(PoolReader):
    """Reads pools of HTTP connections. What is held of one is a request, until its response is closed."""

    family: ClassVar[Family] = "http"

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
            asking: Asking = {}
            for name in ("AsyncHTTP11Connection", "AsyncHTTP2Connection"):
                wrapper = functools.partial(_sends, binding, asking)
                connection = binding.cls(name)
                if name == "AsyncHTTP11Connection" or hasattr(connection, "_send_request_headers"):
                    # Without the package h2 there is but a stand-in for HTTP/2, which has no methods.
                    binding.wrap(connection, "_send_request_headers", wrapper, parameters=("request",))
            handles = functools.partial(_handles, binding, asking)
            binding.wrap(binding.cls("AsyncConnectionPool"), "handle_async_request", handles, ("request",))
        with binding.feature("holders"):
            binding.cls("AsyncConnectionPool")

    def label(self, pool: Any) -> str | None:
        """Return the one server of a pool that was there before us: others go by where they were made."""
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
        bounced = sum(max(0, count - served.get(one, 1)) for one, count in requests.items())
        servers: dict[Server, tuple[int, int]] = {}
        for connection in connections:
            if (server := _server(connection)) is not None:
                active, free = servers.get(server, (0, 0))
                is_idle = idle[id(connection)]
                servers[server] = (active + (not is_idle), free + is_idle)
        return Sample(
            max=None if limit >= sys.maxsize else limit,
            used=len(connections) - sum(idle.values()),
            idle=sum(idle.values()),
            connecting=sum(getattr(connection, "_connection", 1) is None for connection in connections),
            pending=assigned.count(None) + bounced,
            servers=servers,
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the requests that have a connection."""
        return [one.request for one in snap(anchor._requests) if one.connection is not None]


def _handles(binding: Binding, asking: Asking, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands in place of the pool's ``handle_async_request``: the wait begins here."""

    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        acquire = binding.asks(self)
        if acquire is None:
            return await original(self, request)
        _, record, _ = acquire
        task = 0 if record is None else record.key
        asking[task] = (acquire, self, request)
        try:
            response = await original(self, request)
        except BaseException as error:
            asking.pop(task, None)
            binding.failed(acquire, self, error)
            hide_caller(error)
            raise
        asking.pop(task, None)
        binding.got(acquire, self, request)  # unless it was seen to send, as is the rule
        return response

    return handle_async_request


def _sends(binding: Binding, asking: Asking, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands in place of a connection's ``_send_request_headers``: the wait ends here.

    A plain function, which hands on what the original returns: no coroutine of ours.
    """

    @functools.wraps(original)
    def send_request_headers(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = kwargs.get("request")
        if getattr(request, "method", b"CONNECT") != b"CONNECT":  # which only opens a way through a proxy
            asked = asking.get(_task())
            if asked is not None:
                binding.got(*asked)
        return original(self, *args, **kwargs)

    return send_request_headers


def _task() -> int:
    """Return the id of the task at work; 0 outside of asyncio, as under trio."""
    loop = running_loop()
    task = None if loop is None else current_task(loop)
    return 0 if task is None else id(task)


def _streams(connection: Any) -> int:
    """Return how many requests a connection has taken on at most: one, or those with a stream in HTTP/2."""
    http2: Any = getattr(connection, "_connection", None)
    return len(http2._events) if type(http2).__name__ == "AsyncHTTP2Connection" else 1


def _server(connection: Any) -> Server | None:
    origin: Any = getattr(connection, "_origin", None) or getattr(connection, "_remote_origin", None)
    host, port = getattr(origin, "host", None), getattr(origin, "port", None)
    if not isinstance(host, bytes):
        return None
    return host.decode("ascii", "replace"), port or {b"http": 80, b"https": 443}.get(origin.scheme, 0)
