"""What a reader of one library's pools has to say, and in which words."""

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
"""What of a library is watched: its pools as they are now, the waits for them, who has what of them.
Each works or fails by itself."""

Server = tuple[str, int]
"""Host and port."""


class Unsupported(Exception):  # noqa: N818 - it is a finding about a library, not a failure
    """A library that is not as we know it. Says what is missing."""


@dataclass(slots=True)
class Sample:
    """One pool as it is now. None: not known, or there is no limit."""

    max: int | None = None
    used: int | None = None
    """Without those being opened, where the library tells them apart."""
    idle: int | None = None
    pending: int | None = None
    """Callers that wait."""
    connecting: int | None = None
    """Connections being opened."""
    servers: Mapping[Server, tuple[int, int]] | None = None
    """Of HTTP clients: active and idle connections to each server."""


class PoolReader:
    """Reads the pools of one library. One instance for each module it is bound to."""

    kind: str
    """Name of the library, or of its pool where it has several; a label of the facts."""
    family: ClassVar[Family] = "other"
    modules: tuple[str, ...]
    """Once one of these is imported, the reader is bound to it."""
    registers: ClassVar[bool] = True
    """Whether acquires that wait are kept in a table of ours. Else ``waiting`` finds them in the library's
    objects, and whoever ends a wait sees to it that this happens once: an acquire costs a tenth less."""

    carries: ClassVar[str | None] = None
    """The attribute in which a thing carries its borrowing, where each acquire makes a thing of its own: a
    table of ours would grow by an entry for each, into memory that is not in the CPU's caches."""

    anchored: ClassVar[str | None] = None
    """The attribute of a pool that stands for it, if it cannot itself be referred to weakly."""

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """Hang on to the library. One ``with binding.feature(...)`` for each thing that may be missing."""
        raise NotImplementedError

    def anchor(self, pool: Any) -> Any:
        """Return what stands for ``pool``: what can be referred to weakly and dies with it. None: not yet.

        Asked at each acquire, where it is not an attribute (``anchored``) and not the pool itself.
        """
        return pool if self.anchored is None else getattr(pool, self.anchored)

    def noted(self, pool: Any) -> None:
        """Do what is to be done once for each pool, when it is seen for the first time.

        Where its anchor alone is too little to read it by, this gives the anchor what is missing.
        """

    def label(self, pool: Any) -> str | None:
        """Return what the user knows this pool by, made of its name, host, port and database alone.

        None where there is no such thing, or not yet; then the place counts at which the pool was created.
        Asked when the pool is created and, failing that, at the end of an acquire, by the thread that did it.
        """
        return None

    def outcome(self, error: BaseException) -> Outcome | None:
        """Return how an acquire failed that raised ``error``; None for what is not about the pool."""
        return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else None

    def read(self, anchor: Any) -> Sample:
        """Return how the pool is now. Any thread.

        Loads attributes, takes ``len()`` and copies (``snap``), counts waiters (``live``); no lock, no
        ``repr``, no property that may create something, no private copy held.
        """
        raise NotImplementedError

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return what is in use now, by the library's own account: the things ``acquires`` saw given out.

        Any thread, under the same rules.
        """
        raise Unsupported("it does not tell what is in use")

    def lasting(self, anchor: Any) -> Iterable[object]:
        """Return those of ``holders`` that are meant to be held: they are never held for too long.

        Any thread, under the same rules. Asked when something has been held for long.
        """
        return ()

    def waiting(self, anchor: Any, known: list[Acquire]) -> list[Acquire]:
        """Return the acquires that wait, of those that have not ended. Any thread."""
        return known

    def exports(self) -> frozenset[str]:
        """Return the stems of the conventional facts that the library exports itself: not to be doubled."""
        return frozenset()


def place_of(host: object, port: object = None, database: object = None) -> str | None:
    """Return the label of a database, ``host:port/database``; None if it has no host.

    What does not look like a name is left out: in a URL whose password was not quoted, or in a place that is
    not for URLs, a part of the password stands where the host or the database should.
    """
    if not isinstance(host, str) or not _HOST.fullmatch(host) or "//" in host:
        return None
    server = host if port is None else f"{host}:{port}"
    return f"{server}/{database}" if database and _NAME.fullmatch(str(database)) else server


_HOST = re.compile(r"[\w.:%/-]+")  # IPv6 and the directory of a socket included
_NAME = re.compile(r"[\w.$-]+")


def snap(container: Iterable[T], most: int | None = None) -> list[T]:
    """Copy a container, or the first of it, that its own thread may change meanwhile.

    A chain begins to iterate when it is asked for the first one, which is within the C call that copies.
    ``islice`` alone would begin in a call of its own, and between the two the other thread may have its turn.
    """
    for _ in range(4):
        with contextlib.suppress(RuntimeError):  # it changed size while it was being copied
            return list(islice(chain(container), most))
    return list(islice(chain(container), most))


def live(*waiters: Iterable[Any] | None) -> int:
    """Count the futures that are waited for still: one that is done stays until its task goes on.

    Several queues are copied at one moment, in one C call: who goes from one to another is counted once.
    """
    queues = [queue for queue in waiters if queue]
    for _ in range(4):
        with contextlib.suppress(RuntimeError):  # as above
            return sum(map(is_pending, list(chain.from_iterable(queues))))
    return sum(map(is_pending, list(chain.from_iterable(queues))))
