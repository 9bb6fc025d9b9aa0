"""Installs the agent as soon as the program imports asyncio, and not before.

At start-up would be too early: a program or a child that never touches asyncio should not pay for the agent,
and one that patches threads first (gevent) must find none running. Later would be too late: from that import
on there can be event loops. This file itself runs in every Python process of the program, so it imports next
to nothing.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from loopwatch._internals.import_hook import ImportHook


def prepare() -> None:
    """Install the agent once asyncio is imported: now, if a ``.pth`` file has imported it already."""
    hook = _import_hook()
    # In two steps, since loopwatch imports asyncio: a program that imports loopwatch itself may get here from
    # within that import, when there is no install() yet.
    hook({"loopwatch": _install}).install()
    hook({"asyncio": _import_loopwatch}).install()


def _import_hook() -> type[ImportHook]:
    """Load the class from its file: its package would bring all of loopwatch, and so asyncio, with it."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    loader = SourceFileLoader("loopwatch_import_hook", os.path.join(package, "_internals", "import_hook.py"))
    module = type(sys)(loader.name)
    loader.exec_module(module)
    found: type[ImportHook] = module.ImportHook
    return found


def _import_loopwatch(_: ModuleType) -> None:
    if "ipykernel" in sys.modules and not _is_the_program():
        return  # a notebook's kernel: its cells block its loop by design, and our lines would be their output
    try:
        import loopwatch  # noqa: F401 - the hook on loopwatch installs the agent
    except Exception as error:  # noqa: BLE001 - whatever is wrong with us, the program must run
        _say_unless_foreign(error)


def _install(loopwatch: ModuleType) -> None:
    """Install the agent, with the settings ``loopwatch run`` left in the environment."""
    try:
        loopwatch.install()
    except Exception as error:  # noqa: BLE001 - as above
        _say_unless_foreign(error)


def _is_the_program() -> bool:
    """Whether this is the process that was started under ``loopwatch run``, as opposed to a child of it."""
    return os.environ.get("LOOPWATCH_RUN") == str(os.getpid())


def _say_unless_foreign(error: Exception) -> None:
    if isinstance(error, ImportError) and not _is_the_program():
        return  # a child on another interpreter, without loopwatch: not ours to watch
    try:
        sys.stderr.write(f"loopwatch run: the program runs unwatched: {error!r}\n")
    except (AttributeError, OSError, ValueError):
        return  # stderr is None or closed: there is nobody to tell
