"""The places in the source that create tasks, and what became of the tasks: all that outlives them."""

from __future__ import annotations

import math
from operator import add
from types import CodeType

from loopwatch._places import Place
from loopwatch.facts import TASK_BUCKETS

SITES = 2000
"""Creation sites told apart per loop: more than a source has, but code may be generated without end."""
NAMES_ASKED = 10
"""Tasks of each site that are asked for their name; more are if some turn out to have one. An unnamed task
makes one up when asked, which takes as long as everything else that is done at its end."""


class Site:
    """A place in the source that creates tasks, and what became of them. Written by the loop's thread."""

    __slots__ = (
        "address",
        "as_cancelled",
        "as_error",
        "as_ok",
        "code",
        "created",
        "lost",
        "module",
        "names_left",
        "offset",
        "total",
    )

    def __init__(self, code: CodeType, offset: int, module: str) -> None:
        self.code = code
        self.offset = offset
        self.address = id(code) + offset
        """Address of the instruction. It is a unique key: this object keeps the code alive, and the
        instructions lie within the code object."""
        self.module = module
        self.created = self.lost = 0
        self.as_ok, self.as_error, self.as_cancelled = ([0] * (len(TASK_BUCKETS) + 1) for _ in range(3))
        """Tasks that ended so, by bucket of their duration: a single increment counts everything."""
        self.total = 0.0
        """Sum of the durations."""
        self.names_left: float = NAMES_ASKED
        """How many more tasks to ask for a name set after creation; unlimited once one had a name."""

    @property
    def ok(self) -> int:
        """Tasks that ended well."""
        return sum(self.as_ok)

    @property
    def error(self) -> int:
        """Tasks that died of an exception."""
        return sum(self.as_error)

    @property
    def cancelled(self) -> int:
        """Tasks that were cancelled."""
        return sum(self.as_cancelled)

    @property
    def buckets(self) -> tuple[int, ...]:
        """Tasks that ended in any way, by bucket of their duration."""
        return (*map(sum, zip(self.as_ok, self.as_error, self.as_cancelled, strict=True)),)

    @property
    def live(self) -> int:
        """Tasks created here that have not ended."""
        ended = self.ok + self.error + self.cancelled + self.lost  # first: a task may start and end meanwhile
        return self.created - ended

    @property
    def place(self) -> Place:
        """Where this is."""
        return self.code, self.offset, self.module

    @property
    def creates(self) -> bool:
        """Whether it is a call that creates tasks; if not, it stands for creators that were not seen."""
        return self.offset > 0

    @property
    def name(self) -> str:
        """Module and qualified name of the creating function."""
        return f"{self.module}.{self.code.co_qualname}" if self.module else self.code.co_qualname

    def told_name(self, given: bool) -> None:
        """Note whether a task of this site had a name when asked."""
        self.names_left = math.inf if given else self.names_left - 1

    def absorb(self, gone: Site) -> None:
        """Add what was counted at the same place for another loop."""
        self.created += gone.created
        self.lost += gone.lost
        self.total += gone.total
        self.as_ok[:] = map(add, self.as_ok, gone.as_ok)
        self.as_error[:] = map(add, self.as_error, gone.as_error)
        self.as_cancelled[:] = map(add, self.as_cancelled, gone.as_cancelled)


class Sites:
    """The sites of all loops of one name. Written by the loop's thread."""

    __slots__ = ("by_address", "further")

    def __init__(self) -> None:
        self.by_address: dict[int, Site] = {}
        self.further = Site(_further.__code__, 0, "")
        """Stands for all sites beyond ``SITES``."""

    def at(self, code: CodeType, offset: int, module: str) -> Site:
        """Return the site at a place, creating it unless there are too many."""
        site = self.by_address.get(id(code) + offset)
        if site is None:
            if len(self.by_address) >= SITES:
                return self.further
            site = Site(code, offset, module)
            self.by_address[site.address] = site
        return site

    def known(self, address: int) -> Site:
        """Return the site at an address, or the one that stands for all others if it has none."""
        return self.by_address.get(address, self.further)

    def all(self) -> list[Site]:
        """Return the sites told apart so far. Any thread."""
        return list(self.by_address.values())

    def absorb(self, gone: Sites) -> None:
        """Add what was counted for a loop of another name."""
        self.further.absorb(gone.further)
        for site in gone.all():
            self.at(*site.place).absorb(site)


def _further() -> None:
    """Provides the code of the site that stands for all others."""
