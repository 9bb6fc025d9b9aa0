"""Runs functions once the modules they are for have been imported, without importing any itself.

The trespass: ``exec_module`` of such a module's loader is replaced on the instance while it runs, and put
back before the module's importer goes on. Loaders that refuse attributes are left alone (the hook then never
fires: the module is used unwatched). If another thread is in the middle of an import, the module's
``__spec__._initializing`` says so, and importlib's lock of the module tells when it is over. Deletable when
CPython offers import callbacks.

``loopwatch run`` loads this file alone as each Python process of a program starts, so it imports next to
nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in typing, whose import alone costs as much as starting a short-lived child
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class ImportHook:
    """A finder that finds nothing itself: it lets the others find, and watches their result.

    One hook serves many modules, since each finder is asked at every import of the program.
    """

    def __init__(
        self,
        then: Mapping[str, Callable[[ModuleType], None]],
        start: Callable[[str, Callable[[], None]], object] | None = None,
    ) -> None:
        self._then = dict(then)
        """By the module's name, for modules not imported yet."""
        self._start = start or _start
        """Starts a thread. Passed in by the agent: this file, when loaded alone, must not import ours."""
        self._searching = False
        self._watched: dict[int, Loader] = {}
        """By id: loaders have an equality of their own."""

    def install(self) -> None:
        """Call back now for each module that is already imported; for the others, once they are."""
        sys.meta_path.insert(0, self)  # first, or an import that begins meanwhile would go unseen
        for name in list(self._then):
            module = sys.modules.get(name)
            if module is not None and _is_under_way(module):
                self._call_later(name)
            elif module is not None:
                self._call(name, module)
        self._leave_if_done()

    def remove(self) -> None:
        """Leave ``sys.meta_path``, and call back for no import in progress. Does nothing the second time."""
        self._then.clear()
        for loader in list(self._watched.values()):
            vars(loader).pop("exec_module", None)
        self._watched.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def _call(self, name: str, module: ModuleType) -> None:
        then = self._then.pop(name, None)
        if then is not None:
            then(module)

    def _call_later(self, name: str) -> None:
        """Call back from a thread of ours when an import now in progress is over; not if it fails.

        It may be in progress in the calling thread, further down its stack, so nobody can wait for it here.
        """
        import importlib

        until_over = getattr(getattr(importlib, "_bootstrap", None), "_lock_unlock_module", None)
        if until_over is None:
            return

        def wait() -> None:
            until_over(name)
            module = sys.modules.get(name)
            if module is not None and not _is_under_way(module):
                self._call(name, module)
                self._leave_if_done()

        self._start("loopwatch-import", wait)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder. Called for every import: the common answer is the first line."""
        if fullname not in self._then or self._searching:
            return None
        self._searching = True  # another finder may ask the whole path again
        try:
            spec = next(
                filter(None, (self._ask(finder, fullname, path, target) for finder in sys.meta_path)), None
            )
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            self._watch(fullname, spec.loader)
        return spec

    def _ask(
        self, finder: object, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        find_spec = getattr(finder, "find_spec", None)
        return None if finder is self or find_spec is None else find_spec(fullname, path, target)

    def _watch(self, name: str, loader: Loader) -> None:
        original = getattr(loader, "exec_module", None)  # old loaders have only load_module
        if original is None or id(loader) in self._watched:
            return  # one loader for a whole archive, already watched, as after importlib.util.find_spec

        def exec_module(module: ModuleType) -> None:
            then = self._then.pop(module.__name__, None)
            if then is not None:
                vars(loader).pop("exec_module", None)  # restores the loader, if no other hook did already
                self._watched.pop(id(loader), None)
                self._leave_if_done()
            original(module)
            if then is not None:
                then(module)

        try:
            loader.exec_module = exec_module  # type: ignore[method-assign]
            self._watched[id(loader)] = loader
        except AttributeError:
            self._then.pop(name, None)
            self._leave_if_done()

    def _leave_if_done(self) -> None:
        if not self._then:
            self.remove()


def _start(name: str, work: Callable[[], None]) -> None:
    from threading import Thread

    Thread(target=work, name=name, daemon=True).start()


def _is_under_way(module: ModuleType) -> bool:
    """Whether a module has not finished executing yet."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
