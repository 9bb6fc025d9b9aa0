"""Installs the agent as soon as the program imports asyncio, and not before.

At start-up would be too early: a program or a child that never touches asyncio should not pay for the agent,
and one that patches threads first (gevent) must find none running. Later would be too late: no event loop can
exist before asyncio is imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

TRIGGERS = frozenset({"asyncio", "loopwatch"})
"""Whichever is imported first. ``loopwatch`` imports asyncio itself: a program with a line about loopwatch of
its own must not be served from inside that half-finished import."""


def prepare() -> None:
    """Have the agent installed when asyncio is imported; now, if a ``.pth`` file already did."""
    if TRIGGERS & sys.modules.keys():
        install()
    else:
        sys.meta_path.insert(0, _ImportHook(install))


class _ImportHook:
    """A finder that finds nothing of its own: it has ``then`` called once a trigger has been imported."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders say; for a trigger, with a loader that calls us afterwards."""
        if name not in TRIGGERS:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    self._follow(spec)
                    return spec
        return None

    def _follow(self, spec: ModuleSpec) -> None:
        """Shadow ``exec_module`` of the spec's loader until it has been called once."""
        loader = spec.loader
        if loader is None:
            return
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            first = self in sys.meta_path
            if first:
                sys.meta_path.remove(self)
            load(module)
            if first:
                self._then()

        loader.exec_module = exec_module  # type: ignore[method-assign]


def install() -> None:
    """Install the agent, with the settings ``loopwatch run`` left in the environment. Never raises."""
    try:
        import loopwatch

        loopwatch.install()
    except Exception as error:  # noqa: BLE001  (whatever is wrong with us, the program must run)
        if isinstance(error, ImportError) and os.environ.get("LOOPWATCH_RUN") != str(os.getpid()):
            return  # a child on another interpreter, one without loopwatch: not ours to watch
        with contextlib.suppress(Exception):
            sys.stderr.write(
                f"loopwatch run: the agent could not start ({type(error).__name__}: {error}); "
                "the program runs without it\n"
            )
