"""Binds each reader when its library is imported, before or after us, and never imports one itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType

from loopwatch._clock import Clock
from loopwatch._internals.greenlets import frames_of_parents
from loopwatch._internals.import_hook import ImportHook
from loopwatch._internals.interpreter import getframe, places
from loopwatch._journal import Journal
from loopwatch._places import Place, shape
from loopwatch._store.pools import Pools
from loopwatch._threads import start

from .binding import Binding
from .protocol import PoolReader

_OF_A_LIBRARY = os.path.join(os.sep, "site-packages", "library.py")

OwnerOf = Callable[[str, str], str]
"""Returns whose code a file is, given the file and the module: ``app`` for the program's own."""


class Hub:
    """All readers, and the bindings of those whose library is imported."""

    def __init__(
        self,
        readers: Iterable[PoolReader],
        pools: Pools,
        owner: OwnerOf,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._pools = pools
        self._owner = owner
        self._clock = clock
        self._journal = journal
        self._readers = tuple(readers)
        self._bindings: list[Binding] = []
        self._hook: ImportHook | None = None

    def install(self) -> None:
        """Bind now the readers of libraries already imported, and the others when theirs is imported."""
        self._owner(_OF_A_LIBRARY, "library")  # reads the started script now, rather than later in a loop
        names = {name for reader in self._readers for name in reader.modules}
        self._hook = ImportHook({name: partial(self._bind_all, name) for name in sorted(names)}, start)
        self._hook.install()

    def remove(self) -> None:
        """Restore all libraries to what they were."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        for binding in reversed(self._bindings):
            binding.remove()
        self._bindings.clear()
        self._pools.forget()

    def tell(self) -> None:
        """Log what does not work in the bound readers. Not in a loop's thread."""
        for binding in self.bindings():
            binding.tell()

    def bindings(self) -> list[Binding]:
        """Return the bindings of all bound readers. Any thread."""
        return list(self._bindings)

    def of(self, kind: str) -> list[Binding]:
        """Return the bindings of one kind of pool."""
        return [binding for binding in self.bindings() if binding.reader.kind == kind]

    def _bind_all(self, name: str, module: ModuleType) -> None:
        for reader in self._readers:
            if name in reader.modules:
                self._bind(reader, module)

    def _bind(self, reader: PoolReader, module: ModuleType) -> None:
        binding = Binding(reader, module, self._pools, self._site, self._clock, self._journal)
        try:
            reader.bind(module, binding)
        except Exception as error:  # noqa: BLE001 - this may run within the import of the library
            self._journal.failure("pools", error)
        binding.tell()
        self._bindings.append(binding)

    def _site(self, module: ModuleType) -> str | None:
        """Return the innermost place in the program's own code on the current stack, as ``module:line``.

        Failing that, the innermost place outside the library's own package.
        """
        passed_over = module.__name__.partition(".")[0], "loopwatch"
        stacks = map(places, (getframe(3), *frames_of_parents()))
        outside = [place for stack in stacks for place in stack if _package(place) not in passed_over]
        ours = (place for place in outside if self._owner(place[0].co_filename, place[2]) == "app")
        place = next(ours, None) or next(iter(outside), None)
        if place is None:
            return None
        frame = shape(place)
        return f"{frame.module or os.path.basename(frame.file)}:{frame.line}"


def _package(place: Place) -> str:
    return place[2].partition(".")[0]
