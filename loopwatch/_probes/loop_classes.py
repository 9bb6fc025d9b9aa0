"""The classes that all loops are instances of, and our wrappers around their methods.

Methods are wrapped on the classes: ``BaseEventLoop`` now, the Python class ``uvloop.Loop`` now or when uvloop
is imported. Patches of ``new_event_loop``, of policies and of ``_set_running_loop`` are bypassed by uvicorn,
``Runner(loop_factory=)`` and a uvloop imported earlier; a task factory set on each loop would show in
``get_task_factory()``, compete with the program's own, and on CPython 3.13.0 names every task "None".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import ModuleType

from loopwatch._agent_records import LoopKind
from loopwatch._internals.import_hook import ImportHook
from loopwatch._internals.patches import Patch, Wrapper
from loopwatch._journal import Journal
from loopwatch._threads import start


class LoopClasses:
    """Wraps methods of the loop classes, and unwraps them."""

    def __init__(self, wrappers: Mapping[str, Wrapper], journal: Journal) -> None:
        self._wrappers = wrappers
        self._journal = journal
        self._patches: list[Patch] = []
        self._classes: list[tuple[type, LoopKind]] = []
        self._hook = ImportHook({"uvloop": self._wrap_uvloop}, start)

    def wrap(self) -> None:
        """Wrap the methods of all loop classes; those of uvloop once it is imported."""
        self._wrap(asyncio.BaseEventLoop, "asyncio")
        self._hook.install()

    def unwrap(self) -> None:
        """Restore what was there before."""
        self._hook.remove()
        for patch in reversed(self._patches):
            patch.undo()
        self._patches.clear()
        self._classes.clear()

    def of(self, loop: asyncio.AbstractEventLoop) -> tuple[type | None, LoopKind]:
        """Return the wrapped class that ``loop`` is of, and its kind; None if its class is not wrapped."""
        known = reversed(self._classes)
        return next(((cls, kind) for cls, kind in known if isinstance(loop, cls)), (None, "other"))

    def _wrap_uvloop(self, module: ModuleType) -> None:
        cls = getattr(module, "Loop", None)  # a test may have put a stand-in in uvloop's place
        if isinstance(cls, type) and all(hasattr(cls, name) for name in self._wrappers):
            try:
                self._wrap(cls, "uvloop")
            except Exception as error:  # noqa: BLE001 - this runs in the user's import of uvloop
                self._journal.failure("attach", error)

    def _wrap(self, cls: type, kind: LoopKind) -> None:
        for name, wrapper in self._wrappers.items():
            self._patches.append(Patch.apply(cls, name, wrapper))
        self._classes.append((cls, kind))
