"""The interface of a reader of one library's pools, and the types it uses."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from loopwatch._internals.futures import is_pending
from loopwatch._store.pools import Acquire, Family, Outcome

if TYPE_CHECKING:
    from .binding import Binding

T = TypeVar("T")

Feature = Literal["gauges", "waits", "holders"]
"""What is watched of a library: the current state of its pools, the waits for them, who holds what.
Each works or fails by itself."""

Server = tuple[str, int]
"""Host and port."""


class Unsupported(Exception):  # noqa: N818 - it is a finding about a library, not a failure
    """A library differs from the versions we know. The message says what is missing."""


@dataclass(slots=True)
class Sample:
    """The current state of one pool. None: not known, or no limit."""

    max: int | None = None
    used: int | None = None
    """Excludes connections being opened, where the library distinguishes them."""
    idle: int | None = None
    pending: int | None = None
    """Waiting callers."""
    connecting: int | None = None
    """Connections being opened."""
    servers: Mapping[Server, tuple[int, int]] | None = None
    """For HTTP clients: active and idle connections to each server."""


class PoolReader:
    """Reads the pools of one library. There is one instance for each module it is bound to."""

    kind: str
    """Name of the library, or of the kind of pool where it has several; a label of the facts."""
    family: ClassVar[Family] = "other"
    modules: tuple[str, ...]
    """When one of these is imported, the reader is bound to it."""
    registers: ClassVar[bool] = True
    """Whether waiting acquires are kept in a table of ours. Otherwise ``waiting`` finds them in the library's
    objects, and the code that ends a wait must ensure it ends only once: an acquire costs a tenth less."""

    carries: ClassVar[str | None] = None
    """The attribute in which a thing carries its borrowing, if each acquire creates a new thing: a table of
    ours would grow by one entry each time, into memory that is not in the CPU's caches."""

    anchored: ClassVar[str | None] = None
    """The attribute of a pool that serves as its anchor, if the pool itself cannot be weakly referenced."""

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """Patch the library. Use one ``with binding.feature(...)`` for each thing that may be missing."""
        raise NotImplementedError

    def anchor(self, pool: Any) -> Any:
        """Return the anchor of ``pool``: an object that can be weakly referenced and dies with it.

        None if there is none yet. Called at each acquire if the anchor is neither an attribute (``anchored``)
        nor the pool itself.
        """
        return pool if self.anchored is None else getattr(pool, self.anchored)

    def noted(self, pool: Any) -> None:
        """Prepare a pool. Called once for each, when it is first seen.

        If the anchor alone is not enough to read the pool by, this adds to it what is missing.
        """

    def label(self, pool: Any) -> str | None:
        """Return the name by which the user knows this pool, made only of its name, host, port and database.

        None if there is none, or not yet; then the pool is named after the place where it was created. Called
        when the pool is created and, failing that, at the end of an acquire, by the thread that acquired.
        """
        return None

    def outcome(self, error: BaseException) -> Outcome | None:
        """Return how an acquire that raised ``error`` failed; None if the error is not about the pool."""
        return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else None

    def read(self, anchor: Any) -> Sample:
        """Return the current state of the pool. Any thread.

        It may load attributes, take ``len()``, copy (``snap``) and count waiters (``live``); it must take no
        lock, call no ``repr`` and no property that may create something, and keep no copy.
        """
        raise NotImplementedError

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return what is in use now, by the library's own account: things that ``acquires`` saw given out.

        Any thread, under the same rules as ``read``.
        """
        raise Unsupported("it does not tell what is in use")

    def lasting(self, anchor: Any) -> Iterable[object]:
        """Return those of ``holders`` that are meant to be held, and so are never reported as held too long.

        Any thread, under the same rules as ``read``. Called when something has been held for long.
        """
        return ()

    def waiting(self, anchor: Any, known: list[Acquire]) -> list[Acquire]:
        """Return the waiting acquires; ``known`` are those in our table that have not ended. Any thread."""
        return known

    def exports(self) -> frozenset[str]:
        """Return the stems of the conventional facts that the library exports itself, not to be repeated."""
        return frozenset()


def place_of(host: object, port: object = None, database: object = None) -> str | None:
    """Return the label of a database, ``host:port/database``; None if it has no host.

    Anything that does not look like a name is left out: if a URL's password was not quoted, or a URL was
    passed where none is expected, part of the password ends up in place of the host or the database.
    """
    if not isinstance(host, str) or not _HOST.fullmatch(host) or "//" in host:
        return None
    server = host if port is None else f"{host}:{port}"
    return f"{server}/{database}" if database and _NAME.fullmatch(str(database)) else server


_HOST = re.compile(r"[\w.:%/-]+")  # includes IPv6 and the directory of a socket
_NAME = re.compile(r"[\w.$-]+")


def snap(container: Iterable[T], most: int | None = None) -> list[T]:
    """Copy a container, or its first ``most`` items, while its own thread may change it.

    A ``chain`` starts iterating when its first item is requested, which is within the C call that copies.
    ``islice`` alone would start in a separate call, and the other thread could run between the two.
    """
    for _ in range(4):
        with contextlib.suppress(RuntimeError):  # it changed size while it was being copied
            return list(islice(chain(container), most))
    return list(islice(chain(container), most))


def live(*waiters: Iterable[Any] | None) -> int:
    """Count the futures still pending: a finished one stays in its queue until its task resumes.

    Several queues are copied at one moment, in one C call, so a waiter that moves between them counts once.
    """
    queues = [queue for queue in waiters if queue]
    for _ in range(4):
        with contextlib.suppress(RuntimeError):  # as above
            return sum(map(is_pending, list(chain.from_iterable(queues))))
    return sum(map(is_pending, list(chain.from_iterable(queues))))
