"""Connections held for too long, each reported once: a watchdog chore, which also forgets returned ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from math import inf

from loopwatch._agent_records import Borrower
from loopwatch._clock import Clock
from loopwatch._context.reader import ContextReader
from loopwatch._events import HeldTooLong
from loopwatch._journal import Journal, work_of
from loopwatch._store.outbox import Outbox
from loopwatch._store.pools import Pools, WatchedPool
from loopwatch._words import of_whom

from .binding import Binding
from .hub import Hub
from .people import Held, borrower, still_held

EVERY = 5.0
"""Seconds between two looks, at most: a returned connection is remembered for so long."""


class Overdue:
    """Reports connections that are held for long, and by whom, or that nobody is left to give back.

    Threads of executors are left out: a thread may well be busy for long. So are connections that are meant
    to be held, where their library shows it.
    """

    def __init__(
        self,
        pools: Pools,
        hub: Hub,
        contexts: ContextReader,
        threshold: float | None,
        admit: Callable[[], int | None],
        outbox: Outbox,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._pools = pools
        self._hub = hub
        self._contexts = contexts
        self._threshold = inf if threshold is None else threshold
        """Seconds. The default is twice the 30 s for which SQLAlchemy and psycopg let callers wait: whoever
        waited for the connection has given up by then."""
        self._admit = admit
        """Returns how many lines were withheld since the last one; None if this one is to be withheld too."""
        self._outbox = outbox
        self._clock = clock
        self._journal = journal
        self._look_at = 0.0

    def look(self) -> None:
        """Look at all pools, if it is time. The watchdog's thread."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + min(EVERY, self._threshold)
        bound = {binding.reader.kind: binding for binding in self._hub.bindings()}
        for pool in self._pools.live():
            binding = bound.get(pool.kind)
            if binding is not None and (pool.held or binding.reader.carries is not None):
                self._look_at_one(pool, binding, now)
        self._hub.tell()

    def _look_at_one(self, pool: WatchedPool, binding: Binding, now: float) -> None:
        anchor = pool.anchor()
        carries, ask = binding.reader.carries, partial(binding.in_use, anchor)
        held = None if anchor is None else still_held(pool, ask, now, carries)
        del ask  # it refers to the pool: as below
        if held is None:
            pool.held.clear()
            return
        for key in pool.overdue.keys() - held.keys():
            pool.overdue.pop(key, None)
        late = {key: one for key, one in held.items() if now - one.since >= self._threshold}
        if not late or binding.reader.family == "executor":
            return
        lasting = set(map(id, binding.lasting(anchor)))
        del anchor  # so that we do not keep it alive
        for key, one in late.items():
            if key not in lasting and not one.overdue:
                pool.overdue[key] = one.since
                self._tell(pool, one._replace(overdue=True), now)

    def _tell(self, pool: WatchedPool, held: Held, now: float) -> None:
        found = borrower(held, now, self._contexts)
        if found is None:
            return
        self._outbox.put(HeldTooLong(pool.kind, pool.label, found, self._clock.wall()))
        withheld = self._admit()
        if withheld is not None:
            who = _sentence(found)
            more = f" ({withheld} more not logged)" if withheld else ""
            self._journal.say(
                logging.WARNING,
                "loopwatch: a connection of the %s pool %s %s%s",
                pool.kind,
                pool.label,
                who,
                more,
                work=work_of(found),
            )


def _sentence(found: Borrower) -> str:
    """Return a sentence on a connection's holder: for how long, where its task stands, for whom it works."""
    named = f"{found.task_name!r} ({found.coroutine})" if found.task_name else str(found.coroutine)
    task = "code outside of tasks" if found.coroutine is None else f"task {named}, created by {found.site}"
    if found.gone:
        return f"was acquired {found.held:.0f} s ago by {task}, which has ended: holder gone"
    waiting = f", waiting for {found.waiting_on}" if found.waiting_on else ""
    stands = f"; it stands at {found.await_stack[-1]}{waiting}" if found.await_stack else ""
    return f"has been held for {found.held:.0f} s by {task}{stands}{of_whom(found.context, found.trace_id)}"
