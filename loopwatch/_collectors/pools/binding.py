"""A reader bound to its library: our wrappers in it, and the bookkeeping they do.

It fails soft. If the library lacks something, the feature that needs it is switched off, as is a feature
whose bookkeeping or reads fail three times. One warning per library lists all that was switched off. The
program's own calls are not affected.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType
from typing import Any

from loopwatch._clock import Clock
from loopwatch._internals.patches import Patch, Wrapper
from loopwatch._journal import Journal
from loopwatch._store.pools import Acquire, Pools, PoolTotals, WaitCell, WatchedPool
from loopwatch.facts import NOBODY

from . import acquires
from .books import NOWHERE, leaves, make_asked, make_asks, make_got
from .protocol import Feature, PoolReader, Sample, Unsupported

FAILURES = 3
"""Failures after which a feature is switched off: the first may be due to a pool caught in an odd state."""

PLAIN = acquires.Form()
"""For an awaited method of the pool that returns a connection."""

_HARMLESS = (Unsupported, AttributeError)
"""Errors whose text contains only names from source code."""

SiteOf = Callable[[ModuleType], str | None]
"""Returns the innermost place in the program's own code on the current stack, outside the given library."""


class Binding:
    """One reader in one module. Readers use the methods up to ``wrap``, our wrappers the others."""

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
        self.monotonic = clock.monotonic
        """The clock that waits are measured with."""
        self._journal = journal
        self._patches: list[tuple[Feature, Patch]] = []
        self._binding: Feature = "gauges"
        self._failures: Counter[Feature] = Counter()
        self._gone: dict[Feature, Exception] = {}
        """Features that were switched off and not reported yet, and why."""
        self._told = False
        self._telling = Lock()
        self.on = True
        """Whether acquires are recorded; else their wrappers pass through."""
        self._removed = False
        self.known = pools.by_anchor
        self.anchored = reader.anchored
        own = type(reader).anchor is not PoolReader.anchor
        self.anchor_of: Callable[[Any], Any] | None = (
            reader.anchor if own or reader.anchored is not None else None
        )
        self.asks = make_asks(self, self.anchor_of, clock.monotonic, registers=reader.registers)
        self.asked = make_asked(self, clock.monotonic)
        self.got = make_got(self, clock.monotonic, registers=reader.registers, carries=reader.carries)

    @contextmanager
    def feature(self, name: Feature) -> Iterator[None]:
        """Bind one feature. If the block raises, the feature is off and the library as it was."""
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

    def creates(self, cls: type, unless: Callable[[Any], bool] | None = None) -> None:
        """Register each pool on creation. Needed to label a pool with the place where it was created.

        Pools that ``unless`` is true of are registered at their first acquire.
        """
        self.wrap(cls, "__init__", acquires.created(self, unless))

    def uses(self, cls: type, method: str) -> None:
        """Register a pool when ``method`` is called: for pools from before us that have no waits."""
        self.wrap(cls, method, acquires.used(self), ("self",))

    def found(self, pool: object) -> None:
        """Register a pool from before us. Those not found are registered at their first acquire."""
        watched = self.watched(pool)
        label = self.reader.label(pool)
        if watched is not None and watched.totals is None and label is not None:
            self._count_under(watched, label)

    def acquires(
        self, cls: type, method: str, form: acquires.Form = PLAIN, *, parameters: tuple[str, ...] = ()
    ) -> None:
        """Time a method that acquires, from its call to its end.

        ``parameters`` names the parameters it must have. Any other signature raises Unsupported.
        """
        self.wrap(cls, method, acquires.timed(self, form), parameters=parameters)

    def wrap(self, cls: type, method: str, wrapper: Wrapper, parameters: tuple[str, ...] = ()) -> None:
        """Replace a method by what ``wrapper`` makes of it: for what ``acquires`` cannot do.

        The replacement calls the original once, and our ``asks``, ``got`` and ``failed`` around it.
        """
        self.needs(cls, method)
        if parameters:
            known = inspect.signature(getattr(cls, method)).parameters
            if missing := [name for name in parameters if name not in known]:
                raise Unsupported(f"{cls.__qualname__}.{method} takes no {', '.join(missing)}")
        self._patches.append((self._binding, Patch.apply(cls, method, wrapper)))

    def failed(
        self,
        acquire: Acquire,
        pool: Any,
        error: BaseException,
        place: WaitCell = NOWHERE,
        at: float | None = None,
    ) -> None:
        """End a wait that got nothing: now, or at an earlier time. Does nothing if it has already ended."""
        try:
            watched, _, asked = acquire
            if watched is None:
                watched = self.watched(pool)
            elif self.reader.registers and not leaves(acquire, watched, place):
                return
            if watched is not None:
                cell = self.cell(watched, pool, at_last=False)
                cell.observe((self.monotonic() if at is None else at) - asked)
                outcome = self.reader.outcome(error)
                if outcome is not None:
                    cell.count(outcome)
        except Exception as failure:  # noqa: BLE001 - the program's acquire goes on
            self.broke("waits", failure)

    def keeps(self, acquire: Acquire, thing: object) -> None:
        """Record that the caller holds a thing although its acquire failed."""
        watched, record, _ = acquire
        if watched is not None:
            watched.held[id(thing)] = watched, record, self.monotonic()

    def made(self, pool: object) -> None:
        """Register a pool that has just been created."""
        if self._removed or not self.up.get("gauges") or self.ignores():
            return
        try:
            watched = self.watched(pool)
            if watched is not None and watched.totals is None:
                label = self._label(pool) or self._site(self._module)
                if label is not None:
                    self._count_under(watched, label)
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("gauges", error)

    def ignores(self) -> bool:
        """Whether this thread works for us."""
        return self._pools.ignores()

    def watched(self, pool: Any) -> WatchedPool | None:
        """Return what is kept of a pool, registering it if need be; None if it is not ready for that."""
        anchor = self.reader.anchor(pool)
        if anchor is None:
            return None
        known = self._pools.find(anchor)
        if known is None:
            self.reader.noted(pool)
            known = self._pools.add(self.reader.kind, anchor)
        return known

    def cell(self, watched: WatchedPool, pool: Any, *, at_last: bool = True) -> WaitCell:
        """Return the cell this thread counts in for a pool, and remember it. Without it, its anchor will do.

        With ``at_last``, a pool that has no label by now is counted without one for good. A failed acquire
        must not cause that: the pool may get its label with its first connection.
        """
        totals = watched.totals
        if totals is None:
            label = self._label(watched.anchor() if pool is None else pool)
            if label is None and not at_last:
                return self._pools.under(self.reader.kind, self.reader.family, NOBODY).cell()
            totals = self._count_under(watched, label or NOBODY)
        watched.cell = cell = totals.cell()
        return cell

    def _label(self, pool: Any) -> str | None:
        """Ask the reader for a label. Waits are counted even without one."""
        try:
            return self.reader.label(pool)
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("gauges", error)
            return None

    def _count_under(self, watched: WatchedPool, label: str) -> PoolTotals:
        totals = watched.totals = self._pools.under(self.reader.kind, self.reader.family, label)
        totals.cell().created += 1
        return totals

    def given(self, function: Callable[..., object | None], /, *args: Any, **kwargs: Any) -> object | None:
        """Call a function of the reader; None if it fails, or nothing is recorded."""
        if not self.on:
            return None
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("waits", error)
            return None

    def sample(self, anchor: Any) -> Sample | None:
        """Read a pool; None if gauges are off, or if reading fails."""
        if not self.up.get("gauges"):
            return None
        try:
            return self.reader.read(anchor)
        except Exception as error:  # noqa: BLE001 - the library is not as we thought
            self.broke("gauges", error)
            return None

    def in_use(self, anchor: Any) -> list[object] | None:
        """Return what is in use of a pool; None if that is unknown. The result must not be kept."""
        if not self.up.get("holders"):
            return None
        try:
            return list(self.reader.holders(anchor))
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("holders", error)
            return None

    def lasting(self, anchor: Any) -> list[object]:
        """Return what is in use of a pool and meant to be held. The result must not be kept."""
        try:
            return list(self.reader.lasting(anchor))
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("holders", error)
            return []

    def waiting(self, anchor: Any, known: list[Acquire]) -> list[Acquire]:
        """Return the waiting acquires."""
        try:
            return self.reader.waiting(anchor, known)
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("waits", error)
            return []

    def exports(self) -> frozenset[str]:
        """Return the stems of the facts that the library exports itself."""
        try:
            return self.reader.exports()
        except Exception as error:  # noqa: BLE001 - as above
            self.broke("gauges", error)
            return frozenset()

    def broke(self, feature: Feature, error: Exception) -> None:
        """Count a failure of ours, and switch the feature off at the third."""
        self._failures[feature] += 1
        if self._failures[feature] >= FAILURES:
            self.switch_off(feature, error)

    def switch_off(self, feature: Feature, error: Exception) -> None:
        """Go on without a feature. ``tell`` reports it later, since this may be a loop's thread."""
        if not self.up.get(feature, True):
            return
        self.up[feature] = False
        for of, patch in reversed(self._patches):
            if of == feature:
                patch.undo()
        if feature == "waits":
            self.on = False
            for pool in self._pools.live():
                if pool.kind == self.reader.kind:
                    pool.cell = None
        self._gone[feature] = error

    def tell(self) -> None:
        """Log what was switched off: the first time as a warning. Not in a loop's thread."""
        if not self._gone or not self._telling.acquire(blocking=False):
            return  # another thread is doing it, or was when the process forked
        try:
            if not self._told:
                self._try_the_others()
            gone, self._gone = self._gone, {}
            if gone:
                self._say_gone(gone)
        finally:
            self._telling.release()

    def _say_gone(self, gone: dict[Feature, Exception]) -> None:
        level = logging.INFO if self._told else logging.WARNING
        self._told = True
        reasons = (str(why) if isinstance(why, _HARMLESS) else type(why).__name__ for why in gone.values())
        self._journal.say(
            level,
            "loopwatch: pools of %s are watched without their %s, since this version is not as we know it: "
            "%s. The program is not affected.",
            self.reader.kind,
            " and ".join(gone),
            "; ".join(dict.fromkeys(reasons)),
        )

    def _try_the_others(self) -> None:
        """Find out which other reads fail, so that one line reports all of them."""
        for pool in self._pools.live():
            anchor = pool.anchor() if pool.kind == self.reader.kind else None
            if anchor is not None:
                for _ in range(FAILURES):
                    self.sample(anchor)
                    self.in_use(anchor)
                return

    def remove(self) -> None:
        """Restore the library; a wrapper of ours that others have wrapped stays, and passes through."""
        self.on = False
        self._removed = True
        self.tell()
        for _, patch in reversed(self._patches):
            patch.undo()
        self._patches.clear()
