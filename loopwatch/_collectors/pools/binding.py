"""A reader bound to its library: our wrappers in it, and the books they write.

Fails soft. What the library lacks switches off the feature that needs it, with one warning; the same goes for
books that fail three times, and for three reads that fail. The program's own calls go on untouched.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from loopwatch._clock import Clock
from loopwatch._internals.futures import coroutine_of
from loopwatch._internals.patches import Patch, Wrapper
from loopwatch._internals.tasks import current_task, running_loop
from loopwatch._journal import Journal
from loopwatch._store.pools import Acquire, Outcome, Pools, WaitCell, WatchedPool
from loopwatch.facts import NOBODY

from . import acquires
from .protocol import Feature, PoolReader, Sample, Unsupported

FAILURES = 3
"""Failures after which a feature is switched off: the first may be a pool in an odd moment of its life."""

_HARMLESS = (Unsupported, AttributeError)
"""Errors whose text is made of names in source alone."""

SiteOf = Callable[[ModuleType], str | None]
"""Returns the place in the program's source that is at work now, outside of the given library."""


class Binding:
    """One reader in one module. Readers use the methods up to ``wrap``; our wrappers the others."""

    def __init__(
        self,
        reader: PoolReader,
        module: ModuleType,
        pools: Pools,
        site: SiteOf,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self.reader = reader
        self.up: dict[Feature, bool] = {}
        """Which features work."""
        self._module = module
        self._pools = pools
        self._site = site
        self._monotonic = clock.monotonic
        self._journal = journal
        self._patches: list[tuple[Feature, Patch]] = []
        self._binding: Feature = "gauges"
        self._failures: Counter[Feature] = Counter()
        self._on = True

    @contextmanager
    def feature(self, name: Feature) -> Iterator[None]:
        """Bind one feature. Whatever is raised inside leaves the feature off, and the library as it was."""
        self.up[name] = True
        self._binding = name
        try:
            yield
        except Exception as error:  # noqa: BLE001 - this may run within the import of the library
            self.switch_off(name, error)

    def cls(self, name: str, within: object | None = None) -> type:
        """Return a class of the library by its name. Raises Unsupported if it is not there."""
        owner = self._module if within is None else within
        found = getattr(owner, name, None)
        if not isinstance(found, type):
            raise Unsupported(f"{getattr(owner, '__name__', owner)} has no class {name}")
        return found

    def needs(self, cls: type, *names: str) -> None:
        """Check that a class has these methods and properties. Raises Unsupported."""
        for name in names:
            if not hasattr(cls, name):
                raise Unsupported(f"{cls.__qualname__} has no {name}")

    def creates(self, cls: type) -> None:
        """Take note of each pool as it is created. Needed for its label to be where that was."""
        self.wrap(cls, "__init__", acquires.created(self))

    def found(self, pool: object) -> None:
        """Take note of a pool that was there before us. Others are noted at their first acquire."""
        self._watched(pool)

    def acquires(
        self,
        cls: type,
        method: str,
        *,
        parameters: tuple[str, ...] = (),
        pool: acquires.PoolOf | None = None,
        thing: acquires.ThingOf | None = None,
        awaited: bool = True,
    ) -> None:
        """Time a method that acquires, from its call to its end.

        - ``parameters``: those it must have, by name. Another signature raises Unsupported.
        - ``pool``: returns the pool, given all arguments of the call; else the first one is it. None: this
          call is not to be looked at.
        - ``thing``: returns what ``holders`` will name, given what the method returned; else that is it.
        - ``awaited``: whether it is a coroutine function, or returns an awaitable.
        """
        make = acquires.awaited if awaited else acquires.called
        self.wrap(cls, method, make(self, pool, thing), parameters=parameters)

    def wrap(self, cls: type, method: str, wrapper: Wrapper, parameters: tuple[str, ...] = ()) -> None:
        """Put what ``wrapper`` makes of a method in its place: for what ``acquires`` cannot do.

        Such a function calls the original once, and our ``asks``, ``got`` and ``failed`` around it.
        """
        self.needs(cls, method)
        if parameters:
            known = inspect.signature(getattr(cls, method)).parameters
            if missing := [name for name in parameters if name not in known]:
                raise Unsupported(f"{cls.__qualname__}.{method} takes no {', '.join(missing)}")
        self._patches.append((self._binding, Patch.apply(cls, method, wrapper)))

    def asks(self, pool: object | None) -> Acquire | None:
        """Begin to wait for a connection of ``pool``. Any thread, as all that follows; raises nothing."""
        if not self._on or pool is None:
            return None
        try:
            watched = self._pools.find(self.reader.anchor(pool)) or self._watched(pool)
            if watched is None:
                return None
            acquire = self.asked()
            acquire.pool = watched
            watched.waiting[id(acquire)] = acquire
            return acquire
        except Exception as error:  # noqa: BLE001 - the program's acquire goes on
            self.broke("waits", error)
            return None

    def asked(self) -> Acquire:
        """Return an acquire that begins now, of a pool that is known only when it ends. May raise."""
        acquire = Acquire(self._monotonic())
        loop = running_loop()
        if loop is not None and (task := current_task(loop)) is not None:
            probe = getattr(loop, "_loopwatch_tasks", None)
            record = None if probe is None else probe.live.get(id(task))
            if record is None:  # in its eager first step, or not of our making
                acquire.task = weakref.ref(task)
                acquire.code = getattr(coroutine_of(task), "cr_code", None)
            else:
                acquire.task = record
        return acquire

    def got(self, acquire: Acquire, pool: object, thing: object | None) -> None:
        """End the wait: ``thing`` is in use from now on. Does nothing for a wait that has ended."""
        try:
            now = self._monotonic()
            watched = acquire.pool
            if watched is None:
                watched = acquire.pool = self._watched(pool)
            elif watched.waiting.pop(id(acquire), None) is None:
                return
            if watched is not None:
                totals = watched.totals
                cell = self._named(watched, pool) if totals is None else totals.cell()
                cell.waits.observe(now - acquire.asked)
                acquire.got = now
                if thing is not None:
                    watched.hold(thing, acquire)
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("waits", error)

    def failed(self, acquire: Acquire, pool: object, error: BaseException) -> None:
        """End the wait with nothing. Does nothing for a wait that has ended."""
        try:
            watched = acquire.pool
            if watched is not None and watched.waiting.pop(id(acquire), None) is not None:
                outcome = self.reader.outcome(error)
                self.gave_up(watched, pool, self._monotonic() - acquire.asked, outcome)
        except Exception as failure:  # noqa: BLE001 - as above
            self.broke("waits", failure)

    def gave_up(self, watched: WatchedPool, pool: object, waited: float, outcome: Outcome | None) -> None:
        """Count a wait that ended with nothing. May raise."""
        cell = self._named(watched, pool, at_last=False) if watched.totals is None else watched.totals.cell()
        cell.waits.observe(waited)
        if outcome is not None:
            cell.count(outcome)

    def made(self, pool: object) -> None:
        """Take note of a pool that has just been created."""
        if not self._on:
            return
        try:
            watched = self._watched(pool)
            if watched is not None and watched.totals is None:
                label = self.reader.label(pool) or self._site(self._module)
                if label is not None:
                    self._count_under(watched, label)
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("gauges", error)

    def given(self, function: Callable[..., object | None], /, *args: Any, **kwargs: Any) -> object | None:
        """Call a function of the reader's."""
        if not self._on:
            return None
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("waits", error)
            return None

    def sample(self, anchor: Any) -> Sample | None:
        """Read a pool; None if that is not to be done, or fails."""
        if not self.up.get("gauges"):
            return None
        try:
            return self.reader.read(anchor)
        except Exception as error:  # noqa: BLE001 - the library is not as we thought
            self.broke("gauges", error)
            return None

    def in_use(self, anchor: Any) -> list[object] | None:
        """Return what is in use of a pool; None if that cannot be told. Not to be kept."""
        if not self.up.get("holders"):
            return None
        try:
            return list(self.reader.holders(anchor))
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("holders", error)
            return None

    def waiting(self, anchor: Any, known: list[Acquire]) -> list[Acquire]:
        """Return the acquires that wait."""
        try:
            return self.reader.waiting(anchor, known)
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("waits", error)
            return []

    def exports(self) -> bool:
        """Whether the library exports the conventional facts itself."""
        try:
            return self.reader.exports()
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("gauges", error)
            return False

    def broke(self, feature: Feature, error: Exception) -> None:
        """Count a failure of ours; switch the feature off at the third."""
        self._failures[feature] += 1
        if self._failures[feature] >= FAILURES:
            self.switch_off(feature, error)

    def switch_off(self, feature: Feature, error: Exception) -> None:
        """Go on without a feature, and say so once."""
        if not self.up.get(feature, True):
            return
        self.up[feature] = False
        for of, patch in reversed(self._patches):
            if of == feature:
                patch.undo()
        if feature == "waits":
            self._on = False
        self._journal.say(
            logging.WARNING,
            "loopwatch: pools of %s are watched without their %s, since this version is not as we know it: "
            "%s. The program is not affected.",
            self.reader.kind,
            feature,
            error if isinstance(error, _HARMLESS) else type(error).__name__,
        )

    def remove(self) -> None:
        """Put the library back as it was; what stays below wrappers of others passes through."""
        self._on = False
        for _, patch in reversed(self._patches):
            patch.undo()
        self._patches.clear()

    def _watched(self, pool: object) -> WatchedPool | None:
        anchor = self.reader.anchor(pool)
        return (
            None if anchor is None else self._pools.find(anchor) or self._pools.add(self.reader.kind, anchor)
        )

    def _named(self, watched: WatchedPool, pool: object, *, at_last: bool = True) -> WaitCell:
        """Return the cell to write to for a pool whose label was not known when it was first seen.

        An acquire that fails comes too soon to ask what a pool without a connection is called ``at_last``.
        """
        label = self.reader.label(pool)
        if label is not None or at_last:
            return self._count_under(watched, label or NOBODY)
        return self._pools.under(self.reader.kind, self.reader.family, NOBODY).cell()

    def _count_under(self, watched: WatchedPool, label: str) -> WaitCell:
        totals = watched.totals = self._pools.under(self.reader.kind, self.reader.family, label)
        cell = totals.cell()
        cell.created += 1
        return cell
