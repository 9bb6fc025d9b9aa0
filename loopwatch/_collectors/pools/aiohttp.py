"""aiohttp's connectors, including those of aiobotocore and elasticsearch. 3.10 to 3.14; 3.9 without waits.

The trespass: ``_acquired``, ``_conns`` and ``_waiters`` of connectors, which are defaultdicts, so that
indexing them would insert; ``_wait_for_available_connection``; ``_protocol`` and ``_key`` of connections;
whether the ``_timer`` of a request has fired.

The pool has no timeout of its own. Those of a request (``connect``, ``total``) cover pool and server: one
counts if it fired while the request was in ``_wait_for_available_connection``, so errors are marked there.
``total`` cancels the task, as a user does; only the timer tells the two apart.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._internals.patches import hide_caller
from loopwatch._store.pools import Family, Outcome

from .acquires import Form
from .binding import Binding
from .protocol import PoolReader, Sample, Server, live, snap


class AiohttpReader(PoolReader):
    """Reads connectors. What is held is the protocol of a connection."""

    kind = "aiohttp"
    family: ClassVar[Family] = "http"
    modules = ("aiohttp.connector",)

    def __init__(self) -> None:
        self._placeholder: type = object

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            self._placeholder = binding.cls("_TransportPlaceholder")
            binding.needs(binding.cls("BaseConnector"), "limit")
            binding.creates(binding.cls("BaseConnector"))
        with binding.feature("waits"):
            connector = binding.cls("BaseConnector")
            binding.wrap(connector, "_wait_for_available_connection", _queues, parameters=("key",))
            form = Form(thing="_protocol", key="_key", failing=_marks_if_over)
            binding.acquires(connector, "connect", form, parameters=("req", "traces", "timeout"))
        with binding.feature("holders"):
            binding.cls("_TransportPlaceholder")

    def label(self, pool: Any) -> str | None:
        """Return the only server of a connector from before us. Others are named after their creation."""
        keys = [*snap(pool._conns), *map(_key_of, snap(pool._acquired))]
        servers = {_server(key) for key in keys if key is not None}
        return ":".join(map(str, servers.pop())) if len(servers) == 1 else None

    def outcome(self, error: BaseException) -> Outcome | None:
        """See PoolReader."""
        cause = error.__cause__ if isinstance(error, TimeoutError) else error
        by_timer = getattr(cause, "_loopwatch_by_timer", False)
        if getattr(cause, "_loopwatch_queued", False) and (by_timer or isinstance(error, TimeoutError)):
            return "timeout"
        return None if by_timer else super().outcome(error)

    def read(self, anchor: Any) -> Sample:
        """See PoolReader. An idle connection may have been closed by its server: aiohttp finds out later."""
        acquired = snap(anchor._acquired)
        active = [one for one in acquired if type(one) is not self._placeholder]
        busy = Counter(_server(key) for one in active if (key := _key_of(one)) is not None)
        idle: Counter[Server] = Counter()
        for key, connections in snap(anchor._conns.items()):
            idle[_server(key)] += len(connections)
        return Sample(
            max=anchor.limit or None,
            used=len(active),
            idle=idle.total(),
            connecting=len(acquired) - len(active),
            pending=sum(live(waiters) for waiters in snap(anchor._waiters.values())),
            servers={server: (busy[server], idle[server]) for server in busy | idle},
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the protocols of the connections that are out."""
        return [one for one in snap(anchor._acquired) if type(one) is not self._placeholder]

    def lasting(self, anchor: Any) -> Iterable[object]:
        """Return the connections that were upgraded: WebSockets."""
        return [one for one in snap(anchor._acquired) if getattr(one, "upgraded", False)]


def _queues(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the wrapper of ``_wait_for_available_connection``, which is called only if it has to wait."""

    @functools.wraps(original)
    async def wait_for_available_connection(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await original(self, *args, **kwargs)
        except BaseException as error:
            _mark(error, "_loopwatch_queued", True)
            hide_caller(error)
            raise

    return wait_for_available_connection


_mark = BaseException.__setattr__
"""Sets an attribute of an exception, even if its class refuses that."""


def _marks_if_over(error: BaseException, _connector: Any, req: Any, *_others: Any) -> None:
    """Mark an error of ``connect`` if the timeout of the whole request has fired."""
    if getattr(req._timer, "_cancelled", False):
        _mark(error, "_loopwatch_by_timer", True)


def _key_of(protocol: Any) -> Any | None:
    return getattr(protocol, "_loopwatch_key", None)


def _server(key: Any) -> Server:
    return key.host, key.port or (443 if key.is_ssl else 80)
